/** The keys, on one card. */
import { useRef } from "preact/hooks";
import type { View } from "../state/view";
import { useDialog } from "./use-dialog";

const KEYS: readonly [string, string][] = [
  ["↑ ↓ ← →", "in the tree: move, fold and unfold; in the picture: move the cursor"],
  ["Enter", "open the tensor; apply a dialog or the region"],
  ["letters", "in the tree: go to the next name that begins so"],
  ["P  S  B", "Pan, Select, Brush"],
  ["Shift click", "extend the selection"],
  ["Ctrl A  I  G", "in the picture: all cells, the other cells, one further on each side"],
  ["R", "repeat the last edit on the selection"],
  ["O", "while held: the tensor as it was"],
  ["+  −  0", "in the picture: closer, farther, everything"],
  ["Ctrl Z", "undo; with Shift, or Ctrl Y: redo"],
  ["/", "filter the tree"],
  ["M", "the map of all tensors, and back; in it arrows move, Enter opens"],
  ["W", "fill the window; Esc returns"],
  ["Esc", "cancel a stroke, a dialog or this card"],
];

export function Help({ view }: { view: View }) {
  const box = useRef<HTMLDivElement>(null);
  const close = (): void => {
    view.help.value = false;
  };
  const onKey = useDialog(box, close);
  return (
    <div
      ref={box}
      class="wl-help"
      role="dialog"
      aria-label="Keys"
      tabIndex={-1}
      onKeyDown={(event) => {
        if (event.key !== "?") return onKey(event);
        event.preventDefault();
        event.stopPropagation();
        close();
      }}
    >
      <header>
        <b>Keys</b>
        <span class="wl-grow" />
        <button type="button" class="wl-ghost" aria-label="Close the keys" onClick={close}>
          ✕
        </button>
      </header>
      <dl>
        {KEYS.map(([key, what]) => (
          <div key={key}>
            <dt class="wl-num">{key}</dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </div>
  );
}
