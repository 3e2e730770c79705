/**
 * Indices of a tensor and the places where a sorted sheet shows them, there and back. Pure.
 *
 * A stretch of places of a sorted axis shows scattered indices, and a range of indices is scattered over places: either becomes
 * several boxes that differ along one axis.
 */
import type { AxisRange, Sheet } from "./layout";

/** More pieces than this are one: an overlay of that many frames is a solid area anyway. */
const MOST_PIECES = 512;

function* counted([start, stop, step]: AxisRange): Generator<number> {
  for (let at = start; at < stop; at += step) yield at;
}

const isWhole = ([start, stop, step]: AxisRange, size: number | undefined): boolean =>
  start === 0 && stop === size && step === 1;

/** Numbers as ranges: one with a step where that has them all, else one for each stretch of neighbours. */
function rangesOf(numbers: number[]): AxisRange[] {
  const sorted = [...new Set(numbers)].sort((a, b) => a - b);
  const first = sorted[0] ?? 0;
  const step = sorted.length > 1 ? (sorted[1] as number) - first : 1;
  if (sorted.every((each, i) => each === first + i * step)) {
    return sorted.length > 0 ? [[first, (sorted.at(-1) as number) + 1, step]] : [];
  }
  const runs: AxisRange[] = [];
  for (const each of sorted) {
    const last = runs.at(-1);
    if (last && each === last[1]) last[1] = each + 1;
    else runs.push([each, each + 1, 1]);
  }
  return runs;
}

/** The ranges of an axis in boxes that differ along one axis at most, and what becomes of them where the axis is sorted. */
function along(sheet: Sheet, boxes: AxisRange[][], axis: number, to: "indices" | "places"): AxisRange[] {
  const ranges = [...new Map(boxes.map((box) => [String(box[axis]), box[axis] as AxisRange])).values()];
  const order = sheet.places[axis];
  const fixed = sheet.layout.fixed.some(([still]) => still === axis);
  if (!order || fixed || ranges.some((range) => isWhole(range, sheet.layout.shape[axis]))) return ranges;
  return rangesOf(ranges.flatMap((range) => [...counted(range)].map((at) => order[to][at] as number)));
}

const product = (axes: AxisRange[][]): AxisRange[][] =>
  axes.reduce<AxisRange[][]>((boxes, ranges) => boxes.flatMap((box) => ranges.map((range) => [...box, range])), [[]]);

/** Boxes of the indices at these places; null where they would differ along more than one axis, which no list can say. */
export function pickedAt(sheet: Sheet, places: AxisRange[][]): AxisRange[][] | null {
  if (places.length === 0) return [];
  const axes = sheet.layout.shape.map((_, axis) => along(sheet, places, axis, "indices"));
  return axes.filter((ranges) => ranges.length > 1).length > 1 ? null : product(axes);
}

/** Boxes of the places that show these indices, and no others unless there were too many pieces. */
export function placesOf(sheet: Sheet, boxes: AxisRange[][]): AxisRange[][] {
  if (boxes.length === 0 || sheet.places.length === 0) return boxes;
  let pieces = 1;
  const axes = sheet.layout.shape.map((_, axis) => {
    const ranges = along(sheet, boxes, axis, "places");
    pieces *= ranges.length;
    return pieces > MOST_PIECES ? [spanOf(ranges)] : ranges;
  });
  return product(axes);
}

/** One range that holds all places of these indices: enough to know which tiles an edit may touch. */
export const boundsOf = (sheet: Sheet, ranges: AxisRange[]): AxisRange[] =>
  sheet.places.length === 0
    ? ranges
    : ranges.map((range, axis) => {
        const places = along(sheet, [ranges], axis, "places");
        return places.length === 1 ? (places[0] as AxisRange) : places.length === 0 ? range : spanOf(places);
      });

const spanOf = (ranges: AxisRange[]): AxisRange => [ranges[0]?.[0] ?? 0, ranges.at(-1)?.[1] ?? 0, 1];
