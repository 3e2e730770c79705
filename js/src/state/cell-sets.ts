/** Selections made from selections: all around, everything else, both together. Pure. */
import { cellCount } from "./region-text";

type Axis = [number, number, number];

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
