/** What part of the sheet is on screen, at which scale per axis, and which tiles that takes. Pure. */
import type { TileKey } from "../kernel/protocol";
import { type Axis, cellAt, extent, makeAxis, position } from "./axis";
import type { Rect, Sheet } from "./layout";

export const TILE = 128;
/** A cell is never larger than this when the whole tensor is shown. */
export const FIT_CELL = 48;
export const MAX_CELL = 64;
/** From this size on a cell is worth its exact value. */
export const EXACT_CELL = 6;
/** Room above each line of facets for its labels. */
const LABEL_GAP = 22;
/** Square cells until the picture would be thinner than this share of the room it has. */
const THINNEST = 1 / 8;

/** Room for the sheet, in CSS pixels. */
export interface Area {
  width: number;
  height: number;
}

export interface View {
  rows: Axis;
  columns: Axis;
  /** Where the sheet begins relative to the area: 0 or negative. */
  x: number;
  y: number;
  area: Area;
}

const rowAxis = (sheet: Sheet, scale: number): Axis =>
  makeAxis(sheet.rows, scale, sheet.row_blocks, sheet.facets > 1 ? sheet.block_rows : 0, LABEL_GAP, sheet.row_breaks);
const columnAxis = (sheet: Sheet, scale: number): Axis =>
  makeAxis(
    sheet.columns,
    scale,
    sheet.column_blocks,
    sheet.facets > 1 ? sheet.block_columns : 0,
    0,
    sheet.column_breaks,
  );

/** The largest scale at which an axis fits; by bisection, because its gaps depend on the scale. */
function largest(axis: (scale: number) => Axis, room: number, cells: number): number {
  if (extent(axis(FIT_CELL)) <= room) return FIT_CELL;
  let low = 0;
  let high = Math.min(FIT_CELL, room / Math.max(1, cells));
  for (let i = 0; i < 40; i++) {
    const middle = (low + high) / 2;
    if (extent(axis(middle)) <= room) low = middle;
    else high = middle;
  }
  return low > 0 ? low : high;
}

/** Whole device pixels a cell, where cells are large enough for unevenness to be seen. */
function even(axis: (scale: number) => Axis, scale: number, room: number, dpr: number): number {
  if (scale < 4) return scale;
  // Bisection ends a hair below a whole number that fits; just below a step of the gaps that number does not.
  const pixels = Math.floor(scale * dpr + 1e-9);
  return (extent(axis(pixels / dpr)) <= room ? pixels : pixels - 1) / dpr;
}

/** The scales at which the whole sheet is seen: square cells, unless the shape is extreme. */
export function fitScales(sheet: Sheet, area: Area, dpr: number): { rows: number; columns: number } {
  const row = (scale: number) => rowAxis(sheet, scale);
  const column = (scale: number) => columnAxis(sheet, scale);
  const tall = largest(row, area.height, sheet.rows);
  const wide = largest(column, area.width, sheet.columns);
  const square = Math.min(tall, wide);
  const stretch = (cells: number, own: number, room: number): number =>
    square * cells < room * THINNEST && square < own ? own : square;
  const scales = {
    rows: even(row, stretch(sheet.rows, tall, area.height), area.height, dpr),
    columns: even(column, stretch(sheet.columns, wide, area.width), area.width, dpr),
  };
  // Square cells stay square when one of the two had to give way.
  if (
    scales.rows !== scales.columns &&
    stretch(sheet.rows, tall, area.height) === stretch(sheet.columns, wide, area.width)
  ) {
    scales.rows = scales.columns = Math.min(scales.rows, scales.columns);
  }
  return scales;
}

export function fitView(sheet: Sheet, area: Area, dpr: number): View {
  const scales = fitScales(sheet, area, dpr);
  return { rows: rowAxis(sheet, scales.rows), columns: columnAxis(sheet, scales.columns), x: 0, y: 0, area };
}

/** Keeps the sheet in the area: no empty room beside it while some of it is hidden. */
export function clamp(view: View): View {
  const hold = (origin: number, length: number, room: number) =>
    Math.min(0, Math.max(origin, Math.min(0, room - length)));
  return {
    ...view,
    x: hold(view.x, extent(view.columns), view.area.width),
    y: hold(view.y, extent(view.rows), view.area.height),
  };
}

export const pan = (view: View, dx: number, dy: number): View => clamp({ ...view, x: view.x + dx, y: view.y + dy });

/** The same place at a new size of the area. A view that showed everything shows everything again. */
export function resize(sheet: Sheet, view: View, area: Area, dpr: number): View {
  const before = fitScales(sheet, view.area, dpr);
  if (view.rows.scale <= before.rows && view.columns.scale <= before.columns) return fitView(sheet, area, dpr);
  const scales = fitScales(sheet, area, dpr);
  const rows = rowAxis(sheet, Math.max(view.rows.scale, scales.rows));
  const columns = columnAxis(sheet, Math.max(view.columns.scale, scales.columns));
  return clamp({ ...view, rows, columns, area });
}

/**
 * Zoom by `factor` about a point of the area, which stays over the same cell. Scales stay between fit and MAX_CELL; where
 * cells are not square the longer side waits at 16 pixels until the shorter has caught up.
 */
export function zoom(sheet: Sheet, view: View, factor: number, x: number, y: number, dpr: number): View {
  const least = fitScales(sheet, view.area, dpr);
  const step = (own: number, other: number, floor: number): number => {
    const ceiling = own > other * 1.01 ? Math.max(Math.min(16, MAX_CELL), own, other) : MAX_CELL;
    const limit = own > other * 1.01 && own >= 16 ? Math.max(own, Math.min(MAX_CELL, other * factor)) : ceiling;
    return Math.max(floor, Math.min(own * factor, limit));
  };
  const rows = rowAxis(sheet, step(view.rows.scale, view.columns.scale, least.rows));
  const columns = columnAxis(sheet, step(view.columns.scale, view.rows.scale, least.columns));
  return clamp({
    ...view,
    rows,
    columns,
    x: x - position(columns, cellAt(view.columns, x - view.x).at),
    y: y - position(rows, cellAt(view.rows, y - view.y).at),
  });
}

/** The sheet cells on screen. */
export function visible(view: View): Rect {
  return {
    row0: Math.floor(cellAt(view.rows, -view.y).at),
    row1: Math.min(view.rows.cells, Math.floor(cellAt(view.rows, view.area.height - view.y).at) + 1),
    column0: Math.floor(cellAt(view.columns, -view.x).at),
    column1: Math.min(view.columns.cells, Math.floor(cellAt(view.columns, view.area.width - view.x).at) + 1),
  };
}

/** level = max(0, ceil(log2(cells per device pixel))): no cell is passed over, and no more bins than that. */
export function levelOf(scale: number, cells: number, dpr: number): number {
  const level = Math.max(0, Math.ceil(Math.log2(1 / (scale * dpr)) - 1e-6));
  return Math.min(level, Math.ceil(Math.log2(Math.max(1, cells))));
}

export interface Wanted {
  row_level: number;
  column_level: number;
  encoding: "f32" | "q8";
  /** Nearest to the middle of the screen first. */
  keys: TileKey[];
}

/** The tiles that the screen needs. Exact numbers only where a cell is large enough to be looked at alone. */
export function wantedTiles(sheet: Sheet, view: View, dpr: number): Wanted {
  const row_level = levelOf(view.rows.scale, sheet.rows, dpr);
  const column_level = levelOf(view.columns.scale, sheet.columns, dpr);
  const exact = row_level === 0 && column_level === 0 && Math.max(view.rows.scale, view.columns.scale) >= EXACT_CELL;
  const keys: TileKey[] = [];
  const encoding = exact ? "f32" : "q8";
  if (sheet.cells === 0) return { row_level, column_level, encoding, keys };
  const seen = visible(view);
  const height = TILE * 2 ** row_level;
  const width = TILE * 2 ** column_level;
  for (let r = Math.floor(seen.row0 / height); r * height < seen.row1; r++) {
    for (let c = Math.floor(seen.column0 / width); c * width < seen.column1; c++) {
      if (!(r * height >= sheet.blank.row && c * width >= sheet.blank.column))
        keys.push([row_level, column_level, r, c]);
    }
  }
  const middle_row = (seen.row0 + seen.row1) / 2 / height - 0.5;
  const middle_column = (seen.column0 + seen.column1) / 2 / width - 0.5;
  const far = ([, , r, c]: TileKey) => (r - middle_row) ** 2 + (c - middle_column) ** 2;
  return { row_level, column_level, encoding, keys: keys.sort((a, b) => far(a) - far(b)) };
}

/** The sheet cells of a tile. */
export function tileRect(sheet: Sheet, [row_level, column_level, r, c]: TileKey): Rect {
  const height = TILE * 2 ** row_level;
  const width = TILE * 2 ** column_level;
  return {
    row0: r * height,
    row1: Math.min(sheet.rows, (r + 1) * height),
    column0: c * width,
    column1: Math.min(sheet.columns, (c + 1) * width),
  };
}

/** Coarser tiles that cover a tile, the finest first: one that is loaded stands in until the tile itself arrives. */
export function standIns(sheet: Sheet, [row_level, column_level, r, c]: TileKey): TileKey[] {
  const top_row = Math.ceil(Math.log2(Math.max(1, sheet.rows)));
  const top_column = Math.ceil(Math.log2(Math.max(1, sheet.columns)));
  const out: TileKey[] = [];
  for (let total = 1; total <= top_row - row_level + (top_column - column_level); total++) {
    for (let up = Math.max(0, total - (top_column - column_level)); up <= Math.min(total, top_row - row_level); up++) {
      const across = total - up;
      out.push([row_level + up, column_level + across, Math.floor(r / 2 ** up), Math.floor(c / 2 ** across)]);
    }
  }
  return out;
}

/** Moves the view just so far that a cell is on screen. */
export function reveal(view: View, row: number, column: number): View {
  const shift = (origin: number, axis: Axis, cell: number, room: number): number => {
    const start = position(axis, cell) + origin;
    if (start < 0) return origin - start;
    const over = start + axis.scale - room;
    return over > 0 ? origin - Math.min(over, start) : origin;
  };
  return clamp({
    ...view,
    x: shift(view.x, view.columns, column, view.area.width),
    y: shift(view.y, view.rows, row, view.area.height),
  });
}
