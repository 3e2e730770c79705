/** Cells listed one by one, as flat row-major indices in ascending order: wider, the others, with and without some. Pure. */
import { type Axis, MOST_LISTED } from "./cell-sets";
import { cellCount } from "./region-text";

const ordered = (cells: Iterable<number>): Float64Array => Float64Array.from(cells).sort();

/** The cells of boxes; null where they are too many to list. */
export function cellsIn(boxes: readonly Axis[][], shape: readonly number[]): Float64Array | null {
  const found = new Set<number>();
  for (const box of boxes) {
    if (cellCount(box) > MOST_LISTED) return null;
    let flat = [0];
    box.forEach(([start, stop, step], axis) => {
      const size = shape[axis] ?? 1;
      const next: number[] = [];
      for (const outer of flat) for (let at = start; at < stop; at += step) next.push(outer * size + at);
      flat = next;
    });
    for (const each of flat) found.add(each);
    if (found.size > MOST_LISTED) return null;
  }
  return ordered(found);
}

/** All other cells; null where they are too many to list. */
export function otherCells(cells: Float64Array, shape: readonly number[]): Float64Array | null {
  const total = shape.reduce((a, b) => a * b, 1);
  if (total - cells.length > MOST_LISTED) return null;
  const taken = new Set(cells);
  const out = new Float64Array(total - taken.size);
  let n = 0;
  for (let flat = 0; flat < total; flat++) if (!taken.has(flat)) out[n++] = flat;
  return out;
}

/** One further on each side of every cell, along every axis, as regions grow; null where they are too many to list. */
export function wider(cells: Float64Array, shape: readonly number[]): Float64Array | null {
  let found = new Set(cells);
  let stride = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const size = shape[axis] ?? 1;
    const next = new Set(found);
    for (const flat of found) {
      const at = Math.floor(flat / stride) % size;
      if (at > 0) next.add(flat - stride);
      if (at < size - 1) next.add(flat + stride);
      if (next.size > MOST_LISTED) return null;
    }
    found = next;
    stride *= size;
  }
  return ordered(found);
}

/** Both together; null where they are too many to list. */
export function joined(some: Float64Array, more: Float64Array): Float64Array | null {
  const found = new Set(some);
  for (const each of more) found.add(each);
  return found.size > MOST_LISTED ? null : ordered(found);
}

export function without(some: Float64Array, gone: Float64Array): Float64Array {
  const away = new Set(gone);
  return some.filter((each) => !away.has(each));
}

/** The smallest region that holds them. */
export function boundsOf(cells: Float64Array, shape: readonly number[]): Axis[] {
  const bounds = shape.map((size): Axis => [size, 0, 1]);
  for (const flat of cells) {
    let rest = flat;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const size = shape[axis] ?? 1;
      const at = rest % size;
      rest = (rest - at) / size;
      const range = bounds[axis] as Axis;
      range[0] = Math.min(range[0], at);
      range[1] = Math.max(range[1], at + 1);
    }
  }
  return bounds;
}
