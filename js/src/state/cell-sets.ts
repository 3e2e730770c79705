/** Selections made from selections: all around, everything else, both together. Pure. */
import { cellCount, regionText } from "./region-text";

export type Axis = [number, number, number];

/** A flat index travels as 8 bytes, and a message from the page may hold 512 KiB. */
export const MOST_LISTED = 65_000;

export const whole = (shape: readonly number[]): Axis[] => shape.map((size) => [0, size, 1]);

/** One further on each side of every axis that is not whole; steps are filled. */
export const grow = (axes: readonly Axis[], shape: readonly number[]): Axis[] =>
  axes.map(([start, stop], axis) => [Math.max(0, start - 1), Math.min(shape[axis] ?? stop, stop + 1), 1]);

/** The smallest region that holds both. */
export const unite = (a: readonly Axis[], b: readonly Axis[]): Axis[] =>
  a.map(([start, stop, step], axis) => {
    const [from, to, by] = b[axis] ?? [start, stop, step];
    const alike = start === from && stop === to && step === by;
    return [Math.min(start, from), Math.max(stop, to), alike ? step : 1];
  });

/**
 * Every other cell: a region where one axis is cut at one end, else listed cells. Null when nothing is left or there are too
 * many to list.
 */
export function invert(axes: readonly Axis[], shape: readonly number[]): Axis[] | Float64Array | null {
  const cut = axes.flatMap(([start, stop, step], axis) =>
    start === 0 && stop === shape[axis] && step === 1 ? [] : [axis],
  );
  const total = cellCount(whole(shape));
  const left = total - cellCount(axes);
  if (left <= 0) return null;
  const [only] = cut;
  if (cut.length === 1 && only !== undefined) {
    const [start, stop, step] = axes[only] as Axis;
    const size = shape[only] ?? 0;
    const rest: Axis | null = step !== 1 ? null : start === 0 ? [stop, size, 1] : stop === size ? [0, start, 1] : null;
    if (rest) return axes.map((axis, at) => (at === only ? rest : axis));
  }
  if (left > MOST_LISTED) return null;
  const out = new Float64Array(left);
  let n = 0;
  const index = shape.map(() => 0);
  for (let flat = 0; flat < total; flat++) {
    const inside = axes.every(([start, stop, step], axis) => {
      const at = index[axis] as number;
      return at >= start && at < stop && (at - start) % step === 0;
    });
    if (!inside) out[n++] = flat;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis] = (index[axis] as number) + 1;
      if ((index[axis] as number) < (shape[axis] as number)) break;
      index[axis] = 0;
    }
  }
  return out;
}

/** The axis along which boxes differ: all others are alike. */
const along = (parts: readonly Axis[][]): number => {
  const [first] = parts;
  const at = first?.findIndex(([start, stop], axis) =>
    parts.some((part) => part[axis]?.[0] !== start || part[axis]?.[1] !== stop),
  );
  return Math.max(0, at ?? 0);
};

const indices = (parts: readonly Axis[][], axis: number): number[] =>
  parts.flatMap((part) => {
    const [start, stop, step] = part[axis] as Axis;
    return Array.from({ length: Math.max(0, Math.ceil((stop - start) / step)) }, (_, k) => start + k * step);
  });

/** `[[1, 2, 9, 10]]`, `[:, [0, 4], 1:2]`: boxes that differ along one axis, as Python indexes them. */
export function listText(parts: readonly Axis[][], shape: readonly number[]): string {
  const axis = along(parts);
  const others = (parts[0] ?? []).map((range, at) => (at === axis ? ([0, shape[at] ?? 0, 1] as Axis) : range));
  const texts = regionText(others, shape).replace("...", "").slice(1, -1).split(", ").filter(Boolean);
  while (texts.length <= axis) texts.push(":");
  texts[axis] = `[${indices(parts, axis).join(", ")}]`;
  return `[${texts.join(", ")}]`;
}

/** One box for each stretch of neighbours in a list of indices. */
function boxes(list: readonly number[], axis: number, like: readonly Axis[]): Axis[][] {
  const out: Axis[][] = [];
  let last: Axis | undefined;
  for (const index of list) {
    if (last && last[1] === index) last[1] = index + 1;
    else {
      const range: Axis = [index, index + 1, 1];
      last = range;
      out.push(like.map((each, at) => (at === axis ? range : each)));
    }
  }
  return out;
}

/** Boxes of a text that lists indices of the first axis, such as `[[1, 2, 9]]`; null for any other text. */
export function partsOfText(text: string, shape: readonly number[]): Axis[][] | null {
  const inner = /^\[\s*\[([\d,\s-]+)\]\s*(?:,[\s:.,]*)?\]$/.exec(text.trim())?.[1];
  const size = shape[0] ?? 0;
  const list = inner?.split(",").map((each) => Number(each.trim())) ?? [];
  if (list.length === 0 || list.some((index) => !Number.isInteger(index) || index >= size || index < -size))
    return null;
  const sorted = [...new Set(list.map((index) => (index < 0 ? index + size : index)))].sort((a, b) => a - b);
  return boxes(sorted, 0, whole(shape));
}

/** All other indices along the axis in which boxes differ. */
export function otherParts(parts: readonly Axis[][], shape: readonly number[]): Axis[][] {
  const axis = along(parts);
  const taken = new Set(indices(parts, axis));
  const rest = Array.from({ length: shape[axis] ?? 0 }, (_, index) => index).filter((index) => !taken.has(index));
  return boxes(rest, axis, parts[0] ?? []);
}

/** Boxes that differ along one axis, one further on each side of every axis. */
export function growParts(parts: readonly Axis[][], shape: readonly number[]): Axis[][] {
  const axis = along(parts);
  const size = shape[axis] ?? 0;
  const near = indices(parts, axis).flatMap((index) => [index - 1, index, index + 1]);
  const list = [...new Set(near)].filter((index) => index >= 0 && index < size).sort((a, b) => a - b);
  return boxes(list, axis, grow(parts[0] ?? [], shape));
}
