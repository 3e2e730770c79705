/**
 * A Lab that was given a batch is checked when it is first shown, behind the first picture: without a check before it the first
 * edit would have nothing to be compared with. A large model is not run unasked.
 */
import { effect } from "@preact/signals";
import type { Actions } from "./actions";
import type { Store } from "./store";

const LARGE = 2 ** 24;
/** Milliseconds for what the first picture still asks for: the kernel answers one request at a time. */
const PAUSE = 300;

const begun = new WeakSet<Store>();

/** Wait for the first picture, and check; once for all views of a model. Returns the end of waiting. */
export function checkFirst(store: Store, { check }: Pick<Actions, "check">): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const wanted = (): boolean => {
    const lab = store.lab.peek();
    const model = store.hello.peek()?.model;
    return lab?.auto_check === true && lab.gradients === null && model?.batch === true && model.parameters <= LARGE;
  };
  const stop = effect(() => {
    if (!store.hello.value || !store.open.value?.layout || timer !== undefined || begun.has(store)) return;
    timer = setTimeout(() => {
      if (begun.has(store)) return;
      begun.add(store);
      if (wanted()) void check();
    }, PAUSE);
  });
  return () => {
    stop();
    clearTimeout(timer);
  };
}
