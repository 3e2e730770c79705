/**
 * The sheet: how docs/protocol.md lays a tensor of any number of axes out as one grid of cells.
 *
 * A block has prod(shape[rows]) x prod(shape[columns]) cells, axes in mixed radix, the last listed fastest. Facet f lies at
 * block row floor(f / wrap), block column f mod wrap. What follows the last facet in its row of blocks is blank. A fixed axis
 * shows one index. Where an axis is sorted, digits count places, and `indices` says which index stands at each.
 */
import type { Group, Layout } from "../kernel/protocol";

export type AxisRange = [start: number, stop: number, step: number];

/** Cells `[row0, row1) x [column0, column1)` of the sheet. */
export interface Rect {
  row0: number;
  row1: number;
  column0: number;
  column1: number;
}

export interface Cell {
  row: number;
  column: number;
}

/** A sorted axis: the index at each place, and the place of each index. */
export interface Places {
  indices: Int32Array;
  places: Int32Array;
}

export interface Sheet {
  layout: Layout;
  /** Per axis; undefined where indices stand in their own order. */
  places: (Places | undefined)[];
  rows: number;
  columns: number;
  /** Cells of one block. */
  block_rows: number;
  block_columns: number;
  facets: number;
  /** Blocks beside each other; at least 1. */
  wrap: number;
  /** Where the blank corner of the last row of blocks begins; equal to the sheet's size when there is none. */
  blank: { row: number; column: number };
  /** Sizes of nested blocks along an axis of the sheet, innermost first: a separator stands at each multiple. */
  row_blocks: number[];
  column_blocks: number[];
  /** Where stretches of unlike length begin, such as q, k and v of grouped queries; the first one not. */
  row_breaks: number[];
  column_breaks: number[];
  /** Number of cells shown. */
  cells: number;
}

export const sizes = (layout: Layout, axes: number[]): number[] => axes.map((axis) => layout.shape[axis] ?? 1);
const product = (numbers: number[]): number => numbers.reduce((a, b) => a * b, 1);

/** `orders` has the indices at each place, one array for each of `layout.orders`. */
export function makeSheet(layout: Layout, orders: Int32Array[] = []): Sheet {
  const block_rows = product(sizes(layout, layout.rows));
  const block_columns = product(sizes(layout, layout.columns));
  const facets = product(sizes(layout, layout.facets));
  const wrap = Math.max(1, Math.min(layout.wrap, facets));
  const lines = Math.ceil(facets / wrap);
  const rows = block_rows * lines;
  const columns = block_columns * Math.min(wrap, facets);
  const left_over = facets % wrap;
  const places: Sheet["places"] = [];
  layout.orders.forEach(({ axis }, i) => {
    const indices = orders[i];
    if (indices) places[axis] = { indices, places: inverse(indices) };
  });
  return {
    layout,
    places,
    rows,
    columns,
    block_rows,
    block_columns,
    facets,
    wrap,
    blank:
      left_over === 0 ? { row: rows, column: columns } : { row: rows - block_rows, column: left_over * block_columns },
    row_blocks: nesting(radixOf(layout, layout.rows), rows),
    column_blocks: nesting(radixOf(layout, layout.columns), columns),
    row_breaks: facets > 1 ? [] : breaksOf(layout, layout.rows),
    column_breaks: facets > 1 ? [] : breaksOf(layout, layout.columns),
    cells: block_rows * block_columns * facets,
  };
}

function inverse(indices: Int32Array): Int32Array {
  const places = new Int32Array(indices.length);
  indices.forEach((index, place) => {
    places[index] = place;
  });
  return places;
}

/** Groups of an axis, outermost first; none where a sorting has torn them apart. */
export const groupsOf = ({ groups, orders }: Layout, axis: number): Group[] =>
  orders.some((order) => order.axis === axis) ? [] : groups.filter((group) => group.axis === axis);

/** Length of each stretch of a group, 0 where they are not alike. */
export function evenSize({ starts }: Group, size: number): number {
  const each = size / starts.length;
  return starts.every((start, i) => start === i * each) ? each : 0;
}

/** Sizes of these axes, those with groups cut further. */
const radixOf = (layout: Layout, axes: number[]): number[] =>
  axes.flatMap((axis) => {
    let rest = layout.shape[axis] ?? 1;
    const radix: number[] = [];
    for (const group of groupsOf(layout, axis)) {
      const each = evenSize(group, layout.shape[axis] ?? 1);
      if (each === 0 || rest % each !== 0) continue;
      radix.push(rest / each);
      rest = each;
    }
    return [...radix, rest];
  });

function breaksOf(layout: Layout, axes: number[]): number[] {
  const [axis, ...inner] = axes;
  if (axis === undefined) return [];
  const uneven = groupsOf(layout, axis).find((group) => evenSize(group, layout.shape[axis] ?? 1) === 0);
  const stride = product(sizes(layout, inner));
  return uneven?.starts.slice(1).map((start) => start * stride) ?? [];
}

/** Block sizes at which separators make sense: above one cell, below the whole sheet, each once. */
function nesting(radix: number[], total: number): number[] {
  const blocks: number[] = [];
  let size = 1;
  for (const n of [...radix].reverse()) {
    size *= n;
    if (size > 1 && size < total && size !== blocks.at(-1)) blocks.push(size);
  }
  return blocks;
}

export const isBlank = (sheet: Sheet, row: number, column: number): boolean =>
  row < 0 ||
  column < 0 ||
  row >= sheet.rows ||
  column >= sheet.columns ||
  (row >= sheet.blank.row && column >= sheet.blank.column);

/** Digits of `flat` in mixed radix, written into the places of `axes`. */
function unravel(flat: number, axes: number[], shape: number[], into: number[]): void {
  for (let k = axes.length - 1; k >= 0; k--) {
    const axis = axes[k] as number;
    const n = shape[axis] ?? 1;
    into[axis] = flat % n;
    flat = Math.floor(flat / n);
  }
}

function ravel(index: number[], axes: number[], shape: number[]): number {
  let flat = 0;
  for (const axis of axes) flat = flat * (shape[axis] ?? 1) + (index[axis] ?? 0);
  return flat;
}

/** Index at a place of an axis. */
export const indexAt = (sheet: Sheet, axis: number, place: number): number =>
  sheet.places[axis]?.indices[place] ?? place;

/** Tensor index of a sheet cell, or null where the sheet is blank. */
export function indexOf(sheet: Sheet, row: number, column: number): number[] | null {
  if (isBlank(sheet, row, column)) return null;
  const { layout, block_rows, block_columns } = sheet;
  const index = new Array<number>(layout.shape.length).fill(0);
  unravel(row % block_rows, layout.rows, layout.shape, index);
  unravel(column % block_columns, layout.columns, layout.shape, index);
  unravel(
    Math.floor(row / block_rows) * sheet.wrap + Math.floor(column / block_columns),
    layout.facets,
    layout.shape,
    index,
  );
  const found = index.map((place, axis) => indexAt(sheet, axis, place));
  for (const [axis, still] of layout.fixed) found[axis] = still;
  return found;
}

/** Whether a cell of the tensor is in the picture: not when it lies at another index of a fixed axis. */
export const isShown = ({ layout }: Sheet, index: number[]): boolean =>
  layout.fixed.every(([axis, still]) => index[axis] === still);

/** Where a cell of the tensor is drawn, if it is shown. */
export function cellOf(sheet: Sheet, index: number[]): Cell {
  const { layout } = sheet;
  const placed = index.map((each, axis) => sheet.places[axis]?.places[each] ?? each);
  const facet = ravel(placed, layout.facets, layout.shape);
  return {
    row: Math.floor(facet / sheet.wrap) * sheet.block_rows + ravel(placed, layout.rows, layout.shape),
    column: (facet % sheet.wrap) * sheet.block_columns + ravel(placed, layout.columns, layout.shape),
  };
}

/** Row-major position in the tensor, as `editCells` wants it. */
export function flatOf(sheet: Sheet, index: number[]): number {
  return ravel(
    index,
    sheet.layout.shape.map((_, axis) => axis),
    sheet.layout.shape,
  );
}

/** Sheet cells, as row * columns + column, of flat row-major positions in the tensor; those that are shown. */
export function cellsOfFlat(sheet: Sheet, flat: Iterable<number>): number[] {
  const { shape } = sheet.layout;
  const axes = shape.map((_, axis) => axis);
  const index = new Array<number>(shape.length).fill(0);
  const out: number[] = [];
  for (const each of flat) {
    unravel(each, axes, shape, index);
    if (!isShown(sheet, index)) continue;
    const { row, column } = cellOf(sheet, index);
    out.push(row * sheet.columns + column);
  }
  return out;
}
