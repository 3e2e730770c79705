/** One small window at a time, and about the tensor that it was opened for. */
import { batch, effect, type Signal } from "@preact/signals";
import type { Page } from "../state/view";

/** Until the returned function is called: a window that opens closes the others, and another tensor closes what edits. */
export function oneWindow({ store, view }: Pick<Page, "store" | "view">): () => void {
  const nothing: [Signal<unknown>, unknown][] = [
    [view.dialog, null],
    [view.help, false],
    [store.transfer, null],
    [store.comparison, null],
  ];
  let before = nothing.map(([signal]) => signal.peek());
  let name = store.open.peek()?.name;
  return effect(() => {
    const now = nothing.map(([signal]) => signal.value);
    const fresh = now.findIndex((value, at) => value !== nothing[at]?.[1] && before[at] === nothing[at]?.[1]);
    before = now;
    // From the click on: the picture of the one before may stay in sight for a moment.
    const other = store.opening.value || store.open.value?.name;
    const moved = name !== undefined && other !== name;
    name = other;
    batch(() => {
      // A file or a script is of the whole model.
      if (moved && view.dialog.value !== "save" && view.dialog.value !== "script") view.dialog.value = null;
      if (fresh >= 0) for (const [at, [signal, none]] of nothing.entries()) if (at !== fresh) signal.value = none;
    });
  });
}
