/** What a finished stroke of the brush asks for, and strokes by keyboard: from Space or Shift down until they come up. */
import type { EditCall, HoldCall } from "../kernel/protocol";
import { assertNever } from "../state/assert-never";
import type { BrushMode } from "../state/store";
import { cellsWithColours } from "./details";
import type { Cell, Sheet } from "./layout";
import type { Picture } from "./picture";
import { type Brush, type Commit, IDLE, paintedIndices, release, stroke } from "./tools";

/** What painting asks for: zeros are written as zeros (-0 is another number), all else as the text that was typed. */
export function brushCall(text: string, mode: Exclude<BrushMode, "select"> = "set"): EditCall | HoldCall {
  const value = text.trim();
  switch (mode) {
    case "set":
      if (value !== "" && Object.is(Number(value), 0)) return { edit: "zero_", args: {} };
      return { edit: "fill_", args: { value } };
    case "add":
      return { edit: "add_", args: { value } };
    case "scale":
      return { edit: "mul_", args: { value } };
    case "hold":
      return { kind: "keep" };
    default:
      return assertNever(mode);
  }
}

/** Sends a stroke, or selects what it covers. */
export function paint(picture: Picture, sheet: Sheet, { cells, takes }: Extract<Commit, { kind: "brush" }>): void {
  const { store, actions } = picture;
  const mode = store.brush_mode.peek();
  const painted = cellsWithColours(store, paintedIndices(sheet, cells));
  if (mode === "select") {
    actions.selectCells(painted, takes ? "take" : "add");
    return;
  }
  const call = brushCall(store.brush_value.peek(), mode);
  void picture.commitBrush(cells, () => actions.editCells(call, painted));
}

/**
 * The brush goes from a cell to where the cursor is now, where the tool is the brush and it is down already, or `lowered` by this
 * key. False: the key means something else.
 */
export function paintOn(picture: Picture, sheet: Sheet, from: Cell, lowered: boolean): boolean {
  const { gesture, store } = picture;
  if (store.tool.peek() !== "brush") return false;
  const down = gesture.kind === "brush" && gesture.keys;
  if (!down && (!lowered || gesture.kind !== "idle")) return false;
  const begun: Brush = down ? gesture : { kind: "brush", last: from, cells: new Set(), full: false, keys: true };
  picture.gesture = stroke(sheet, begun, picture.cursor ?? from, store.brush_size.peek());
  picture.anchor = picture.cursor ?? from;
  return true;
}

/** The stroke that keys have painted is whole. False: there is none. */
export function endPaint(picture: Picture): boolean {
  const { gesture, session } = picture;
  if (gesture.kind !== "brush" || !gesture.keys) return false;
  if (session) {
    const commit = release(gesture, session.sheet);
    picture.gesture = IDLE;
    if (commit?.kind === "brush") paint(picture, session.sheet, commit);
    picture.redraw();
  }
  return true;
}
