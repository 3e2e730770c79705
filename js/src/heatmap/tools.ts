/**
 * The tools as state machines. A gesture is a value; press, move, release and cancel return the next one. Nothing is sent
 * before release, and cancel has nothing to take back: the gesture is dropped. Pure.
 */
import { assertNever } from "../state/assert-never";
import type { Tool } from "../state/store";
import type { AxisRange, Cell, Rect, Sheet } from "./layout";
import { flatOf, indexOf, isBlank } from "./layout";
import { regionsOfRect } from "./regions";

/** What is under the pointer: a cell, or a place in a margin or a frame that stands for a region, with its name. */
export type Target =
  | { kind: "cell"; cell: Cell }
  | { kind: "region"; region: AxisRange[]; text?: string }
  | { kind: "nothing" };

export interface Point {
  x: number;
  y: number;
  /** Under the pointer. */
  target: Target;
  /** The nearest cell, also where the pointer is outside the sheet. */
  nearest: Cell;
  /** Over the cells or a gap between them. */
  inside: boolean;
}

export type Gesture =
  | { kind: "idle" }
  | { kind: "pan"; x: number; y: number }
  | { kind: "select"; from: Cell; to: Cell; x: number; y: number; dragged: boolean }
  | { kind: "label"; region: AxisRange[] }
  /** `last`: where the line to the next cell begins; null where the pointer is outside. `keys`: painted by keyboard. */
  | { kind: "brush"; last: Cell | null; cells: Set<number>; full: boolean; takes?: boolean; keys?: boolean };

export type Commit =
  | { kind: "select"; regions: AxisRange[][]; cursor: Cell }
  | { kind: "label"; region: AxisRange[] }
  | { kind: "brush"; cells: Set<number>; takes: boolean };

export const IDLE: Gesture = { kind: "idle" };
/** A painted cell travels as 8 bytes, and a message from the page may hold 512 KiB. */
export const MOST_PAINTED = 65_000;
/** A press that moves less than this is a click. */
const CLICK = 4;

export function press(tool: Tool, point: Point, sheet: Sheet, brush_size: number): Gesture {
  if (tool === "pan") return { kind: "pan", x: point.x, y: point.y };
  if (tool === "brush") {
    if (point.target.kind !== "cell") return IDLE;
    return stroke(sheet, { kind: "brush", last: null, cells: new Set(), full: false }, point.nearest, brush_size);
  }
  if (point.target.kind === "region") return { kind: "label", region: point.target.region };
  if (point.target.kind === "nothing") return IDLE;
  const { cell } = point.target;
  return { kind: "select", from: cell, to: cell, x: point.x, y: point.y, dragged: false };
}

/** The next gesture, and for a pan how far to move. */
export function move(
  gesture: Gesture,
  point: Point,
  sheet: Sheet,
  brush_size: number,
): { gesture: Gesture; dx: number; dy: number } {
  const still = { dx: 0, dy: 0 };
  switch (gesture.kind) {
    case "idle":
    case "label":
      return { gesture, ...still };
    case "pan":
      return { gesture: { kind: "pan", x: point.x, y: point.y }, dx: point.x - gesture.x, dy: point.y - gesture.y };
    case "select": {
      const dragged = gesture.dragged || Math.hypot(point.x - gesture.x, point.y - gesture.y) >= CLICK;
      return { gesture: { ...gesture, to: dragged ? point.nearest : gesture.from, dragged }, ...still };
    }
    case "brush":
      // Outside nothing is painted, and the way back in is no line: those cells were never touched. Over a gap the line goes on.
      if (!point.inside) return { gesture: { ...gesture, last: null }, ...still };
      return {
        gesture: point.target.kind === "cell" ? stroke(sheet, gesture, point.nearest, brush_size) : gesture,
        ...still,
      };
    default:
      return assertNever(gesture);
  }
}

export function release(gesture: Gesture, sheet: Sheet): Commit | null {
  switch (gesture.kind) {
    case "idle":
    case "pan":
      return null;
    case "label":
      return { kind: "label", region: gesture.region };
    case "select": {
      const regions = regionsOfRect(sheet, span(gesture.from, gesture.to));
      return regions.length === 0 ? null : { kind: "select", regions, cursor: gesture.to };
    }
    case "brush":
      return gesture.cells.size > 0 ? { kind: "brush", cells: gesture.cells, takes: gesture.takes ?? false } : null;
    default:
      return assertNever(gesture);
  }
}

export const cancel = (): Gesture => IDLE;

/** The rectangle with two cells as corners. */
export const span = (a: Cell, b: Cell): Rect => ({
  row0: Math.min(a.row, b.row),
  row1: Math.max(a.row, b.row) + 1,
  column0: Math.min(a.column, b.column),
  column1: Math.max(a.column, b.column) + 1,
});

/** n x n cells about the pointer's; an even size reaches one further down and right. */
export function footprint(cell: Cell, size: number): Rect {
  const before = Math.floor((size - 1) / 2);
  return {
    row0: cell.row - before,
    row1: cell.row - before + size,
    column0: cell.column - before,
    column1: cell.column - before + size,
  };
}

/** Cells on the straight line between two cells, both ends included (Bresenham): neighbours touch at least at a corner. */
export function* line(from: Cell, to: Cell): Generator<Cell> {
  const width = Math.abs(to.column - from.column);
  const height = -Math.abs(to.row - from.row);
  const right = from.column < to.column ? 1 : -1;
  const down = from.row < to.row ? 1 : -1;
  let { row, column } = from;
  let error = width + height;
  for (;;) {
    yield { row, column };
    if (row === to.row && column === to.column) return;
    const twice = 2 * error;
    if (twice >= height) {
      error += height;
      column += right;
    }
    if (twice <= width) {
      error += width;
      row += down;
    }
  }
}

export type Brush = Extract<Gesture, { kind: "brush" }>;

/** Cells are kept as row * columns + column of the sheet. The set grows in place: a stroke may hold many cells. */
export function stroke(sheet: Sheet, gesture: Brush, to: Cell, size: number): Brush {
  const { cells } = gesture;
  for (const cell of line(gesture.last ?? to, to)) {
    const { row0, row1, column0, column1 } = footprint(cell, size);
    for (let row = row0; row < row1; row++) {
      for (let column = column0; column < column1; column++) {
        if (isBlank(sheet, row, column)) continue;
        if (cells.size >= MOST_PAINTED) return { ...gesture, last: to, full: true };
        cells.add(row * sheet.columns + column);
      }
    }
  }
  return { ...gesture, last: to };
}

/** Painted cells as flat tensor indices, ascending. */
export function paintedIndices(sheet: Sheet, cells: Set<number>): Float64Array {
  const out = new Float64Array(cells.size);
  let n = 0;
  for (const cell of cells) {
    const index = indexOf(sheet, Math.floor(cell / sheet.columns), cell % sheet.columns);
    if (index) out[n++] = flatOf(sheet, index);
  }
  return out.subarray(0, n).slice().sort();
}
