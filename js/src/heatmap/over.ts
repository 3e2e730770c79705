/** From selection, preview, holds and gesture to what overlay.ts draws over the cells. */

import { untracked } from "@preact/signals";
import type { Hold } from "../kernel/protocol";
import { cellCount } from "../state/region-text";
import type { Store } from "../state/store";
import { css, rgb } from "./colormap";
import type { Label } from "./labels";
import { type AxisRange, type Cell, cellsOfFlat, type Rect, type Sheet } from "./layout";
import { lookOf } from "./look";
import type { OverlayScene } from "./overlay";
import { placesOf } from "./places";
import { rectsOfRegion, regionsOfRect } from "./regions";
import { entryOf } from "./scale";
import type { Session } from "./session";
import type { Stage } from "./stage";
import { footprint, type Gesture, type Point, span } from "./tools";
import { type View, visible } from "./viewport";

/** Cells with one colour, by flat index of the sheet. */
export interface Painted {
  cells: Iterable<number>;
  colour: string;
}

/** Over cells that something is about to happen to, in both themes. */
const PICKED = "rgb(240 160 20 / 42%)";

/** The colour that the brush's cells will have, where it is known before the kernel answers: only a value that is set. */
export function brushColour(store: Store): string {
  if (store.brush_mode.peek() !== "set") return PICKED;
  const value = Number(store.brush_value.peek().trim() || "NaN");
  const { plain, scale } = untracked(() => lookOf(store));
  return css(rgb(plain, entryOf(value, scale)));
}

/** Cells that a preview, a condition or a selection lists one by one; read from their bytes once. */
export class Listed {
  private known: { from: ArrayBufferView; sheet: Sheet; cells: number[] } | null = null;

  of(store: Store, sheet: Sheet): Painted | null {
    const preview = store.preview.peek();
    // An interval of the colour bar is shown by the colours themselves.
    const picked = Array.isArray(store.where.peek()?.value) ? null : store.picked.peek()?.marks;
    const from = preview ? preview.picked : (picked ?? store.selection.peek()?.cells);
    if (!from?.byteLength) return null;
    if (this.known?.from !== from || this.known.sheet !== sheet) {
      this.known = { from, sheet, cells: cellsOfFlat(sheet, numbersOf(from)) };
    }
    return { cells: this.known.cells, colour: PICKED };
  }
}

export interface Over {
  stage: Stage;
  store: Store;
  session: Session;
  view: View;
  labels: Label[];
  gesture: Gesture;
  hover: Point | null;
  /** Cell of the keyboard, while the picture has the focus. */
  cursor: Cell | null;
  /** Painted cells on their way to the kernel, or cells that are listed one by one. */
  painted: Painted | null;
}

export function overlayScene(over: Over): OverlayScene {
  const { stage, store, session, view, gesture, hover } = over;
  const { sheet } = session;
  const look = untracked(() => lookOf(store));
  const dpr = devicePixelRatio;
  const seen = visible(view);
  const gap = { rows: 1 / (view.rows.scale * dpr), columns: 1 / (view.columns.scale * dpr) };
  const shown = (places: AxisRange[][]): Rect[] => places.flatMap((ranges) => rectsOfRegion(sheet, ranges, seen, gap));
  const rects = (regions: AxisRange[][]): Rect[] => shown(placesOf(sheet, regions));
  const selection = store.selection.peek();
  const selects = store.brush_mode.peek() === "select";
  const dragged = draggedRegion(gesture, sheet);
  const preview = store.preview.peek();
  const held = (store.lab.peek()?.holds ?? []).filter((hold) => hold.name === session.name);
  return {
    width: stage.width,
    height: stage.height.peek(),
    dpr,
    margins: session.margins,
    sheet,
    view,
    labels: over.labels,
    colours: look.plain,
    theme: stage.theme(),
    selected:
      !selection || dragged || (gesture.kind === "brush" && !selects) || selection.cells
        ? []
        : rects(selection.parts ?? [selection.region.axes]),
    preview: dragged ? shown(dragged) : preview?.picked.byteLength === 0 ? rects([preview.region.axes]) : [],
    held: held.map((hold) => heldBy(hold, store.held.peek().get(hold.id), sheet, seen, rects)),
    cursor: over.cursor,
    brush:
      store.tool.peek() === "brush" && hover?.target.kind === "cell"
        ? footprint(hover.nearest, store.brush_size.peek())
        : null,
    painted: gesture.kind === "brush" ? stroke(gesture, selects ? over.painted : null, store) : over.painted,
  };
}

/** A stroke as it would end: with what is selected, or without what it takes away. */
function stroke({ cells, takes }: Extract<Gesture, { kind: "brush" }>, before: Painted | null, store: Store): Painted {
  const kept = takes
    ? [...(before?.cells ?? [])].filter((cell) => !cells.has(cell))
    : [...(before?.cells ?? []), ...cells];
  return { cells: before || takes ? kept : cells, colour: brushColour(store) };
}

function draggedRegion(gesture: Gesture, sheet: Sheet): AxisRange[][] | null {
  if (gesture.kind === "label") return [gesture.region];
  return gesture.kind === "select" && gesture.dragged ? regionsOfRect(sheet, span(gesture.from, gesture.to)) : null;
}

/** A hold's rectangles: of listed cells those cells, once the kernel has told them; until then their bounds. */
function heldBy(
  hold: Hold,
  listed: DataView | undefined,
  sheet: Sheet,
  seen: Rect,
  rects: (regions: AxisRange[][]) => Rect[],
): { rects: Rect[]; whole: boolean } {
  if (!listed?.byteLength) return { rects: rects([hold.axes]), whole: cellCount(hold.axes) === hold.cells };
  const out: Rect[] = [];
  for (const at of cellsOfFlat(sheet, numbersOf(listed)).sort((a, b) => a - b)) {
    const row = Math.floor(at / sheet.columns);
    const column = at % sheet.columns;
    if (row < seen.row0 || row >= seen.row1 || column < seen.column0 || column >= seen.column1) continue;
    const last = out.at(-1);
    if (last?.row0 === row && last.column1 === column) last.column1 += 1;
    else out.push({ row0: row, row1: row + 1, column0: column, column1: column + 1 });
  }
  return { rects: out, whole: true };
}

/** Copied: a view of a message may begin at any byte. */
const numbersOf = (bytes: ArrayBufferView): Float64Array =>
  new Float64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer);
