/**
 * The sheet: how docs/protocol.md lays a tensor of any number of axes out as one grid of cells.
 *
 * A block has prod(shape[rows]) x prod(shape[columns]) cells, axes in mixed radix, the last listed fastest. Facet f lies at
 * block row floor(f / wrap), block column f mod wrap. What follows the last facet in its row of blocks is blank.
 */
import type { Layout } from "../kernel/protocol";

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

export interface Sheet {
  layout: Layout;
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
  /** Number of tensor cells. */
  cells: number;
}

export const sizes = (layout: Layout, axes: number[]): number[] => axes.map((axis) => layout.shape[axis] ?? 1);
const product = (numbers: number[]): number => numbers.reduce((a, b) => a * b, 1);

export function makeSheet(layout: Layout): Sheet {
  const block_rows = product(sizes(layout, layout.rows));
  const block_columns = product(sizes(layout, layout.columns));
  const facets = product(sizes(layout, layout.facets));
  const wrap = Math.max(1, Math.min(layout.wrap, facets));
  const lines = Math.ceil(facets / wrap);
  const rows = block_rows * lines;
  const columns = block_columns * Math.min(wrap, facets);
  const left_over = facets % wrap;
  return {
    layout,
    rows,
    columns,
    block_rows,
    block_columns,
    facets,
    wrap,
    blank:
      left_over === 0 ? { row: rows, column: columns } : { row: rows - block_rows, column: left_over * block_columns },
    row_blocks: nesting(sizes(layout, layout.rows), rows),
    column_blocks: nesting(sizes(layout, layout.columns), columns),
    cells: product(layout.shape),
  };
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
  return index;
}

export function cellOf(sheet: Sheet, index: number[]): Cell {
  const { layout } = sheet;
  const facet = ravel(index, layout.facets, layout.shape);
  return {
    row: Math.floor(facet / sheet.wrap) * sheet.block_rows + ravel(index, layout.rows, layout.shape),
    column: (facet % sheet.wrap) * sheet.block_columns + ravel(index, layout.columns, layout.shape),
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

/** Sheet cells, as row * columns + column, of flat row-major positions in the tensor. */
export function cellsOfFlat(sheet: Sheet, flat: Iterable<number>): number[] {
  const { shape } = sheet.layout;
  const axes = shape.map((_, axis) => axis);
  const index = new Array<number>(shape.length).fill(0);
  const out: number[] = [];
  for (const each of flat) {
    unravel(each, axes, shape, index);
    const { row, column } = cellOf(sheet, index);
    out.push(row * sheet.columns + column);
  }
  return out;
}
