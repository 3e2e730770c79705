/** What the target of the toolbar picks, while it is typed: how many cells, which ones, or what is wrong with the number. */
import { effect } from "@preact/signals";
import type { Where } from "../kernel/protocol";
import type { Page } from "../state/view";

/** A pause in typing: long enough not to ask for every letter. */
const PAUSE = 150;

/** A kind that needs a number has none yet. */
const unfinished = (where: Where): boolean => where.kind !== "nan" && where.kind !== "zero" && where.value === "";

/** Keeps `store.picked` true until the returned function is called. */
export function watchTarget({ store, actions }: Pick<Page, "store" | "actions">): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let asked = new AbortController();
  const stop = effect(() => {
    const where = store.where.value;
    const selection = store.selection.value;
    const name = store.open.value?.name;
    // Read, so that other values are looked at anew.
    void store.revision.value;
    clearTimeout(timer);
    asked.abort();
    asked = new AbortController();
    const { signal } = asked;
    if (!where || name === undefined || selection?.cells || unfinished(where)) {
      store.picked.value = null;
      return;
    }
    timer = setTimeout(() => {
      actions.request("region", { name, text: selection?.region.text ?? "[...]", where }, { signal }).then(
        ({ reply, buffer }) => {
          if (!signal.aborted) store.picked.value = { cells: reply.region.numel, marks: buffer, error: "" };
        },
        (error: unknown) => {
          if (signal.aborted) return;
          // A refusal has a kind. Not by its class: each script has its own.
          const said = error instanceof Error && "kind" in error ? error.message : "";
          store.picked.value = said ? { cells: null, marks: null, error: said } : null;
        },
      );
    }, PAUSE);
  });
  return () => {
    stop();
    clearTimeout(timer);
    asked.abort();
  };
}
