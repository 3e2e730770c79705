/**
 * From a value to an entry of the colour table, as a table of edges. Pure.
 *
 * A curve f (below) makes equal steps of colour out of unequal steps of value. Entries 1 to 255 lie evenly on it:
 *
 *     entry(v) = base + floor((f(v) - origin) * gain + 1/2)
 *
 * A diverging map has 0 in its middle: base 128, origin 0, gain 127 / f(limit), where limit is the larger magnitude of the
 * two ends, so that equal distances from 0 have equally strong colours even where one end is nearer. A sequential map goes
 * from end to end: base 1, origin f(low), gain 254 / (f(high) - f(low)).
 *
 * Solved for v, entry e begins at edge[e] = f^-1((e - base - 1/2) / gain + origin), rounded to float32 once, here. Whoever
 * draws compares float32 values with these edges: the formula only says where to begin to look. So that a graphics card
 * with a logarithm of its own, and this script, give each cell the very same colour.
 */
import type { Summary } from "../kernel/protocol";
import type { Curve, Range } from "../state/store";

export const NAN_ENTRY = 256;
export const POSITIVE_ENTRY = 257;
export const NEGATIVE_ENTRY = 258;
export const ABOVE_ENTRY = 259;
export const BELOW_ENTRY = 260;

export interface Scale {
  low: number;
  high: number;
  curve: Curve;
  /** Where symlog bends from straight to logarithmic. */
  knee: number;
  base: number;
  origin: number;
  gain: number;
  /** edges[e] is the least value of entry e, for 2 to 255. */
  edges: Float32Array<ArrayBuffer>;
}

/** symlog is log(1 + |v| / knee) with the sign of v: straight near 0, and odd, so that 0 stays the middle. */
export function bend(value: number, curve: Curve, knee: number): number {
  if (curve === "linear") return value;
  if (curve === "log") return Math.log(Math.abs(value));
  return Math.sign(value) * Math.log1p(Math.abs(value) / knee);
}

export function unbend(at: number, curve: Curve, knee: number): number {
  if (curve === "linear") return at;
  if (curve === "log") return Math.exp(at);
  return Math.sign(at) * Math.expm1(Math.abs(at)) * knee;
}

export function makeScale(low: number, high: number, curve: Curve, diverging: boolean): Scale {
  const limit = Math.max(Math.abs(low), Math.abs(high));
  const knee = limit / 100;
  const [from, to] = [bend(low, curve, knee), bend(high, curve, knee)];
  const centred = diverging && curve !== "log";
  const base = centred ? 128 : 1;
  const origin = centred ? 0 : from;
  const gain = centred ? 127 / bend(limit, curve, knee) : 254 / (to - from);
  const edges = new Float32Array(256);
  for (let e = 2; e < 256; e++) edges[e] = unbend((e - base - 0.5) / gain + origin, curve, knee);
  return { low: Math.fround(low), high: Math.fround(high), curve, knee, base, origin, gain, edges };
}

/** Entry of the table for a value. 0 is always exactly the middle of a diverging map. */
export function entryOf(value: number, scale: Scale): number {
  if (Number.isNaN(value)) return NAN_ENTRY;
  if (value === Number.POSITIVE_INFINITY) return POSITIVE_ENTRY;
  if (value === Number.NEGATIVE_INFINITY) return NEGATIVE_ENTRY;
  const { curve, edges } = scale;
  const shown = Math.fround(curve === "log" ? Math.abs(value) : value);
  if (shown > scale.high) return ABOVE_ENTRY;
  if (shown < scale.low) return BELOW_ENTRY;
  return within(shown, scale, edges);
}

/** The entry of a value inside the range. */
export function within(shown: number, { curve, knee, base, origin, gain }: Scale, edges: Float32Array): number {
  let entry = base + Math.floor((bend(shown, curve, knee) - origin) * gain + 0.5);
  entry = entry > 1 ? Math.min(entry, 255) : 1;
  while (entry < 255 && shown >= (edges[entry + 1] as number)) entry++;
  while (entry > 1 && shown < (edges[entry] as number)) entry--;
  return entry;
}

/** The values of an entry, both ends included: the lower edge, and the last float32 before the next entry's. */
export function valuesOf(entry: number, scale: Scale): [number, number] {
  const low = entry <= 1 ? scale.low : Math.max(scale.low, scale.edges[entry] as number);
  const high = entry >= 255 ? scale.high : Math.min(scale.high, before(scale.edges[entry + 1] as number));
  return [low, high];
}

const word = new DataView(new ArrayBuffer(4));

/** The largest float32 below one. */
function before(value: number): number {
  if (value === 0) return -(2 ** -149);
  word.setFloat32(0, value);
  word.setInt32(0, word.getInt32(0) + (value > 0 ? -1 : 1));
  return word.getFloat32(0);
}

/** What a tensor offers for a range. */
export interface Ground {
  summary: Summary | null;
  /** Whether values on both sides of 0 are to be expected. */
  signed: boolean;
  /** The range of all parameters, where it is known. */
  extent: [number, number] | null;
}

/** Ends of the colours in values, the lower first; never equal, so that a tensor of zeros is drawn in the colour of 0. */
export function rangeOf(range: Range, curve: Curve, { summary, signed, extent }: Ground): [number, number] {
  const all: [number, number] = [summary?.min ?? 0, summary?.max ?? 0];
  const around = ([low, high]: [number, number]): [number, number] => {
    const limit = Math.max(Math.abs(low), Math.abs(high));
    return signed ? [-limit, limit] : [Math.min(low, 0), high];
  };
  let [low, high] = around(all);
  if (range.kind === "typed") [low, high] = [range.low, range.high];
  else if (range.kind === "full") [low, high] = all;
  else if (range.kind === "shared" && extent) [low, high] = around(extent);
  else if (range.kind === "robust" && summary) {
    // The outermost quantiles that the kernel tells: about one percent of the cells lie outside.
    const [from, to] = around([summary.quantiles[0]?.[1] ?? 0, summary.quantiles.at(-1)?.[1] ?? 0]);
    if (from < to) [low, high] = [from, to];
  }
  if (curve === "log") {
    // Magnitudes: from four powers of ten below the largest, unless somebody typed where.
    const most = Math.max(Math.abs(low), Math.abs(high)) || 1;
    return [range.kind === "typed" && low > 0 && low < most ? low : most * 1e-4, most];
  }
  if (!(Number.isFinite(low) && Number.isFinite(high))) return signed ? [-1, 1] : [0, 1];
  if (low < high) return [low, high];
  return low === 0 ? [signed ? -1 : 0, 1] : [Math.min(low, 0), Math.max(low, 0)];
}
