/**
 * Regions of a tensor (a range per axis) and rectangles of its sheet, there and back. Ranges here are of places: where an axis
 * is sorted, places.ts knows which indices stand there.
 *
 * From a rectangle to a region: the result of `regionOfRect` is always one basic region. Where a rectangle crosses a block boundary of an
 * outer axis, the axes inside it snap to their whole length. Over several facets the other direction stays as drawn;
 * facets that cover more than one row of blocks are taken as whole rows of blocks, except for a single column of blocks
 * of one facet axis, which is a range with step `wrap`.
 */
import { type AxisRange, type Rect, type Sheet, sizes } from "./layout";

const whole = (n: number): AxisRange => [0, n, 1];

/** Everything that is shown. */
export function shownRanges({ layout }: Sheet): AxisRange[] {
  const ranges = layout.shape.map(whole);
  for (const [axis, still] of layout.fixed) ranges[axis] = [still, still + 1, 1];
  return ranges;
}

const isHidden = ({ layout }: Sheet, ranges: AxisRange[]): boolean =>
  layout.fixed.some(([axis, still]) => {
    const [start, stop, step] = ranges[axis] as AxisRange;
    return still < start || still >= stop || (still - start) % step !== 0;
  });

/** Ranges of a mixed radix number that hold every number in [low, high]: equal leading digits stay, inner ones snap. */
function snap(radix: number[], low: number, high: number): AxisRange[] {
  const out: AxisRange[] = [];
  let stride = radix.reduce((a, b) => a * b, 1);
  let crossed = false;
  for (const n of radix) {
    stride /= n;
    if (crossed) {
      out.push(whole(n));
      continue;
    }
    const from = Math.floor(low / stride);
    const to = Math.floor(high / stride);
    low -= from * stride;
    high -= to * stride;
    out.push([from, to + 1, 1]);
    crossed = from !== to;
  }
  return out;
}

/** The region under a rectangle, or null where it touches blank cells only. */
export function regionOfRect(sheet: Sheet, rect: Rect): AxisRange[] | null {
  const { layout, block_rows, block_columns, wrap, facets } = sheet;
  if (sheet.cells === 0) return null;
  const row0 = Math.max(0, rect.row0);
  const row1 = Math.min(sheet.rows, rect.row1) - 1;
  const column0 = Math.max(0, rect.column0);
  const column1 = Math.min(sheet.columns, rect.column1) - 1;
  if (row1 < row0 || column1 < column0) return null;
  const line0 = Math.floor(row0 / block_rows);
  const across0 = Math.floor(column0 / block_columns);
  const across1 = Math.floor(column1 / block_columns);
  let line1 = Math.floor(row1 / block_rows);
  // Blank blocks at the end of the last line hold nothing: a drag into them ends at the line above.
  if (line1 > line0 && line1 * wrap + across0 >= facets) line1--;
  const first = line0 * wrap + across0;
  if (first >= facets) return null;

  const facet_radix = sizes(layout, layout.facets);
  let facet_ranges: AxisRange[];
  if (line0 === line1) facet_ranges = snap(facet_radix, first, Math.min(line0 * wrap + across1, facets - 1));
  else if (across0 === across1 && layout.facets.length === 1) {
    facet_ranges = [[first, line1 * wrap + across0 + 1, wrap]];
  } else facet_ranges = snap(facet_radix, line0 * wrap, Math.min((line1 + 1) * wrap, facets) - 1);

  const row_radix = sizes(layout, layout.rows);
  const column_radix = sizes(layout, layout.columns);
  const across_facets = across0 !== across1;
  const row_ranges =
    line0 === Math.floor(row1 / block_rows)
      ? snap(row_radix, row0 % block_rows, row1 % block_rows)
      : row_radix.map(whole);
  const column_ranges = across_facets
    ? column_radix.map(whole)
    : snap(column_radix, column0 % block_columns, column1 % block_columns);

  const ranges = shownRanges(sheet);
  for (const [axes, found] of [
    [layout.facets, facet_ranges],
    [layout.rows, row_ranges],
    [layout.columns, column_ranges],
  ] as const) {
    axes.forEach((axis, k) => {
      ranges[axis] = found[k] as AxisRange;
    });
  }
  return ranges;
}

/** More indices than that make no text that anybody reads: then the lines of blocks are taken whole. */
const MOST_INDICES = 200;

/**
 * The regions under a rectangle: one, but for a contact sheet where a rectangle covers parts of several lines of blocks. Then
 * one for each line: the facets under the rectangle, as a whole.
 */
export function regionsOfRect(sheet: Sheet, rect: Rect): AxisRange[][] {
  const region = regionOfRect(sheet, rect);
  if (!region) return [];
  const { layout, block_rows, block_columns, wrap, facets } = sheet;
  const [axis] = layout.facets;
  const line0 = Math.floor(Math.max(0, rect.row0) / block_rows);
  const line1 = Math.floor((Math.min(sheet.rows, rect.row1) - 1) / block_rows);
  const across0 = Math.floor(Math.max(0, rect.column0) / block_columns);
  const across1 = Math.min(wrap, Math.floor((Math.min(sheet.columns, rect.column1) - 1) / block_columns) + 1);
  const some = across1 - across0 < wrap && (line1 - line0 + 1) * (across1 - across0) <= MOST_INDICES;
  if (line0 === line1 || layout.facets.length !== 1 || axis === undefined || !some) return [region];
  const out: AxisRange[][] = [];
  for (let line = line0; line <= line1; line++) {
    const first = line * wrap + across0;
    const stop = Math.min(line * wrap + across1, facets);
    const everything = shownRanges(sheet);
    if (first < stop) out.push(everything.map((range, at) => (at === axis ? [first, stop, 1] : range)));
  }
  return out;
}

/** The smallest number >= `low` whose digits all lie in their ranges, or -1. */
export function nextIn(radix: number[], ranges: AxisRange[], low: number): number {
  const strides = new Array<number>(radix.length);
  const least = new Array<number>(radix.length + 1).fill(0);
  let stride = 1;
  for (let k = radix.length - 1; k >= 0; k--) {
    const [start, stop] = ranges[k] as AxisRange;
    if (start >= stop) return -1;
    strides[k] = stride;
    least[k] = start * stride + (least[k + 1] as number);
    stride *= radix[k] as number;
  }
  const from = (k: number, rest: number): number => {
    if (k === radix.length) return rest <= 0 ? 0 : -1;
    const [start, stop, step] = ranges[k] as AxisRange;
    const size = strides[k] as number;
    const wanted = Math.floor(rest / size);
    let digit = wanted <= start ? start : start + Math.ceil((wanted - start) / step) * step;
    if (digit >= stop) return -1;
    if (digit > wanted) return digit * size + (least[k + 1] as number);
    const inner = from(k + 1, rest - digit * size);
    if (inner >= 0) return digit * size + inner;
    digit += step;
    return digit < stop ? digit * size + (least[k + 1] as number) : -1;
  };
  return from(0, Math.max(0, low));
}

/**
 * Runs `[start, stop)` of such numbers in [low, high), those closer than `gap` merged into one. After `limit` steps the
 * rest is one run: an overlay of that many runs is a solid area anyway.
 */
export function runsIn(
  radix: number[],
  ranges: AxisRange[],
  low: number,
  high: number,
  gap = 0,
  limit = 4096,
): [number, number][] {
  // One run is a range of the innermost axis that is not taken whole, times all that lies inside it.
  let k = radix.length - 1;
  let unit = 1;
  const isWhole = (i: number): boolean => {
    const [start, stop, step] = ranges[i] as AxisRange;
    return start === 0 && stop === radix[i] && (step === 1 || stop === 1);
  };
  while (k >= 0 && isWhole(k)) unit *= radix[k--] as number;
  const total = radix.reduce((a, b) => a * b, 1);
  const end = (at: number): number => {
    if (k < 0) return total;
    const [, stop, step] = ranges[k] as AxisRange;
    const digit = Math.floor(at / unit) % (radix[k] as number);
    const count = step === 1 ? stop - digit : 1;
    return Math.floor(at / unit) * unit + count * unit;
  };
  const runs: [number, number][] = [];
  let at = nextIn(radix, ranges, low);
  for (let steps = 0; at >= 0 && at < high; steps++) {
    const stop = steps < limit ? Math.min(high, end(at)) : high;
    const last = runs.at(-1);
    if (last && at - last[1] <= gap) last[1] = stop;
    else runs.push([at, stop]);
    at = stop < high ? nextIn(radix, ranges, stop) : -1;
  }
  return runs;
}

const pick = (ranges: AxisRange[], axes: number[]): AxisRange[] => axes.map((axis) => ranges[axis] ?? [0, 1, 1]);

/**
 * Rectangles of the sheet that a region covers, within `view`. Gaps up to `gap` rows or columns are bridged (less than a
 * pixel on screen); no more than `limit` rectangles, past that their bounding rectangle.
 */
export function rectsOfRegion(
  sheet: Sheet,
  ranges: AxisRange[],
  view: Rect,
  gap: { rows: number; columns: number },
  limit = 512,
): Rect[] {
  const { layout, block_rows, block_columns, wrap } = sheet;
  if (sheet.cells === 0 || view.row0 >= view.row1 || view.column0 >= view.column1 || isHidden(sheet, ranges)) return [];
  const row_radix = sizes(layout, layout.rows);
  const column_radix = sizes(layout, layout.columns);
  const facet_radix = sizes(layout, layout.facets);
  const rows = pick(ranges, layout.rows);
  const columns = pick(ranges, layout.columns);
  const facets = pick(ranges, layout.facets);
  const line0 = Math.floor(view.row0 / block_rows);
  const line1 = Math.floor((view.row1 - 1) / block_rows);
  const across0 = Math.floor(view.column0 / block_columns);
  const across1 = Math.floor((view.column1 - 1) / block_columns);

  // Horizontal stretches once per line of blocks, then lines on top of each other where they are alike.
  const out: Rect[] = [];
  let above: { spans: [number, number][]; from: number; row1: number } | null = null;
  for (let line = line0; line <= line1; line++) {
    const blocks = runsIn(facet_radix, facets, line * wrap + across0, line * wrap + Math.min(across1, wrap - 1) + 1);
    const spans: [number, number][] = [];
    const add = (start: number, stop: number) => {
      const last = spans.at(-1);
      if (last && start - last[1] <= gap.columns) last[1] = stop;
      else spans.push([start, stop]);
    };
    for (const [first, last] of blocks) {
      for (let facet = first; facet < last; facet++) {
        const left = (facet - line * wrap) * block_columns;
        const clip0 = Math.max(0, view.column0 - left);
        const clip1 = Math.min(block_columns, view.column1 - left);
        for (const [a, b] of runsIn(column_radix, columns, clip0, clip1, gap.columns)) add(left + a, left + b);
        if (spans.length > limit) break;
      }
    }
    const top = line * block_rows;
    const clip0 = Math.max(0, view.row0 - top);
    const clip1 = Math.min(block_rows, view.row1 - top);
    const found = spans.length === 0 ? [] : runsIn(row_radix, rows, clip0, clip1, gap.rows);
    for (const [a, b] of found) {
      if (out.length > limit) break;
      if (above && above.row1 >= top + a - gap.rows && sameSpans(above.spans, spans)) {
        for (let i = above.from; i < out.length; i++) (out[i] as Rect).row1 = top + b;
        above.row1 = top + b;
      } else {
        above = { spans, from: out.length, row1: top + b };
        for (const [c, d] of spans) out.push({ row0: top + a, row1: top + b, column0: c, column1: d });
      }
    }
    if (out.length > limit) return [bound(out, view)];
  }
  return out;
}

const sameSpans = (a: [number, number][], b: [number, number][]): boolean =>
  a.length === b.length && a.every(([start, stop], i) => start === b[i]?.[0] && stop === b[i]?.[1]);

function bound(rects: Rect[], view: Rect): Rect {
  const box = { row0: view.row1, row1: view.row1, column0: view.column1, column1: view.column0 };
  for (const rect of rects) {
    box.row0 = Math.min(box.row0, rect.row0);
    box.column0 = Math.min(box.column0, rect.column0);
    box.column1 = Math.max(box.column1, rect.column1);
  }
  return box;
}

/** Whether a region has a cell inside a rectangle of the sheet. At most three blocks a line are looked at. */
export function regionMeets(sheet: Sheet, ranges: AxisRange[], rect: Rect): boolean {
  const { layout, block_rows, block_columns, wrap } = sheet;
  const row1 = Math.min(rect.row1, sheet.rows);
  const column1 = Math.min(rect.column1, sheet.columns);
  if (sheet.cells === 0 || rect.row0 >= row1 || rect.column0 >= column1 || isHidden(sheet, ranges)) return false;
  const row_radix = sizes(layout, layout.rows);
  const column_radix = sizes(layout, layout.columns);
  const facet_radix = sizes(layout, layout.facets);
  const rows = pick(ranges, layout.rows);
  const columns = pick(ranges, layout.columns);
  const facets = pick(ranges, layout.facets);
  const any = (radix: number[], of: AxisRange[], low: number, high: number): boolean => {
    const at = nextIn(radix, of, low);
    return at >= 0 && at < high;
  };
  const line0 = Math.floor(rect.row0 / block_rows);
  const line1 = Math.floor((row1 - 1) / block_rows);
  const across0 = Math.floor(rect.column0 / block_columns);
  const across1 = Math.floor((column1 - 1) / block_columns);
  const inColumns = (across: number): boolean =>
    any(
      column_radix,
      columns,
      Math.max(0, rect.column0 - across * block_columns),
      Math.min(block_columns, column1 - across * block_columns),
    );
  const at_first = inColumns(across0);
  const at_last = across1 > across0 && inColumns(across1);
  for (let line = line0; line <= line1; line++) {
    const top = line * block_rows;
    if (!any(row_radix, rows, Math.max(0, rect.row0 - top), Math.min(block_rows, row1 - top))) continue;
    const block = line * wrap;
    if (at_first && any(facet_radix, facets, block + across0, block + across0 + 1)) return true;
    // Blocks between the first and the last are covered in full, and no range is empty here: only the facet counts.
    if (across1 - across0 > 1 && any(column_radix, columns, 0, block_columns)) {
      if (any(facet_radix, facets, block + across0 + 1, block + across1)) return true;
    }
    if (at_last && any(facet_radix, facets, block + across1, block + across1 + 1)) return true;
  }
  return false;
}
