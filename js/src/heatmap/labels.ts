/** Labels in the margins: which blocks, rows and columns get their number, where, and what a click on one selects. Pure. */

import type { Group } from "../kernel/protocol";
import { type Axis, endOf, position } from "./axis";
import { type AxisRange, evenSize, groupsOf, indexAt, type Sheet, sizes } from "./layout";
import { shownRanges } from "./regions";
import { type View, visible } from "./viewport";

/** Labels of columns and facets stand this far above the cells: clear of the first row's label and of selection frames. */
const LIFT = 8;
/** Advance of one character of the label font (10 px monospace). */
export const CHARACTER = 6.05;

export interface Label {
  text: string;
  /** Axis name before the first of a row of labels; drawn dim, ending where the label begins. */
  prefix: string;
  /** Anchor in area coordinates; rows are drawn to the left of 0, columns and facets above `y`. */
  x: number;
  y: number;
  align: "left" | "center" | "right";
  /** Where a click hits, in area coordinates. */
  box: { x0: number; y0: number; x1: number; y1: number };
  region: AxisRange[];
  /** How far the box reaches: what the label names. */
  kind: "row" | "column" | "facet";
}

/** One row of labels that there could be: the indices of an axis, or a group's stretches of it. */
interface Step {
  axis: number;
  /** Cells of one index or stretch. */
  stride: number;
  size: number;
  group?: Group;
  /** Where stretches of unlike length begin, in cells. */
  starts?: number[];
}

/** Axes along one direction with more than one index, outermost first, before each its groups. */
function steps(sheet: Sheet, axes: number[]): Step[] {
  const { layout } = sheet;
  const radix = sizes(layout, axes);
  let stride = radix.reduce((a, b) => a * b, 1);
  const out: Step[] = [];
  axes.forEach((axis, k) => {
    const size = radix[k] ?? 1;
    stride /= size;
    for (const group of groupsOf(layout, axis)) {
      const each = evenSize(group, size);
      const step = { axis, stride: each * stride, size: group.starts.length, group };
      if (each > 0) out.push(step);
      else if (k === 0 && sheet.facets === 1)
        out.push({ ...step, starts: group.starts.map((start) => start * stride) });
    }
    if (size > 1) out.push({ axis, stride, size });
  });
  return out;
}

/** How many stretches of a step begin up to a cell, less one. */
const countAt = ({ starts, stride }: Step, at: number): number =>
  starts ? starts.filter((start) => start <= at).length - 1 : Math.floor(at / stride);

/** Stretches of a step between two cells, as many as have room at every `every`-th. */
function* stretches(step: Step, low: number, high: number, total: number, every: number) {
  const { starts, stride } = step;
  for (let k = Math.ceil(countAt(step, low) / every) * every; ; k += every) {
    const start = starts ? (starts[k] ?? high) : k * stride;
    if (start >= high) return;
    yield { k, start, stop: starts ? (starts[k + 1] ?? total) : start + stride };
  }
}

/** The outermost step of which at least two stretches are on screen; the innermost when there is none. */
function chosen(candidates: Step[], from: number, to: number): number {
  const at = candidates.findIndex((each) => countAt(each, from) !== countAt(each, to - 1));
  return at >= 0 ? at : candidates.length - 1;
}

/** Of nested groups the inner one, where it has room: its labels say the outer one, too ("q 3"). */
function deeper(candidates: Step[], level: number, axis: Axis, need: (step: Step) => number): number {
  const [here, next] = [candidates[level], candidates[level + 1]];
  const nested = here?.group && next?.group && next.axis === here.axis && !next.starts;
  return nested && extentOf(axis, next.stride, 0) >= need(next) ? level + 1 : level;
}

/** 1, 2, 5, 10, 20, ...: the least that keeps labels apart. */
function thin(pitch: number, need: number): number {
  let every = 1;
  for (let i = 0; every * pitch < need; i++) every *= i % 3 === 1 ? 2.5 : 2;
  return every;
}

/** What an axis is called, and what it is sorted by. */
export function nameOf({ layout }: Sheet, axis: number): string {
  const by = layout.orders.find((order) => order.axis === axis)?.by;
  const how = by === undefined ? "" : by === "similar" ? "alike" : `by ${by}`;
  return `${layout.labels[axis] ?? ""} ${how}`.trim();
}

const nameOfStep = (sheet: Sheet, { axis, group }: Step): string => (group ? group.name : nameOf(sheet, axis));

const textOf = (sheet: Sheet, { axis, group, size }: Step, k: number): string =>
  group ? (group.labels[k % size] ?? "") : String(indexAt(sheet, axis, k % size));

const longestOf = ({ group, size }: Step): number =>
  group ? Math.max(...group.labels.map((label) => label.length)) : String(size - 1).length;

/** Room on the left that row labels need: the longest number, and the axis name where it is short. */
export function marginFor(sheet: Sheet): number {
  const candidates = steps(sheet, sheet.layout.rows);
  if (candidates.length === 0) return sheet.layout.columns.length > 0 || sheet.facets > 1 ? 34 : 12;
  let longest = 0;
  for (const each of candidates) {
    longest = Math.max(longest, nameOfStep(sheet, each).length + 1 + longestOf(each));
  }
  return Math.max(34, Math.ceil(Math.min(longest, 14) * CHARACTER) + 14);
}

/** The region of step `level` at cell `at` of a block: outer axes fixed too, as far as `fixed` says they are. */
function regionAt(sheet: Sheet, all: Step[], level: number, at: number, facet: number | null): AxisRange[] {
  const ranges = shownRanges(sheet);
  for (const step of all.slice(0, level + 1)) {
    const { axis, group } = step;
    const k = countAt(step, at) % step.size;
    const stop = group?.starts[k + 1] ?? sheet.layout.shape[axis] ?? 1;
    ranges[axis] = group ? [group.starts[k] ?? 0, stop, 1] : [k, k + 1, 1];
  }
  if (facet !== null) fixFacet(sheet, ranges, facet);
  return ranges;
}

function fixFacet(sheet: Sheet, ranges: AxisRange[], facet: number): void {
  const { layout } = sheet;
  for (const axis of [...layout.facets].reverse()) {
    const n = layout.shape[axis] ?? 1;
    ranges[axis] = [facet % n, (facet % n) + 1, 1];
    facet = Math.floor(facet / n);
  }
}

/** All cells of one facet: what a click on its frame or label selects. */
export function facetRegion(sheet: Sheet, facet: number): AxisRange[] {
  const ranges = shownRanges(sheet);
  fixFacet(sheet, ranges, facet);
  return ranges;
}

/** Without facets, the frame of a block belongs to the outermost axis of its direction. */
export function blockRegion(sheet: Sheet, row: number, column: number, of: "rows" | "columns"): AxisRange[] {
  return regionAt(sheet, steps(sheet, sheet.layout[of]), 0, of === "rows" ? row : column, null);
}

/** Which steps the margin counts in, and of which one its labels are. `alone`: the only facet on screen. */
interface Counted {
  all: Step[];
  level: number;
  step: Step;
  alone: number | null;
}

function countedRows(sheet: Sheet, view: View): Counted | null {
  const all = steps(sheet, sheet.layout.rows);
  const seen = visible(view);
  const block = sheet.block_rows;
  const one_line = Math.floor(seen.row0 / block) === Math.floor((seen.row1 - 1) / block);
  const outer = one_line ? chosen(all, seen.row0 % block, ((seen.row1 - 1) % block) + 1) : 0;
  const level = deeper(all, outer, view.rows, () => 14);
  const step = all[level];
  // Above every line of facets the count begins anew, and a label says which facets only when all on screen are one.
  const alone = sheet.facets > 1 && one_line && sheet.wrap === 1 ? Math.floor(seen.row0 / block) : null;
  return step ? { all, level, step, alone } : null;
}

function countedColumns(sheet: Sheet, view: View): Counted | null {
  const all = steps(sheet, sheet.layout.columns);
  const seen = visible(view);
  const outer = chosen(all, seen.column0, seen.column1);
  const level = deeper(all, outer, view.columns, (of) => longestOf(of) * CHARACTER + 10);
  const step = all[level];
  return step ? { all, level, step, alone: null } : null;
}

/** What the margin stands for beside a cell, also where no number is printed. */
export interface Named {
  region: AxisRange[];
  text: string;
  /** Less than a pixel: nobody can point at it, and a printed neighbour is what is meant. */
  thin: boolean;
}

function namedAt(sheet: Sheet, counted: Counted, axis: Axis, at: number): Named {
  const { all, level, step, alone } = counted;
  const said = all.slice(0, level + 1).filter((each) => !each.group || each === step);
  const text = said.map((each) => `${nameOfStep(sheet, each)} ${textOf(sheet, each, countAt(each, at))}`).join(" ");
  const thin = extentOf(axis, step.starts ? 1 : step.stride, at) < 1;
  return { region: regionAt(sheet, all, level, at, alone), text, thin };
}

export function rowAt(sheet: Sheet, view: View, row: number): Named | null {
  const counted = countedRows(sheet, view);
  return counted && namedAt(sheet, counted, view.rows, row % sheet.block_rows);
}

/** The column, or where there are facets the one of them in this line of blocks. */
export function columnAt(sheet: Sheet, view: View, column: number, line: number): Named | null {
  if (sheet.facets === 1) {
    const counted = countedColumns(sheet, view);
    return counted && namedAt(sheet, counted, view.columns, column);
  }
  const facet = line * sheet.wrap + Math.floor(column / sheet.block_columns);
  if (facet >= sheet.facets) return null;
  const region = facetRegion(sheet, facet);
  const name = sheet.layout.facets.map((axis) => nameOf(sheet, axis)).join(" ");
  return { region, text: `${name} ${facetText(sheet, region)}`, thin: false };
}

function rowLabels(sheet: Sheet, view: View): Label[] {
  const counted = countedRows(sheet, view);
  if (!counted) return [];
  const { all, level, step, alone } = counted;
  const seen = visible(view);
  const axis = view.rows;
  const block = sheet.block_rows;
  const every = step.starts ? 1 : thin(extentOf(axis, step.stride, seen.row0), 16);
  const out: Label[] = [];
  const name = nameOfStep(sheet, step);
  const first_line = Math.floor(seen.row0 / block);
  const last_line = Math.floor((seen.row1 - 1) / block);
  for (let line = first_line; line <= last_line; line++) {
    const low = Math.max(seen.row0, line * block);
    const high = Math.min(seen.row1, (line + 1) * block);
    const begin = line * block;
    for (const found of stretches(step, low - begin, high - begin, block, every)) {
      const start = begin + found.start;
      const stop = begin + found.stop;
      const y0 = Math.max(0, view.y + position(axis, start));
      const y1 = Math.min(view.area.height, view.y + endOf(axis, stop));
      if (y1 <= y0) continue;
      // Not above the sheet, where the labels of columns are.
      const y = Math.max(5, (y0 + y1) / 2);
      const last = out.at(-1);
      if (last && y - last.y < 11.5) continue;
      const half = Math.max((y1 - y0) / 2, 6);
      out.push({
        text: textOf(sheet, step, found.k),
        prefix: "",
        x: -8,
        y,
        align: "right",
        box: { x0: -200, y0: y - half, x1: 0, y1: y + half },
        region: regionAt(sheet, all, level, found.start, alone),
        kind: "row",
      });
    }
  }
  // The name with each of a few labels; with many once is enough.
  out.forEach((label, i) => {
    if (name && (i === 0 || out.length <= 8)) label.text = `${name} ${label.text}`;
  });
  return out;
}

/** Pixels from one block of `stride` cells to the next. */
function extentOf(axis: Axis, stride: number, near: number): number {
  const start = Math.floor(near / stride) * stride;
  return position(axis, start + stride) - position(axis, start);
}

/** Labels along the top; with facets one row of labels above each line of facets that has room for it. */
function topLabels(sheet: Sheet, view: View): Label[] {
  const seen = visible(view);
  const out: Label[] = [];
  const axis = view.columns;
  const facets = sheet.facets > 1;
  const counted = facets ? null : countedColumns(sheet, view);
  if (!facets && !counted) return out;
  const { all, level } = counted ?? { all: [], level: 0 };
  const step: Step = counted?.step ?? { axis: -1, stride: sheet.block_columns, size: sheet.facets };
  const axis_name = facets ? sheet.layout.facets.map((each) => nameOf(sheet, each)).join(" ") : nameOfStep(sheet, step);
  const pitch = extentOf(axis, step.stride, seen.column0);
  const digits = longestOf(step) + (facets ? (sheet.layout.facets.length - 1) * 2 : 0);
  const every = step.starts ? 1 : thin(pitch, digits * CHARACTER + 10);
  const lines = facets ? Math.floor((seen.row1 - 1) / sheet.block_rows) : 0;
  const gap = view.rows.gaps.at(-1);
  const roomy = facets && gap !== undefined && gap.every === sheet.block_rows && gap.px >= 14;
  const left_most = view.x + position(axis, seen.column0);
  for (let line = facets ? Math.floor(seen.row0 / sheet.block_rows) : 0; line <= lines; line++) {
    const top = Math.max(0, view.y + position(view.rows, line * sheet.block_rows));
    if (line * sheet.block_rows > seen.row0 && !roomy) break;
    let first = true;
    let end = 0;
    for (const { k, start: from, stop } of stretches(step, seen.column0, seen.column1, sheet.columns, every)) {
      const facet = line * sheet.wrap + k;
      if (facets && (facet >= sheet.facets || k >= sheet.wrap)) break;
      const x0 = view.x + position(axis, from);
      const x1 = view.x + endOf(axis, stop);
      const region = facets ? facetRegion(sheet, facet) : regionAt(sheet, all, level, from, null);
      const text = facets ? facetText(sheet, region) : textOf(sheet, step, k);
      const width = text.length * CHARACTER;
      // A block narrower than its label has it centred; a wide one at its left edge, like a heading.
      const centred = x1 - x0 < width + 12;
      const x = centred ? (Math.max(x0, 0) + x1) / 2 : Math.max(x0, 0) + 1;
      if (x1 < 0 || x > view.area.width) continue;
      const start = centred ? x - width / 2 : x;
      const last = first ? undefined : out.at(-1);
      if (last && start < end + 5) {
        // Only a block that is cut off at the left can be in the way: its label goes.
        out.pop();
        first = last.prefix !== "";
      }
      end = start + width;
      out.push({
        text,
        prefix: first ? axis_name : "",
        x,
        y: top - LIFT,
        align: centred ? "center" : "left",
        box: {
          x0: Math.min(Math.max(x0, 0), centred ? x - width / 2 : x0),
          x1: Math.max(x1, centred ? x + width / 2 : x1),
          y0: top - 20,
          y1: top,
        },
        region,
        kind: facets ? "facet" : "column",
      });
      first = false;
    }
    // The name stands in the margin, where nothing else is; with the first label scrolled off it stays.
    if (first && out.length === 0) {
      out.push({
        text: "",
        prefix: axis_name,
        x: Math.max(0, left_most),
        y: top - LIFT,
        align: "left",
        box: { x0: 0, x1: 0, y0: 0, y1: 0 },
        region: shownRanges(sheet),
        kind: "column",
      });
    }
  }
  return out;
}

function facetText(sheet: Sheet, region: AxisRange[]): string {
  return sheet.layout.facets.map((axis) => String(indexAt(sheet, axis, region[axis]?.[0] ?? 0))).join(",");
}

export function labels(sheet: Sheet, view: View): Label[] {
  if (sheet.cells === 0) return [];
  return [...topLabels(sheet, view), ...rowLabels(sheet, view)];
}

export function labelAt(all: Label[], x: number, y: number): Label | null {
  return all.find(({ box, text }) => text !== "" && x >= box.x0 && x < box.x1 && y >= box.y0 && y < box.y1) ?? null;
}
