import { expect, test } from "vitest";
import { indexOf, makeSheet } from "../src/heatmap/layout";
import { Loader } from "../src/heatmap/loader";
import { Readout } from "../src/heatmap/readout";
import { openSession } from "../src/heatmap/session";
import { decodeTile, shownPlane, TileCache } from "../src/heatmap/tile-cache";
import { TILE, tileRect } from "../src/heatmap/viewport";
import type { TileHead, TileKey, TilePlane } from "../src/kernel/protocol";
import type { Actions } from "../src/state/actions";
import { createStore, type OpenTensor } from "../src/state/store";
import { below, PLAIN, random, randomLayout } from "./heatmap-seed";

const sheet = makeSheet({
  ...PLAIN,
  rows: [0],
  columns: [1],
  facets: [],
  wrap: 1,
  labels: ["", ""],
  shape: [1000, 1000],
});

const head = (at: TileKey, size = 4, extra: Partial<TileHead> = {}): TileHead => ({
  at,
  rows: size,
  columns: size,
  encoding: "f32",
  planes: ["value"],
  offset: 0,
  nan: 0,
  inf: 0,
  ...extra,
});
const zeros = (size = 4) => new DataView(new ArrayBuffer(size * size * 4 * 3));

test("q8 codes at an odd byteOffset mean what the protocol says", () => {
  const bytes = new Uint8Array(7 + 4 + 12);
  bytes.set([9, 9, 9, 9, 9, 9, 9], 0);
  bytes.set([0, 252, 126, 255, 0, 253, 254, 1, 0, 252, 63, 255], 11);
  const planes = decodeTile(
    head([1, 1, 0, 0], 2, {
      encoding: "q8",
      planes: ["mean", "min", "max"],
      offset: 4,
      scale: [
        [-1, 3],
        [0.5, 0.5],
        [-2, 0.1],
      ],
    }),
    new DataView(bytes.buffer, 7),
  );
  expect(Array.from(planes[0] ?? [])).toEqual([-1, 3, 1, Number.NaN]);
  expect(Array.from(planes[1] ?? [])).toEqual([0.5, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY, 0.5]);
  expect(planes[2]?.[0]).toBe(-2);
  expect(planes[2]?.[1]).toBe(Math.fround(0.1));
  expect(planes[2]?.[2]).toBeCloseTo(-2 + (63 * 2.1) / 252, 6);
});

test("f32 comes back bit for bit at an odd byteOffset", () => {
  const next = random(21);
  const values = Float32Array.from({ length: 16 }, () => (next() - 0.5) * 10 ** below(next, 20));
  values[3] = Number.NaN;
  values[4] = -0;
  const bytes = new Uint8Array(3 + 8 + 64);
  bytes.set(new Uint8Array(values.buffer), 11);
  const [plane] = decodeTile(head([0, 0, 0, 0], 4, { offset: 8 }), new DataView(bytes.buffer, 3));
  expect(Array.from(plane ?? []).every((value, i) => Object.is(value, values[i]))).toBe(true);
});

test("planes of one moment stay together, those of another go", () => {
  const cache = new TileCache(sheet);
  const key: TileKey = [1, 1, 0, 0];
  const put = (plane: "mean" | "extreme", revision: number) =>
    cache.put([head(key, 4, { planes: [plane] })], zeros(), revision);
  put("extreme", 1);
  expect(cache.good(key, "f32", ["extreme"])).toBe(true);
  expect(cache.good(key, "f32", ["mean"])).toBe(false);
  const tile = cache.get(key);
  // Until the mean has come, what is there is drawn.
  expect(tile && shownPlane(tile, "mean")).toBe(tile?.planes.extreme);
  put("mean", 1);
  expect(cache.good(key, "f32", ["mean", "extreme"])).toBe(true);
  put("mean", 2);
  expect(cache.good(key, "f32", ["extreme"])).toBe(false);
  const cells = new TileCache(sheet);
  cells.put([head([0, 0, 0, 0])], zeros(), 1);
  expect(cells.good([0, 0, 0, 0], "f32", ["extreme"])).toBe(true);
});

test("stale marking by changed bounds equals asking every cell of every tile", () => {
  const next = random(22);
  for (let round = 0; round < 60; round++) {
    const layout = randomLayout(next);
    // Some axes long, so that there are several tiles.
    layout.shape = layout.shape.map((n) => (next() < 0.4 ? n * 60 : n));
    const random_sheet = makeSheet(layout);
    if (random_sheet.cells > 60_000) continue;
    const cache = new TileCache(random_sheet);
    const keys: TileKey[] = [];
    for (const [rl, cl] of [
      [0, 0],
      [1, 0],
      [2, 1],
    ] as const) {
      for (let r = 0; r * TILE * 2 ** rl < random_sheet.rows; r++) {
        for (let c = 0; c * TILE * 2 ** cl < random_sheet.columns; c++) keys.push([rl, cl, r, c]);
      }
    }
    for (const key of keys) cache.put([head(key, 1)], zeros(), 1);
    const bounds = layout.shape.map((n): [number, number] => {
      const start = below(next, n);
      return [start, start + 1 + below(next, Math.min(3, n - start))];
    });
    cache.mark(bounds, 2);
    for (const key of keys) {
      const rect = tileRect(random_sheet, key);
      let touched = false;
      for (let row = rect.row0; row < rect.row1 && !touched; row++) {
        for (let column = rect.column0; column < rect.column1 && !touched; column++) {
          const index = indexOf(random_sheet, row, column);
          touched =
            index?.every((at, axis) => at >= (bounds[axis]?.[0] ?? 0) && at < (bounds[axis]?.[1] ?? 0)) ?? false;
        }
      }
      expect(cache.get(key)?.stale, JSON.stringify({ layout, bounds, key })).toBe(touched);
    }
  }
});

test("a change and a reply may come in either order", () => {
  const cell: [number, number][] = [
    [5, 6],
    [5, 6],
  ];
  const first = new TileCache(sheet);
  first.mark(cell, 3);
  first.put([head([0, 0, 0, 0])], zeros(), 2);
  expect(first.good([0, 0, 0, 0], "f32", ["extreme"])).toBe(false);
  first.put([head([0, 0, 0, 0])], zeros(), 3);
  expect(first.good([0, 0, 0, 0], "f32", ["extreme"])).toBe(true);
  // The reply already shows revision 4: the push that says so comes late and takes nothing away.
  first.put([head([0, 0, 0, 0])], zeros(), 4);
  first.mark(cell, 4);
  expect(first.good([0, 0, 0, 0], "f32", ["extreme"])).toBe(true);
  // An older reply does not replace a newer tile.
  first.put([head([0, 0, 0, 0])], zeros(), 1);
  expect(first.get([0, 0, 0, 0])?.revision).toBe(4);
  // Changes beyond the log are still known to have been.
  const many = new TileCache(sheet);
  for (let i = 0; i < 200; i++)
    many.mark(
      [
        [900, 901],
        [900, 901],
      ],
      10 + i,
    );
  many.put([head([0, 0, 0, 0])], zeros(), 9);
  expect(many.good([0, 0, 0, 0], "f32", ["extreme"])).toBe(false);
});

test("a tile is drawn while stale, and q8 does not do for f32", () => {
  const cache = new TileCache(sheet);
  cache.put([head([0, 0, 0, 0], 4, { encoding: "q8", scale: [[0, 1]] })], zeros(), 1);
  expect(cache.good([0, 0, 0, 0], "q8", ["extreme"])).toBe(true);
  expect(cache.good([0, 0, 0, 0], "f32", ["extreme"])).toBe(false);
  expect(cache.mark("everything", 2)).toBe(true);
  expect(cache.get([0, 0, 0, 0])).toBeDefined();
  expect(cache.mark("everything", 2)).toBe(false);
});

test("the least recently used tiles go, those on screen never", () => {
  const cache = new TileCache(sheet, 4 * 4 * 4 * 2 * 3);
  const at = (i: number): TileKey => [0, 0, 0, i];
  for (let i = 0; i < 3; i++) cache.put([head(at(i))], zeros(), 1);
  cache.get(at(0));
  cache.put([head(at(3))], zeros(), 1);
  expect([0, 1, 2, 3].map((i) => cache.has(at(i)))).toEqual([true, false, true, true]);
  cache.put([head(at(4))], zeros(), 1, [at(0), at(2), at(3), at(4)]);
  expect(cache.has(at(0))).toBe(true);
  cache.trim(0);
  expect(cache.size).toBe(0);
});

test("tiles that came with the answer that opened a tensor are shown in their own view and moment only", () => {
  const store = createStore();
  const layout = { ...PLAIN, rows: [0], columns: [1], facets: [], wrap: 1, labels: ["", ""], shape: [4, 4] };
  const first = { tiles: [head([0, 0, 0, 0])], buffer: zeros(), revision: 2 };
  const about = { summary: null, exact_text: true, views: [], about: "", signed: true };
  const open: OpenTensor = { name: "w", view: "value", layout, first, ...about };
  const loaded = (shows: string): boolean => {
    const actions = {} as Actions;
    const session = openSession(open, shows, null, { store, actions, caches: new Map(), redraw: () => undefined });
    return session?.cache.has([0, 0, 0, 0]) ?? false;
  };
  store.revision.value = 1;
  expect(loaded("value")).toBe(true);
  expect(loaded("before")).toBe(false);
  store.revision.value = 3;
  expect(loaded("value")).toBe(false);
});

const settle = () => new Promise((done) => setTimeout(done, 0));

test("one request at a time; what is left is asked again; what nobody wants is aborted", async () => {
  const cache = new TileCache(sheet);
  const asked: {
    keys: TileKey[];
    planes: TilePlane[] | undefined;
    signal: AbortSignal;
    answer: (heads: TileHead[]) => void;
  }[] = [];
  const loader = new Loader(
    "w",
    cache,
    ({ tiles: keys, planes }, signal) =>
      new Promise((resolve, reject) => {
        signal.addEventListener("abort", () => reject(new Error("aborted")));
        asked.push({
          keys,
          planes,
          signal,
          answer: (tiles) => resolve({ tiles, left: [], buffer: zeros(), revision: 1 }),
        });
      }),
    () => undefined,
  );
  const keys: TileKey[] = [
    [0, 0, 0, 0],
    [0, 0, 0, 1],
  ];
  loader.need(keys, "f32", ["extreme"]);
  loader.need(keys, "f32", ["extreme"]);
  expect(asked.length).toBe(1);
  asked[0]?.answer([head([0, 0, 0, 0])]);
  await settle();
  expect(asked[1]?.keys).toEqual([[0, 0, 0, 1]]);
  // Still on screen after a small pan: not aborted, and the new one waits.
  loader.need(
    [
      [0, 0, 0, 1],
      [0, 0, 0, 2],
    ],
    "f32",
    ["extreme"],
  );
  expect(asked.length).toBe(2);
  expect(asked[1]?.signal.aborted).toBe(false);
  loader.need([[0, 0, 5, 5]], "f32", ["extreme"]);
  expect(asked[1]?.signal.aborted).toBe(true);
  expect(asked[2]?.keys).toEqual([[0, 0, 5, 5]]);
  // A reply without tiles is an error, not a loop.
  asked[2]?.answer([]);
  await settle();
  expect(loader.error).not.toBeNull();
  loader.need([[0, 0, 5, 5]], "f32", ["extreme"]);
  expect(asked.length).toBe(3);
  loader.need([[0, 0, 5, 6]], "f32", ["extreme"]);
  expect(asked.length).toBe(4);
  // Another plane of the same tiles is another question.
  loader.need([[0, 0, 5, 6]], "f32", ["mean"]);
  expect(asked[3]?.signal.aborted).toBe(true);
  expect(asked[4]?.planes).toEqual(["mean"]);
  loader.dispose();
  expect(asked[4]?.signal.aborted).toBe(true);
});

test("the read-out never shows a value for another index, and says what was there before", async () => {
  const answers: ((texts: string[]) => void)[] = [];
  const questions: number[][][] = [];
  const readout = new Readout(
    (cells) => {
      questions.push(cells);
      return new Promise((done) => answers.push(done));
    },
    () => undefined,
  );
  expect(readout.at([1, 2], 0, null)).toEqual({ index: [1, 2], text: null, was: null });
  readout.at([3, 4], 0, null);
  readout.at([5, 6], 0, null);
  expect(questions).toEqual([[[1, 2]]]);
  answers[0]?.(["1.2"]);
  await settle();
  expect(readout.at([5, 6], 0, null)?.text).toBeNull();
  expect(questions[1]).toEqual([[5, 6]]);
  answers[1]?.(["5.6"]);
  await settle();
  expect(readout.at([5, 6], 0, null)?.text).toBe("5.6");
  // Revision 1: asked again, and then the old text stands beside the new one.
  expect(readout.at([5, 6], 1, null)?.text).toBeNull();
  answers[2]?.(["0.0"]);
  await settle();
  expect(readout.at([5, 6], 1, null)).toEqual({ index: [5, 6], text: "0.0", was: "5.6" });
  expect(readout.at([5, 7], 1, "7.0")).toEqual({ index: [5, 7], text: "7.0", was: null });
  expect(readout.at(null, 1, null)).toBeNull();
  // An answer computed before a change is not shown after it.
  readout.at([8, 8], 1, null);
  readout.at([8, 8], 2, null);
  answers[3]?.(["old"]);
  await settle();
  expect(readout.at([8, 8], 2, null)?.text).toBeNull();
});

test("a late answer for a cell that was left does not take away what the present one was", async () => {
  let answer: (texts: string[]) => void = () => undefined;
  const readout = new Readout(
    () =>
      new Promise((done) => {
        answer = done;
      }),
    () => undefined,
  );
  readout.at([1], 0, null);
  readout.at([2], 0, "2.0");
  answer(["1.0"]);
  await settle();
  expect(readout.at([2], 1, "0.0")).toEqual({ index: [2], text: "0.0", was: "2.0" });
});
