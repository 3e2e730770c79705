import { expect, test } from "vitest";
import { fitted, inkOn } from "../src/heatmap/cell-numbers";
import { cellsWithColours, groupsAt, withColours } from "../src/heatmap/details";
import { barsAlong, edgeAxis } from "../src/heatmap/edges";
import { labels } from "../src/heatmap/labels";
import { flatOf, makeSheet } from "../src/heatmap/layout";
import { shortest } from "../src/heatmap/numbers";
import { byteOf, colourAxis } from "../src/heatmap/rgb";
import { fitView } from "../src/heatmap/viewport";
import type { Layout, TileHead } from "../src/kernel/protocol";
import { callOf, opened } from "../src/state/layouts";
import { atIndex, moved, placeAt, ROLES, roleOf, sortedBy } from "../src/state/roles";
import { createStore } from "../src/state/store";
import { below, PLAIN, random, randomSheet } from "./heatmap-seed";

const conv: Layout = {
  ...PLAIN,
  rows: [0, 2],
  columns: [1, 3],
  facets: [],
  wrap: 1,
  labels: ["out", "in", "kh", "kw"],
  shape: [8, 3, 5, 5],
};

test("an axis moves to another role, at a place; the others stay", () => {
  expect(moved(conv, 2, "columns")).toEqual({ rows: [0], columns: [1, 3, 2], facets: [], fixed: [] });
  expect(moved(conv, 2, "columns", 1)).toMatchObject({ rows: [0], columns: [1, 2, 3] });
  expect(moved(conv, 2, "rows", 0)).toMatchObject({ rows: [2, 0] });
  expect(moved(conv, 0, "rows", 2)).toMatchObject({ rows: [2, 0] });
  expect(moved(conv, 1, "fixed")).toMatchObject({ columns: [3], fixed: [[1, 0]] });
  const sliced: Layout = { ...conv, columns: [3], fixed: [[1, 2]] };
  expect(atIndex(sliced, 1, 0).fixed).toEqual([[1, 0]]);
  expect(moved(sliced, 1, "facets")).toMatchObject({ facets: [1], fixed: [] });
});

test("whatever moves, every axis keeps exactly one role", () => {
  const next = random(21);
  for (let round = 0; round < 200; round++) {
    const { layout } = randomSheet(next);
    if (layout.shape.length === 0) continue;
    const axis = below(next, layout.shape.length);
    const role = ROLES[below(next, 4)] ?? "rows";
    const call = moved(layout, axis, role, below(next, 5));
    const { rows = [], columns = [], facets = [], fixed = [] } = call;
    const all = [...rows, ...columns, ...facets, ...fixed.map(([each]) => each)].sort((a, b) => a - b);
    expect(all).toEqual(layout.shape.map((_, i) => i));
    expect(roleOf({ ...layout, rows, columns, facets, fixed }, axis)).toBe(role);
  }
});

test("sorting an axis again replaces its order and keeps the others'", () => {
  const orders = [
    { axis: 0, by: "norm", token: "7" },
    { axis: 1, by: "mean", token: "8" },
  ];
  const sorted: Layout = { ...conv, orders };
  expect(sortedBy(sorted, 0, "similar")).toMatchObject({ orders: ["8"], sort: [[0, "similar"]] });
  expect(sortedBy(sorted, 1, null)).toEqual(callOf({ ...conv, orders: orders.slice(0, 1) }));
});

test("orders come in one buffer, before the tiles, also at an odd offset", () => {
  const bytes = new DataView(new ArrayBuffer(3 + 4 * 11 + 4), 3);
  [3, 1, 0, 2, 4, 7, 6, 5, 2, 1, 0].forEach((index, i) => {
    bytes.setInt32(i * 4, index, true);
  });
  const layout: Layout = {
    ...conv,
    orders: [
      { axis: 0, by: "norm", token: "1" },
      { axis: 1, by: "mean", token: "2" },
    ],
  };
  const about = { views: [], about: "", signed: true };
  const shape = { rows: 2, columns: 2, encoding: "q8" as const, planes: ["extreme" as const], nan: 0, inf: 0 };
  const tiles: TileHead[] = [{ at: [1, 1, 0, 0], offset: 44, scale: [[0, 1]], ...shape }];
  const reply = { name: "w", layout, summary: null as never, cell_bytes: 4, exact_text: true, tiles, ...about };
  const open = opened("w", "value", { reply, buffer: bytes, revision: 0 }, { sort: [[0, "norm"]] });
  expect(open.orders?.map((each) => [...each])).toEqual([
    [3, 1, 0, 2, 4, 7, 6, 5],
    [2, 1, 0],
  ]);
  expect(open.call?.orders).toEqual(["1", "2"]);
  expect(open.call?.sort).toBeUndefined();
  expect(open.first).toEqual({ tiles, buffer: bytes, revision: 0 });
});

test("a chip goes before the one whose middle lies further right", () => {
  const boxes = [
    { left: 0, right: 10 },
    { left: 20, right: 40 },
  ];
  expect([-5, 6, 29, 31].map((x) => placeAt(x, boxes))).toEqual([0, 1, 1, 2]);
});

test("labels name groups, inner ones where there is room, and indices of a sorted axis", () => {
  const parts = { axis: 0, name: "", starts: [0, 8, 16], labels: ["q", "k", "v"], source: "" };
  const heads = {
    axis: 0,
    name: "head",
    starts: [0, 4, 8, 12, 16, 20],
    labels: ["q 0", "q 1", "k 0", "k 1", "v 0", "v 1"],
    source: "",
  };
  const packed = { ...conv, rows: [0], columns: [1], shape: [24, 8], labels: ["out", "in"], groups: [parts, heads] };
  const texts = (height: number) => {
    const sheet = makeSheet(packed);
    const found = labels(sheet, fitView(sheet, { width: 400, height }, 1));
    return found.filter(({ kind }) => kind === "row");
  };
  expect(groupsAt(packed, [13, 2])).toEqual(["head k 1"]);
  expect(texts(300).map(({ text }) => text)[1]).toBe("head q 1");
  expect(texts(300)[1]?.region[0]).toEqual([4, 8, 1]);
  expect(texts(60).map(({ text }) => text)).toEqual(["q", "k", "v"]);
  expect(texts(60)[2]?.region[0]).toEqual([16, 24, 1]);
  const orders = [{ axis: 0, by: "norm", token: "1" }];
  const sheet = makeSheet({ ...packed, orders }, [Int32Array.from({ length: 24 }, (_, i) => 23 - i)]);
  const rows = labels(sheet, fitView(sheet, { width: 400, height: 600 }, 1)).filter(({ kind }) => kind === "row");
  expect(rows.slice(0, 2).map(({ text }) => text)).toEqual(["out by norm 23", "22"]);
});

test("bars along an edge stand at the places of their indices", () => {
  const orders = [{ axis: 0, by: "norm", token: "1" }];
  const layout = { ...conv, orders };
  const order = Int32Array.from([2, 0, 1, 3, 4, 5, 7, 6]);
  const sheet = makeSheet(layout, [order]);
  const view = fitView(sheet, { width: 500, height: 600 }, 1);
  const bars = barsAlong(sheet, view, "rows", 0, Float32Array.from([10, 11, 12, 13, 14, 15, 16, 17]));
  expect(bars.map(({ value }) => value)).toEqual([...order].map((index) => 10 + index));
  expect(edgeAxis(makeSheet({ ...conv, rows: [2], facets: [0], wrap: 4 }), "rows", "norm")).toBeNull();
  // Two places in one pixel are one bar, of the larger magnitude.
  const tall = makeSheet({ ...conv, rows: [0], columns: [1], shape: [1000, 2] });
  const all = Float32Array.from({ length: 1000 }, (_, i) => (i === 501 ? -9 : 1));
  const few = barsAlong(tall, fitView(tall, { width: 50, height: 100 }, 1), "rows", 0, all);
  expect(few.length).toBeLessThanOrEqual(101);
  expect(few.filter(({ value }) => value === -9).length).toBe(1);
});

test("a number in a cell is exact where it is short, else rounded to what fits", () => {
  expect(fitted(0.5, "float32", true, 5)).toBe("0.5");
  expect(fitted(Math.fround(-0.041207194), "float32", true, 12)).toBe("−0.04121");
  expect(fitted(Math.fround(-0.041207194), "float32", true, 7)).toBe("−.04121");
  expect(fitted(123456, "int32", true, 7)).toBe("123456");
  expect([0, 1].map((cell) => fitted(cell, "bool", true, 4))).toEqual(["0", "1"]);
  expect([0, 1].map((cell) => fitted(cell, "bool", true, 5))).toEqual(["False", "True"]);
  expect(fitted(1234567, "int32", true, 7)).toBe("1.235e6");
  expect(fitted(1.5e-12, "float32", false, 3)).toBeNull();
  const next = random(5);
  for (let round = 0; round < 500; round++) {
    const value = Math.fround((next() - 0.5) * 10 ** (below(next, 12) - 6));
    const text = fitted(value, "float32", true, 8);
    if (text === null) continue;
    expect(text.length).toBeLessThanOrEqual(8);
    const read = Number(text.replace("−", "-"));
    const digits = text.replace(/^−?[0.]*|e.*$/g, "").replace(".", "").length;
    const near = Math.abs(read - value) <= Math.abs(value) * 0.5 * 10 ** (1 - digits) * 1.0001;
    expect(near || text === shortest(value, "float32")?.replace("-", "−"), `${value} ${text}`).toBe(true);
  }
});

test("ink is dark on light cells and light on dark ones", () => {
  expect([inkOn([250, 250, 250]), inkOn([20, 40, 90]), inkOn([178, 24, 43])]).toEqual(["#000", "#fff", "#fff"]);
});

test("three inputs of a convolution can be colours, and what is picked in colour is all three", () => {
  expect(colourAxis(conv)).toBe(1);
  expect(colourAxis({ ...conv, shape: [8, 4, 5, 5] })).toBeNull();
  expect(colourAxis({ ...conv, shape: [8, 3], labels: ["out", "in"] })).toBeNull();
  expect([byteOf(0, 2), byteOf(2, 2), byteOf(-2, 2), byteOf(9, 2), byteOf(Number.NaN, 2), byteOf(0, 0)]).toEqual([
    128, 255, 0, 255, 0, 128,
  ]);
  const store = createStore();
  const layout: Layout = { ...conv, rows: [0, 2], columns: [3], fixed: [[1, 0]] };
  const about = { views: [], about: "", signed: true };
  store.open.value = { name: "w", view: "value", layout, summary: null, exact_text: true, ...about };
  const box: [number, number, number][] = [
    [2, 3, 1],
    [0, 1, 1],
    [1, 2, 1],
    [0, 5, 1],
  ];
  expect(withColours(store, [box])).toEqual([box]);
  store.rgb.value = true;
  expect(withColours(store, [box])[0]?.[1]).toEqual([0, 3, 1]);
  const sheet = makeSheet(layout);
  const at = flatOf(sheet, [2, 0, 1, 4]);
  const all = [0, 1, 2].map((input) => flatOf(sheet, [2, input, 1, 4]));
  expect([...cellsWithColours(store, Float64Array.of(at))]).toEqual(all);
});
