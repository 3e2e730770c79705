import { expect, test } from "vitest";
import { barAxis, barsCounted, barsOf, barTicks, edgesOf, isCoarse, shareOf, valueAt } from "../src/heatmap/bar";
import { paint } from "../src/heatmap/canvas2d";
import { type ColourMap, colours, ENTRIES, rgb, spotlight } from "../src/heatmap/colormap";
import {
  ABOVE_ENTRY,
  BELOW_ENTRY,
  bend,
  entryOf,
  makeScale,
  NAN_ENTRY,
  NEGATIVE_ENTRY,
  POSITIVE_ENTRY,
  rangeOf,
  unbend,
  valuesOf,
} from "../src/heatmap/scale";
import type { Summary } from "../src/kernel/protocol";
import type { Curve } from "../src/state/store";
import { random } from "./heatmap-seed";

const CURVES: Curve[] = ["linear", "symlog", "log"];
const two = makeScale(-2, 2, "linear", true);

test("0 is the middle colour, the ends are the mock's, what is odd has colours of its own", () => {
  for (const dark of [false, true]) {
    const of = colours(dark);
    const at = (value: number) => rgb(of, entryOf(value, two)).join();
    expect(at(0)).toBe(dark ? "38,41,48" : "246,246,247");
    expect(at(-0)).toBe(at(0));
    expect(at(2)).toBe(dark ? "240,120,90" : "178,40,43");
    expect(at(-2)).toBe(dark ? "88,164,240" : "33,102,172");
    const odd = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1e30, -1e30].map(at);
    expect(new Set([...odd, at(2), at(-2), at(0)]).size).toBe(8);
  }
  expect([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 3, -3].map((v) => entryOf(v, two))).toEqual([
    NAN_ENTRY,
    POSITIVE_ENTRY,
    NEGATIVE_ENTRY,
    ABOVE_ENTRY,
    BELOW_ENTRY,
  ]);
});

test("the entry of a value is that of the formula, and its edges are ordered", () => {
  const next = random(41);
  for (const curve of CURVES)
    for (const diverging of [false, true]) {
      const low = curve === "log" ? 0.003 : -1.25;
      const scale = makeScale(low, 2.5, curve, diverging);
      const formula = (v: number) =>
        scale.base + Math.floor((bend(v, curve, scale.knee) - scale.origin) * scale.gain + 0.5);
      for (let e = 3; e < 256; e++) expect(scale.edges[e]).toBeGreaterThan(scale.edges[e - 1] as number);
      for (let i = 0; i < 2000; i++) {
        const value = Math.fround(low + next() * (2.5 - low));
        // Next to an edge the rounding of the edge decides; anywhere else both say the same.
        expect(Math.abs(entryOf(value, scale) - formula(value))).toBeLessThanOrEqual(1);
        expect(unbend(bend(value, curve, scale.knee), curve, scale.knee)).toBeCloseTo(value, 9);
      }
      let wrong = 0;
      for (let i = 0; i < 2000; i++) {
        const value = Math.fround(low + next() * (2.5 - low));
        if (entryOf(value, scale) !== formula(value)) wrong++;
      }
      expect(wrong).toBeLessThan(3);
    }
});

test("the values of an entry are all of it, and nothing of the next", () => {
  for (const curve of CURVES) {
    const scale = makeScale(curve === "log" ? 1e-3 : -1, 1, curve, true);
    for (let entry = 1; entry < 256; entry++) {
      const [low, high] = valuesOf(entry, scale);
      if (low > high) continue;
      expect(entryOf(low, scale)).toBe(entry);
      expect(entryOf(high, scale)).toBe(entry);
      if (entry < 255) expect(valuesOf(entry + 1, scale)[0]).toBeGreaterThan(high);
    }
  }
});

test("log is of magnitudes: both signs look alike, and 0 lies below", () => {
  const scale = makeScale(1e-4, 1, "log", false);
  for (const value of [1e-4, 0.03, 0.5, 1]) expect(entryOf(-value, scale)).toBe(entryOf(value, scale));
  expect(entryOf(0, scale)).toBe(BELOW_ENTRY);
  expect(entryOf(1e-4, scale)).toBe(1);
  expect(entryOf(1, scale)).toBe(255);
});

const summary: Summary = {
  count: 100,
  nan: 0,
  inf: 0,
  zero: 0,
  min: -2,
  max: 1,
  mean: 0,
  std: 1,
  l2: 1,
  quantiles: [
    [0.0025, -1],
    [0.5, 0],
    [0.9975, 0.8],
  ],
  histogram: { low: -2, high: 1, counts: [10, 40, 50] },
  exact: true,
  sampled: 100,
};

test("each kind of range, signed and not, and never an empty one", () => {
  const signed = { summary, signed: true, extent: [-4, 3] as [number, number] };
  expect(rangeOf({ kind: "symmetric" }, "linear", signed)).toEqual([-2, 2]);
  expect(rangeOf({ kind: "full" }, "linear", signed)).toEqual([-2, 1]);
  expect(rangeOf({ kind: "robust" }, "linear", signed)).toEqual([-1, 1]);
  expect(rangeOf({ kind: "shared" }, "linear", signed)).toEqual([-4, 4]);
  expect(rangeOf({ kind: "typed", low: 0.1, high: 0.3 }, "linear", signed)).toEqual([0.1, 0.3]);
  expect(rangeOf({ kind: "symmetric" }, "log", signed)).toEqual([2e-4, 2]);
  const squares = { summary: { ...summary, min: 0.5 }, signed: false, extent: null };
  expect(rangeOf({ kind: "symmetric" }, "linear", squares)).toEqual([0, 1]);
  expect(rangeOf({ kind: "full" }, "linear", squares)).toEqual([0.5, 1]);
  for (const [min, max] of [
    [0, 0],
    [null, null],
    [3, 3],
    [-3, -3],
  ])
    for (const curve of CURVES)
      for (const kind of ["symmetric", "full", "robust", "shared"] as const) {
        const ground = { summary: { ...summary, min, max, quantiles: [] } as Summary, signed: true, extent: null };
        const [low, high] = rangeOf({ kind }, curve, ground);
        expect(low).toBeLessThan(high);
      }
});

test("histogram rows stand at their values; those outside the range are counted", () => {
  const axis = barAxis(two, summary);
  const seen = barsOf(summary, axis, two);
  expect([seen.above, seen.below]).toEqual([0, 0]);
  const near = (value: number) => seen.bars.find(({ y, height }) => y + height > shareOf(value, axis))?.share ?? 0;
  // Lengths are square roots of counts: bins of 10, 40 and 50 cells, and nothing above 1.
  expect(near(-1.5) / near(0.5)).toBeCloseTo(Math.sqrt(10 / 50), 6);
  expect(near(-0.5) / near(0.5)).toBeCloseTo(Math.sqrt(40 / 50), 6);
  expect(Math.min(...seen.bars.map(({ y }) => y))).toBeCloseTo(0.25, 6);
  const narrow = makeScale(-1, 1, "linear", true);
  expect(barsOf(summary, barAxis(narrow, summary), narrow).below).toBe(10);
});

test("the bar shows all values, but far outliers do not press its colours into a line", () => {
  const far = { ...summary, min: -500, max: 500 };
  for (const curve of CURVES) {
    const scale = makeScale(curve === "log" ? 1e-3 : -1, 1, curve, true);
    const axis = barAxis(scale, far);
    expect(shareOf(scale.low, axis) - shareOf(scale.high, axis)).toBeGreaterThanOrEqual(0.49);
    for (const share of [0, 0.3, 1]) expect(shareOf(valueAt(share, axis), axis)).toBeCloseTo(share, 9);
    const ticks = barTicks(axis, scale, 400);
    expect(ticks.filter(({ end }) => end).map(({ value }) => value)).toEqual([scale.high, scale.low]);
    const places = ticks.map(({ share }) => share * 400).sort((a, b) => a - b);
    for (let i = 1; i < places.length; i++) {
      expect((places[i] as number) - (places[i - 1] as number)).toBeGreaterThan(14);
    }
    if (curve !== "log") expect(ticks.map(({ value }) => value)).toContain(0);
  }
});

test("a map of the kernel fills the table; a spotlight fades all but some entries", () => {
  const table = Uint8Array.from({ length: 768 }, (_, i) => Math.floor(i / 3));
  const map: ColourMap = { name: "test", kind: "sequential", table };
  const of = colours(false, map);
  expect([1, 77, 255].map((entry) => rgb(of, entry)[0])).toEqual([1, 77, 255]);
  expect(colours(false, map)).toBe(of);
  const lit = spotlight(of, 10, 20);
  for (let entry = 0; entry < ENTRIES; entry++) {
    const same = rgb(lit, entry).join() === rgb(of, entry).join();
    expect(same || entry < 10 || entry > 20).toBe(true);
    if (entry < 10) expect(same).toBe(false);
  }
});

test("a scene painted in software: cells, gaps, blank corner, what has not come, and later tiles on top", () => {
  const of = colours(false);
  const tile = (plane: number[], clip: { row0: number; row1: number; column0: number; column1: number }) => ({
    plane: Float32Array.from(plane),
    rows: 2,
    columns: 2,
    row_level: 0,
    column_level: 0,
    row: 0,
    column: 0,
    clip,
    x0: 0,
    x1: 4,
    y0: 0,
    y1: 4,
  });
  const pixels = new Uint32Array(16);
  paint(
    {
      width: 4,
      height: 4,
      rows: Int32Array.from([0, 0, 1, 2]),
      columns: Int32Array.from([0, -1, 1, 2]),
      blank: { row: 2, column: 2 },
      tiles: [
        tile([1, 1, 1, 1], { row0: 0, row1: 2, column0: 0, column1: 2 }),
        tile([-1, Number.NaN, 0, 0], { row0: 0, row1: 1, column0: 0, column1: 2 }),
      ],
      colours: of,
      scale: makeScale(-1, 1, "linear", true),
      hatched: false,
      whole: false,
    },
    pixels,
  );
  const at = (x: number, y: number) => Array.from(new Uint8Array(pixels.buffer, (y * 4 + x) * 4, 3)).join();
  expect(at(0, 0)).toBe(rgb(of, 1).join());
  expect(at(2, 1)).toBe(rgb(of, NAN_ENTRY).join());
  expect(at(1, 0)).toBe(of.background.join());
  expect(at(0, 2)).toBe(rgb(of, 255).join());
  expect(at(3, 0)).toBe(of.waiting.join());
  expect(at(3, 3)).toBe(of.background.join());
});

test("small cells that are not finite are hatched, each kind its own way, also over rows that show the same cells", () => {
  const of = colours(false);
  const plane = Float32Array.from([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]);
  const clip = { row0: 0, row1: 1, column0: 0, column1: 3 };
  const pixels = new Uint32Array(12 * 4);
  paint(
    {
      width: 12,
      height: 4,
      rows: new Int32Array(4),
      columns: Int32Array.from({ length: 12 }, (_, x) => Math.floor(x / 4)),
      blank: { row: 1, column: 3 },
      tiles: [
        {
          plane,
          rows: 1,
          columns: 3,
          row_level: 0,
          column_level: 0,
          row: 0,
          column: 0,
          clip,
          x0: 0,
          x1: 12,
          y0: 0,
          y1: 4,
        },
      ],
      colours: of,
      scale: two,
      hatched: true,
      whole: false,
    },
    pixels,
  );
  const mark = new Uint32Array(Uint8Array.from([...of.mark, 255]).buffer)[0];
  const marked = (cell: number) =>
    [...pixels].flatMap((pixel, i) =>
      Math.floor((i % 12) / 4) === cell && pixel === mark ? [[i % 4, Math.floor(i / 12)]] : [],
    );
  expect(marked(0)).toEqual([
    [0, 0],
    [3, 1],
    [2, 2],
    [1, 3],
  ]);
  expect(marked(1)).toEqual([
    [0, 0],
    [1, 0],
    [2, 0],
    [3, 0],
  ]);
  expect(marked(2)).toEqual([
    [0, 0],
    [0, 1],
    [0, 2],
    [0, 3],
  ]);
});

test("what lies outside the range is never counted too high, however coarse the histogram", () => {
  const counts = Array.from({ length: 64 }, (_, i) => (i === 0 ? 59_999 : i === 63 ? 1 : 0));
  const outlier = { ...summary, min: -4, max: 1e4, histogram: { low: -4, high: 1e4, counts } } as Summary;
  const scale = makeScale(-3, 3, "linear", true);
  const seen = barsOf(outlier, barAxis(scale, outlier), scale);
  expect(seen.above, "of the bin from -4 to 152 nobody knows").toBe(1);
  expect(seen.least).toEqual({ above: true, below: true });
  const all = makeScale(-1e4, 1e4, "linear", true);
  expect(barsOf(outlier, barAxis(all, outlier), all)).toMatchObject({
    above: 0,
    below: 0,
    least: { above: false, below: false },
  });
  const sizes = makeScale(1, 1e4, "log", true);
  const small = barsOf(outlier, barAxis(sizes, outlier), sizes);
  expect([small.above, small.below, small.least.below]).toEqual([0, 1, true]);
});

test("counts of the kernel stand from the bottom; beside an outlier they are asked for, and none outside is missed", () => {
  const histogram = { low: -1, high: 1e6, counts: [999, ...new Array(62).fill(0), 1] };
  const some = { count: 1000, nan: 0, inf: 0, zero: 0, mean: 0, std: 1, l2: 1, quantiles: [] as [number, number][] };
  const summary: Summary = { ...some, min: -1, max: 1e6, histogram, exact: true, sampled: 1000 };
  const scale = makeScale(-1, 1, "linear", true);
  const axis = barAxis(scale, summary);
  expect(isCoarse(summary, axis, scale)).toBe(true);
  const edges = edgesOf(axis);
  expect(edges).toHaveLength(65);
  expect(edges.every((edge, i) => i === 0 || edge > (edges[i - 1] as number))).toBe(true);
  const counts = new Array(64).fill(0);
  counts[0] = 4;
  counts[63] = 1;
  const counted = { counts, above: 0, below: 0, exact: true, sampled: 10 };
  const seen = barsCounted(counted, summary, scale);
  expect(seen.bars).toEqual([
    { y: 0, height: 1 / 64, share: 0.5 },
    { y: 63 / 64, height: 1 / 64, share: 1 },
  ]);
  expect([seen.above, seen.below]).toEqual([1, 0]);
  // All values in view: the summary's own bins are as fine as the bar.
  const whole: Summary = { ...summary, max: 1, histogram: { low: -1, high: 1, counts: new Array(64).fill(1) } };
  expect(isCoarse(whole, barAxis(scale, whole), scale)).toBe(false);
});
