/** The keys, on one card. */
import { useRef } from "preact/hooks";
import type { View } from "../state/view";
import { useDialog } from "./use-dialog";

/** What does the same, each a chord of keys held together. */
type Keys = readonly (readonly string[])[];

export const KEYS: readonly [Keys, string][] = [
  [[["↑"], ["↓"], ["←"], ["→"]], "in the tree: move, fold and unfold; in the picture: move the cursor"],
  [[["Enter"]], "open the tensor; apply a dialog or the region"],
  [[["Home"], ["End"]], "in the picture: to the ends of the row; with Ctrl to the first and the last cell"],
  [[["PageUp"], ["PageDown"]], "in the picture: a screenful up and down"],
  [[["Ctrl", "↑"], ["↓"], ["←"], ["→"]], "in the picture: to the next block"],
  [[["a letter"]], "in the tree: go to the next name that begins so"],
  [[["P"], ["S"], ["B"]], "Pan, Select, Brush"],
  [[["Shift", "click"], ["Shift", "↑"], ["↓"], ["←"], ["→"]], "extend the selection"],
  [[["Ctrl", "A"], ["I"], ["G"]], "in the picture: all cells, the other cells, one further on each side"],
  [
    [["Space"], ["Shift", "→"]],
    "with Brush: paint the cell at the cursor; while held, arrows paint along; Enter or letting go ends the stroke, Esc forgets it",
  ],
  [[["R"]], "repeat the last edit on the selection"],
  [[["O"]], "while held: the tensor as it was"],
  [[["+"], ["−"], ["0"], ["F"]], "in the picture: closer, farther, everything"],
  [[["Ctrl", "wheel"]], "over the picture: closer, farther; without Ctrl once it is clicked"],
  [[["Ctrl", "Z"]], "undo"],
  [
    [
      ["Ctrl", "Shift", "Z"],
      ["Ctrl", "Y"],
    ],
    "redo",
  ],
  [[["/"]], "filter the tree"],
  [[["M"]], "the map of all tensors, and back; in it arrows move, Enter opens"],
  [[["W"]], "fill the window; Esc returns"],
  [[["Esc"]], "cancel a stroke, a dialog or this card"],
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
        {KEYS.map(([keys, what]) => (
          <div key={what}>
            <dt>
              {keys.map((chord, at) => (
                <span key={chord.join()}>
                  {chord.map((key, nth) => [nth > 0 && "+", <kbd key={key}>{key}</kbd>])}
                  {at < keys.length - 1 && ","}
                </span>
              ))}
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </div>
  );
}
