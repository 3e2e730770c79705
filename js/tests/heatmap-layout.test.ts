import { expect, test } from "vitest";
import {
  type AxisRange,
  cellOf,
  cellsOfFlat,
  flatOf,
  indexOf,
  isBlank,
  isShown,
  makeSheet,
  type Rect,
} from "../src/heatmap/layout";
import { boundsOf, pickedAt, placesOf } from "../src/heatmap/places";
import { nextIn, rectsOfRegion, regionMeets, regionOfRect, regionsOfRect, runsIn } from "../src/heatmap/regions";
import type { Layout } from "../src/kernel/protocol";
import { below, indices, PLAIN, random, randomLayout, randomSheet } from "./heatmap-seed";

const conv: Layout = {
  ...PLAIN,
  rows: [1, 2],
  columns: [3],
  facets: [0],
  wrap: 3,
  labels: ["out", "in", "kh", "kw"],
  shape: [7, 2, 3, 3],
};

const within = (index: number[], ranges: AxisRange[]) =>
  index.every((at, axis) => {
    const [start, stop, step] = ranges[axis] as AxisRange;
    return at >= start && at < stop && (at - start) % step === 0;
  });

function randomRanges(next: () => number, shape: number[]): AxisRange[] {
  return shape.map((n) => {
    const start = below(next, n);
    return next() < 0.3 ? [0, n, 1] : [start, start + 1 + below(next, n - start), 1 + below(next, 3)];
  });
}

const NO_GAP = { rows: 0, columns: 0 };

const isPicked = (index: number[], parts: AxisRange[][]) => parts.some((ranges) => within(index, ranges));

/** Boxes that differ along one axis and do not touch there. */
function randomParts(next: () => number, shape: number[]): AxisRange[][] {
  const like = randomRanges(next, shape);
  if (shape.length === 0 || next() < 0.4) return [like];
  const axis = below(next, shape.length);
  const some = [...Array(shape[axis] ?? 1).keys()].filter(() => next() < 0.4);
  return some.map((at) => like.map((range, i): AxisRange => (i === axis ? [at, at + 1, 1] : range)));
}

function randomRect(next: () => number, rows: number, columns: number): Rect {
  const row0 = below(next, rows);
  const column0 = below(next, columns);
  return {
    row0,
    row1: row0 + 1 + below(next, rows - row0),
    column0,
    column1: column0 + 1 + below(next, columns - column0),
  };
}

test("every index has one cell of the sheet, and the cell has that index", () => {
  const next = random(1);
  for (let round = 0; round < 60; round++) {
    const sheet = randomSheet(next);
    const seen = new Set<number>();
    let flat = 0;
    for (const index of indices(sheet.layout.shape)) {
      expect(flatOf(sheet, index)).toBe(flat++);
      if (!isShown(sheet, index)) continue;
      const { row, column } = cellOf(sheet, index);
      expect(indexOf(sheet, row, column)).toEqual(index);
      seen.add(row * sheet.columns + column);
    }
    expect(seen.size).toBe(sheet.cells);
    for (let row = 0; row < sheet.rows; row++) {
      for (let column = 0; column < sheet.columns; column++) {
        if (isBlank(sheet, row, column) === seen.has(row * sheet.columns + column))
          expect.unreachable(`${row},${column}`);
      }
    }
  }
});

test("the layout of the protocol, by hand: facet 4 of a convolution with three blocks a line", () => {
  const sheet = makeSheet(conv);
  expect([sheet.rows, sheet.columns]).toEqual([18, 9]);
  expect(cellOf(sheet, [4, 1, 2, 0])).toEqual({ row: 6 + 3 + 2, column: 3 });
  expect(indexOf(sheet, 12, 3)).toBeNull();
  expect(sheet.row_blocks).toEqual([3, 6]);
  expect(sheet.column_blocks).toEqual([3]);
});

test("a scalar is one cell, an empty tensor none", () => {
  const none = { ...PLAIN, rows: [], columns: [], facets: [], wrap: 1, labels: [], shape: [] };
  expect(indexOf(makeSheet(none), 0, 0)).toEqual([]);
  const empty = makeSheet({ ...PLAIN, ...none, rows: [0], columns: [1], shape: [0, 4], labels: ["", ""] });
  expect(empty.cells).toBe(0);
  expect(indexOf(empty, 0, 0)).toBeNull();
  expect(regionOfRect(empty, { row0: 0, row1: 1, column0: 0, column1: 1 })).toBeNull();
});

test("a rectangle within one block is exactly its cells", () => {
  const region = regionOfRect(makeSheet(conv), { row0: 10, row1: 11, column0: 4, column1: 6 });
  expect(region).toEqual([
    [4, 5, 1],
    [1, 2, 1],
    [1, 2, 1],
    [1, 3, 1],
  ]);
});

test("a rectangle over a block boundary snaps to whole inner axes", () => {
  const sheet = makeSheet(conv);
  // Rows 2 and 3 are the last of in 0 and the first of in 1: all of kh.
  expect(regionOfRect(sheet, { row0: 2, row1: 4, column0: 0, column1: 1 })).toEqual([
    [0, 1, 1],
    [0, 2, 1],
    [0, 3, 1],
    [0, 1, 1],
  ]);
  // Over two facets of a line the columns are whole, the rows stay.
  expect(regionOfRect(sheet, { row0: 3, row1: 4, column0: 2, column1: 4 })).toEqual([
    [0, 2, 1],
    [1, 2, 1],
    [0, 1, 1],
    [0, 3, 1],
  ]);
  // Down one column of facets: every third.
  expect(regionOfRect(sheet, { row0: 5, row1: 7, column0: 4, column1: 5 })).toEqual([
    [1, 5, 3],
    [0, 2, 1],
    [0, 3, 1],
    [1, 2, 1],
  ]);
  // Over lines and columns of facets: whole lines.
  expect(regionOfRect(sheet, { row0: 5, row1: 7, column0: 2, column1: 4 })?.[0]).toEqual([0, 6, 1]);
  // Into the blank corner: only what exists.
  expect(regionOfRect(sheet, { row0: 12, row1: 18, column0: 0, column1: 9 })?.[0]).toEqual([6, 7, 1]);
  expect(regionOfRect(sheet, { row0: 12, row1: 18, column0: 3, column1: 9 })).toBeNull();
});

test("the region of a rectangle holds every cell of it", () => {
  const next = random(2);
  for (let round = 0; round < 300; round++) {
    const sheet = randomSheet(next);
    const { layout } = sheet;
    const rect = randomRect(next, sheet.rows, sheet.columns);
    const places = regionOfRect(sheet, rect);
    const region = places && pickedAt(sheet, [places]);
    if (region === null && places) continue; // scattered along two sorted axes
    for (let row = rect.row0; row < rect.row1; row++) {
      for (let column = rect.column0; column < rect.column1; column++) {
        const index = indexOf(sheet, row, column);
        // The one exception is a drag from above into the blank corner; then the blank line is left out.
        const skipped = index && region && row >= sheet.blank.row && rect.column0 >= sheet.blank.column;
        if (index && !skipped)
          expect(region && isPicked(index, region), `${JSON.stringify({ layout, rect })}`).toBe(true);
      }
    }
    for (const part of region ?? []) for (const [start, stop] of part) expect(start).toBeLessThan(stop);
  }
});

test("rectangles of a region cover its cells and no others", () => {
  const next = random(3);
  for (let round = 0; round < 300; round++) {
    const sheet = randomSheet(next);
    const { layout } = sheet;
    const picked = randomParts(next, layout.shape);
    const view = randomRect(next, sheet.rows, sheet.columns);
    const rects = placesOf(sheet, picked).flatMap((ranges) => rectsOfRegion(sheet, ranges, view, NO_GAP));
    for (let row = view.row0; row < view.row1; row++) {
      for (let column = view.column0; column < view.column1; column++) {
        const index = indexOf(sheet, row, column);
        const covered = rects.filter(
          (r) => row >= r.row0 && row < r.row1 && column >= r.column0 && column < r.column1,
        ).length;
        expect(covered, JSON.stringify({ layout, picked, view, row, column, rects })).toBe(
          index && isPicked(index, picked) ? 1 : 0,
        );
      }
    }
  }
});

test("what is shown at places is picked there again", () => {
  const next = random(6);
  for (let round = 0; round < 200; round++) {
    const sheet = randomSheet(next);
    const places = regionOfRect(sheet, randomRect(next, sheet.rows, sheet.columns));
    const parts = places && pickedAt(sheet, [places]);
    if (!parts || !places) continue;
    const again = placesOf(sheet, parts);
    for (const index of indices(sheet.layout.shape)) {
      const hits = again.filter((ranges) => within(index, ranges)).length;
      expect(hits, JSON.stringify({ layout: sheet.layout, places, again })).toBe(within(index, places) ? 1 : 0);
    }
  }
});

test("an edit of a sorted or sliced picture makes every tile stale that it touches", () => {
  const next = random(7);
  for (let round = 0; round < 300; round++) {
    const sheet = randomSheet(next);
    const ranges = randomRanges(next, sheet.layout.shape);
    const rect = randomRect(next, sheet.rows, sheet.columns);
    let any = false;
    for (let row = rect.row0; row < rect.row1; row++) {
      for (let column = rect.column0; column < rect.column1; column++) {
        const index = indexOf(sheet, row, column);
        any ||= index !== null && within(index, ranges);
      }
    }
    if (any) expect(regionMeets(sheet, boundsOf(sheet, ranges), rect)).toBe(true);
  }
});

test("a region meets a rectangle exactly when a cell of it lies inside", () => {
  const next = random(4);
  for (let round = 0; round < 600; round++) {
    const layout = randomLayout(next);
    const sheet = makeSheet(layout);
    const ranges = randomRanges(next, layout.shape);
    const rect = randomRect(next, sheet.rows, sheet.columns);
    let any = false;
    for (let row = rect.row0; row < rect.row1; row++) {
      for (let column = rect.column0; column < rect.column1; column++) {
        const index = indexOf(sheet, row, column);
        any ||= index !== null && within(index, ranges);
      }
    }
    expect(regionMeets(sheet, ranges, rect), JSON.stringify({ layout, ranges, rect })).toBe(any);
  }
});

test("nextIn and runsIn agree with counting", () => {
  const next = random(5);
  for (let round = 0; round < 300; round++) {
    const radix = Array.from({ length: below(next, 4) }, () => 1 + below(next, 5));
    const ranges = randomRanges(next, radix);
    const members = [...indices(radix)].map((digits) => within(digits, ranges));
    const low = below(next, members.length + 1);
    const at = members.indexOf(true, low);
    expect(nextIn(radix, ranges, low)).toBe(at);
    const runs = runsIn(radix, ranges, 0, members.length);
    const covered = members.map((_, i) => runs.some(([a, b]) => i >= a && i < b));
    expect(covered).toEqual(members);
  }
});

test("a huge tensor with a step costs a bounded number of rectangles", () => {
  const sheet = makeSheet({
    ...PLAIN,
    rows: [0],
    columns: [1],
    facets: [],
    wrap: 1,
    labels: ["", ""],
    shape: [10_000_000, 4096],
  });
  const view = { row0: 0, row1: 10_000_000, column0: 0, column1: 4096 };
  const started = performance.now();
  const rects = rectsOfRegion(
    sheet,
    [
      [0, 10_000_000, 2],
      [0, 4096, 3],
    ],
    view,
    { rows: 0, columns: 0 },
  );
  expect(rects.length).toBeLessThanOrEqual(512);
  expect(performance.now() - started).toBeLessThan(500);
});

test("listed flat indices lie in the sheet where their tensor indices do", () => {
  const sheet = makeSheet(conv);
  const [out, inside, height, width] = conv.shape as [number, number, number, number];
  const index = [out - 1, inside - 1, 0, width - 1];
  const { row, column } = cellOf(sheet, index);
  expect(height).toBeGreaterThan(0);
  expect(cellsOfFlat(sheet, [flatOf(sheet, index), 0])).toEqual([row * sheet.columns + column, 0]);
});

test("a drag over several bands of a contact sheet takes the filters under it, as a whole", () => {
  // 11 filters of 3 x 3, four in a band: 0 1 2 3 / 4 5 6 7 / 8 9 10.
  const layout = {
    rows: [2],
    columns: [3],
    facets: [0, 1],
    wrap: 4,
    labels: ["", "", "", ""],
    shape: [11, 1, 3, 3],
    fixed: [],
    groups: [],
    norm: "",
    orders: [],
  };
  const sheet = makeSheet({ ...layout, facets: [0], rows: [1, 2] });
  const filters = (rect: [number, number, number, number]): number[][] =>
    regionsOfRect(sheet, { row0: rect[0], row1: rect[1], column0: rect[2], column1: rect[3] }).map((ranges) => {
      expect(ranges.slice(1)).toEqual([
        [0, 1, 1],
        [0, 3, 1],
        [0, 3, 1],
      ]);
      return (ranges[0] as number[]).slice(0, 2);
    });
  expect(filters([1, 5, 4, 8])).toEqual([
    [1, 3],
    [5, 7],
  ]);
  expect(filters([1, 9, 7, 8])).toEqual([
    [2, 3],
    [6, 7],
    [10, 11],
  ]);
  // The whole width is one range; blank blocks are nothing.
  expect(filters([1, 5, 0, 12])).toEqual([[0, 8]]);
  expect(filters([4, 9, 9, 12])).toEqual([[7, 8]]);
});

test("groups of an axis set blocks apart; sorting it takes them away", () => {
  const gate = { axis: 0, name: "gate", starts: [0, 3, 6, 9], labels: ["i", "f", "g", "o"], source: "" };
  const lstm = { ...PLAIN, rows: [0], columns: [1], facets: [], wrap: 1, labels: ["out", "in"], shape: [12, 5] };
  expect(makeSheet({ ...lstm, groups: [gate] }).row_blocks).toEqual([3]);
  const orders = [{ axis: 0, by: "norm", token: "1" }];
  expect(makeSheet({ ...lstm, groups: [gate], orders }).row_blocks).toEqual([]);
  const parts = { axis: 0, name: "", starts: [0, 8, 10], labels: ["q", "k", "v"], source: "" };
  const heads = { axis: 0, name: "head", starts: [0, 2, 4, 6, 8, 10], labels: [..."012345"], source: "" };
  const grouped = makeSheet({ ...lstm, rows: [0, 1], columns: [], groups: [parts, heads] });
  expect(grouped.row_blocks).toEqual([5, 10]);
  expect(grouped.row_breaks).toEqual([40, 50]);
});
