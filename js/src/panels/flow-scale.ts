/** Places and paths of the charts of depth: logarithmic axes, bands, lines with gaps. Pure. */

export interface LogScale {
  /** Pixels from the top; what is 0 or below the axis lies on its floor. Null: nothing to draw. */
  y(value: number | null): number | null;
  /** Powers of ten to be labelled, lowest first. */
  ticks: number[];
  low: number;
  high: number;
}

/** Deeper than that an axis would press all that is healthy into one line. */
const MOST_DECADES = 24;
const LEAST_DECADES = 2;
/** Pixels between two labels. */
const LABEL_EVERY = 20;

export function logScale(values: Iterable<number | null>, height: number): LogScale {
  let low = Number.POSITIVE_INFINITY;
  let high = 0;
  for (const value of values) {
    if (value === null || !(value > 0) || !Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (high === 0) return { y: () => null, ticks: [], low: 1, high: 1 };
  let top = Math.ceil(Math.log10(high) + 0.1);
  let bottom = Math.max(Math.floor(Math.log10(low) - 0.1), top - MOST_DECADES);
  if (top - bottom < LEAST_DECADES) {
    bottom -= (LEAST_DECADES - (top - bottom)) >> 1;
    top = bottom + LEAST_DECADES;
  }
  const step = Math.max(1, Math.ceil(((top - bottom) * LABEL_EVERY) / height));
  const ticks: number[] = [];
  for (let power = Math.ceil(bottom / step) * step; power <= top; power += step) ticks.push(power);
  const y = (value: number | null): number | null => {
    if (value === null || Number.isNaN(value)) return null;
    if (value <= 0) return height;
    const at = Math.min(top, Math.max(bottom, Math.log10(value)));
    return ((top - at) / (top - bottom)) * height;
  };
  return { y, ticks: ticks.map((power) => 10 ** power), low: 10 ** bottom, high: 10 ** top };
}

/** Middle of a place among so many. */
export const placeX = (at: number, count: number, width: number): number => ((at + 0.5) / count) * width;

export function placeAt(x: number, count: number, width: number): number {
  return Math.max(0, Math.min(count - 1, Math.floor((x / width) * count)));
}

/** Where the cursor of a chart goes; null: the key is not for it. */
export function chartMove(key: string, at: number, count: number): number | null {
  const page = Math.max(1, Math.round(count / 10));
  switch (key) {
    case "ArrowRight":
    case "ArrowDown":
      return Math.min(count - 1, at + 1);
    case "ArrowLeft":
    case "ArrowUp":
      return Math.max(0, at - 1);
    case "PageDown":
      return Math.min(count - 1, at + page);
    case "PageUp":
      return Math.max(0, at - page);
    case "Home":
      return 0;
    case "End":
      return count - 1;
    default:
      return null;
  }
}

const point = (x: number, y: number): string => `${x.toFixed(1)} ${y.toFixed(1)}`;

/** Zero is no place on a logarithmic axis: a line breaks there. */
export const aboveZero = (value: number | null): number | null => (value !== null && value > 0 ? value : null);

/** A line through what is there; it breaks where something is not. */
export function linePath(ys: readonly (number | null)[], width: number): string {
  let path = "";
  let drawing = false;
  ys.forEach((y, at) => {
    if (y !== null) path += `${drawing ? "L" : "M"}${point(placeX(at, ys.length, width), y)}`;
    drawing = y !== null;
  });
  return path;
}

/** One bar for each place from its lower to its upper end, as one path; at least a pixel high, so that none is lost. */
export function barsPath(
  upper: readonly (number | null)[],
  lower: readonly (number | null)[],
  width: number,
  share: number,
): string {
  const wide = Math.max(1, (width / upper.length) * share);
  let path = "";
  upper.forEach((top, at) => {
    const bottom = lower[at] ?? null;
    if (top === null || bottom === null) return;
    const x = placeX(at, upper.length, width) - wide / 2;
    path += `M${point(x, top)}h${wide.toFixed(1)}V${Math.max(bottom, top + 1).toFixed(1)}h${(-wide).toFixed(1)}z`;
  });
  return path;
}

export interface Mark {
  at: number;
  text: string;
}

/** Places that a chart marks; the first of each kind in a row has the words, where they do not lie on those before. */
export function marksOf(notes: readonly string[], width: number, room: number): Mark[] {
  let free = Number.NEGATIVE_INFINITY;
  return notes.flatMap((text, at): Mark[] => {
    if (!text) return [];
    const x = placeX(at, notes.length, width);
    if (text === notes[at - 1] || x < free) return [{ at, text: "" }];
    free = x + room;
    return [{ at, text }];
  });
}
