/** The axis of the colour bar: where a value stands, which numbers are written, how high the histogram is. Pure. */
import type { BarCounts, Summary } from "../kernel/protocol";
import { ticks } from "./numbers";
import { bend, type Scale, unbend } from "./scale";

/** From bottom to top, on the curve of the scale. */
export interface BarAxis {
  from: number;
  to: number;
  curve: Scale["curve"];
  knee: number;
}

const ROWS = 64;

/** The bar goes on beyond the range by at most this share of it: far outliers must not press the colours into a line. */
const BEYOND = 0.5;

export function barAxis(scale: Scale, summary: Summary | null): BarAxis {
  const { curve, knee } = scale;
  const low = bend(scale.low, curve, knee);
  const high = bend(scale.high, curve, knee);
  const room = (high - low) * BEYOND;
  let [least, most] = [summary?.min ?? scale.low, summary?.max ?? scale.high];
  if (curve === "log") [least, most] = [scale.low, Math.max(Math.abs(least), Math.abs(most)) || scale.high];
  const from = Math.min(low, Math.max(low - room, bend(least, curve, knee)));
  const to = Math.max(high, Math.min(high + room, bend(most, curve, knee)));
  // Around 0 the bar is as symmetric as its colours.
  const even = curve !== "log" && scale.base === 128 && low === -high;
  const limit = Math.max(-from, to);
  return even ? { from: -limit, to: limit, curve, knee } : { from, to, curve, knee };
}

/** Share of the height from the top at which a value stands; outside 0 to 1 for what the bar does not show. */
export const shareOf = (value: number, { from, to, curve, knee }: BarAxis): number =>
  (to - bend(value, curve, knee)) / (to - from);

export const valueAt = (share: number, { from, to, curve, knee }: BarAxis): number =>
  unbend(to - share * (to - from), curve, knee);

/** Ends of the bar's rows, from the bottom. */
export const edgesOf = (axis: BarAxis): number[] =>
  Array.from({ length: ROWS + 1 }, (_, i) => valueAt(1 - i / ROWS, axis));

/** Whether the summary's histogram says less than the bar has room for: its bins are wider than a row, or reach over an end. */
export function isCoarse({ min, max, histogram }: Summary, axis: BarAxis, scale: Scale): boolean {
  if (min === null || max === null) return false;
  if (axis.curve !== "linear" || min < scale.low || max > scale.high) return true;
  return (
    (histogram.high - histogram.low) / Math.max(1, histogram.counts.length) > ((axis.to - axis.from) / ROWS) * 1.001
  );
}

export interface Bars {
  /** From the top; `share` of the longest. */
  bars: { y: number; height: number; share: number }[];
  above: number;
  below: number;
  /** Whether more may lie outside: a bin of the histogram reaches over an end of the range. */
  least: { above: boolean; below: boolean };
}

/**
 * The histogram on the bar's axis, and how many values lie outside the range. The kernel's bins are equally wide in value;
 * a row of the bar takes from each the part that it covers. On the log curve both signs stand in one row.
 */
export function barsOf(summary: Summary, axis: BarAxis, scale: Scale): Bars {
  const { low, high, counts } = summary.histogram;
  const width = (high - low) / Math.max(1, counts.length);
  const least = { above: false, below: false };
  let above = 0;
  let below = 0;
  // Only what lies outside for certain is counted: beside a huge outlier one bin holds nearly all cells.
  counts.forEach((count, i) => {
    if (count === 0) return;
    let [from, to] = [Math.max(low + i * width, low), Math.min(low + (i + 1) * width, high)];
    if (axis.curve === "log") {
      const ends = [Math.abs(from), Math.abs(to)];
      [from, to] = [from < 0 && to > 0 ? 0 : Math.min(...ends), Math.max(...ends)];
    }
    const top = scale.high * (1 + Math.sign(scale.high) * 1e-6);
    if (from > top) above += count;
    else if (to > top) least.above = true;
    if (to <= scale.low && from < scale.low) below += count;
    else if (from < scale.low && scale.low - from > Math.abs(scale.low) * 1e-6) least.below = true;
  });
  // The extreme itself is a cell.
  if (least.above) above = Math.max(above, 1);
  if (least.below) below = Math.max(below, 1);
  const rows = new Float64Array(ROWS);
  const take = (from: number, to: number, row: number) => {
    const first = Math.max(0, Math.floor((from - low) / width));
    for (let i = first; i < counts.length && low + i * width < to; i++) {
      const part = Math.min(to, low + (i + 1) * width) - Math.max(from, low + i * width);
      if (part > 0) rows[row] = (rows[row] as number) + ((counts[i] as number) * part) / width;
    }
  };
  for (let row = 0; row < ROWS; row++) {
    const [top, bottom] = [valueAt(row / ROWS, axis), valueAt((row + 1) / ROWS, axis)];
    if (width > 0) take(bottom, top, row);
    if (width > 0 && axis.curve === "log") take(-top, -bottom, row);
  }
  // A histogram without width is a single value.
  if (!(width > 0) && counts.length > 0) {
    const at = Math.floor(shareOf(low, axis) * ROWS);
    if (at >= 0 && at <= ROWS) rows[Math.min(at, ROWS - 1)] = counts.reduce((sum, count) => sum + count, 0);
  }
  return { bars: barsFrom(rows), above, below, least };
}

/** Lengths of rows that are counted from the top: by the root, so that a few cells beside many are seen. */
function barsFrom(rows: ArrayLike<number>): Bars["bars"] {
  const most = Math.sqrt(Math.max(1e-9, ...Array.from(rows)));
  const bars = Array.from(rows, (count, row) => ({
    y: row / rows.length,
    height: 1 / rows.length,
    share: Math.sqrt(count) / most,
  }));
  return bars.filter(({ share }) => share > 0);
}

/** What the kernel counted between `edgesOf` the axis. The extremes are of all cells, where the counts are of a sample. */
export function barsCounted({ counts, above, below }: BarCounts, { min, max }: Summary, scale: Scale): Bars {
  const size = scale.curve === "log" ? Math.max(Math.abs(min ?? 0), Math.abs(max ?? 0)) : max;
  return {
    bars: barsFrom(counts.toReversed()),
    above: size !== null && Math.fround(size) > scale.high ? Math.max(1, above) : above,
    below: scale.curve !== "log" && min !== null && Math.fround(min) < scale.low ? Math.max(1, below) : below,
    least: { above: false, below: false },
  };
}

export interface Tick {
  value: number;
  share: number;
  end: boolean;
}

/** The ends of the range, and between them round numbers that stay clear of each other; `height` in pixels. */
export function barTicks(axis: BarAxis, scale: Scale, height: number): Tick[] {
  const placed: Tick[] = [scale.high, scale.low].map((value) => ({ value, share: shareOf(value, axis), end: true }));
  const room = Math.max(2, Math.min(8, Math.floor(height / 48)));
  const [low, high] = [valueAt(1, axis), valueAt(0, axis)];
  const limit = Math.max(Math.abs(low), Math.abs(high));
  const round = axis.curve === "linear" ? between(low, high, room) : powers(limit);
  for (const value of round) {
    const share = shareOf(value, axis);
    const clear = (other: Tick) => Math.abs(other.share - share) * height > (other.end ? 20 : 15);
    if (value >= low && value <= high && share >= 0 && share <= 1 && placed.every(clear)) {
      placed.push({ value, share, end: false });
    }
  }
  return placed;
}

/** 0 first, so that it is never the one that gives way. */
function between(low: number, high: number, room: number): number[] {
  const half = (high - low) / 2;
  const steps = ticks(half, room);
  const step = Math.abs((steps[0] ?? half) - (steps[1] ?? 0)) || half;
  const out = [0];
  for (let i = Math.ceil(low / step); i * step <= high; i++) if (i !== 0) out.push(Number((i * step).toPrecision(12)));
  return out;
}

function powers(limit: number): number[] {
  const out = [0];
  const top = Math.floor(Math.log10(limit));
  for (let power = top; power > top - 9; power--) out.push(10 ** power, -(10 ** power));
  return out;
}
