/** Pure parts of the tree's statistics, the map, the table of cells; and glances over a fake kernel. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { colours, rgb } from "../src/heatmap/colormap";
import { NAN_ENTRY } from "../src/heatmap/scale";
import { createClient } from "../src/kernel/client";
import type { Gradients, TensorColumns } from "../src/kernel/protocol";
import { drawStrip, inks, isZero, pixel, scaleOf } from "../src/panels/map-draw";
import { blocksOf, layMap, mapMove, tileAt, tilesIn } from "../src/panels/map-layout";
import { percent, sorted, statisticOf } from "../src/panels/statistics";
import { type Axis, placeOf, tableOf } from "../src/panels/table-window";
import { buildTree, flatRows, matcher } from "../src/panels/tree-model";
import { createGlances, type Glance } from "../src/state/glances";
import { remember, remembered } from "../src/state/sizes";
import { createStore } from "../src/state/store";
import { FakeModel } from "./fake-model";

const names = Array.from({ length: 37 }, (_, at) => `layer${Math.floor(at / 5)}.${at % 5}.weight`);

test("every tile of the map is found where it lies, in the model's order, inside the room", () => {
  for (const [width, height] of [
    [700, 500],
    [300, 200],
    [120, 90],
  ] as const) {
    const layout = layMap(names, width, height);
    for (const at of names.keys()) {
      const [x, y] = [layout.x[at] as number, layout.y[at] as number];
      expect(tileAt(layout, x + 1, y + 1)).toBe(at);
      expect(x + layout.side).toBeLessThanOrEqual(width);
      expect(y + layout.side).toBeLessThanOrEqual(layout.height);
      if (at > 0) expect(y).toBeGreaterThanOrEqual(layout.y[at - 1] as number);
    }
    expect(tileAt(layout, -5, 3)).toBe(-1);
  }
});

test("a strip of the map has the tiles that touch it and no others", () => {
  const layout = layMap(names, 160, 100);
  const [from, to] = tilesIn(layout, 40, 90);
  for (const at of names.keys()) {
    const y = layout.y[at] as number;
    expect(at >= from && at < to).toBe(y + layout.side > 40 && y < 90);
  }
});

test("arrows reach every tile of the map and stay in it", () => {
  const layout = layMap(names, 300, 200);
  let at = 0;
  for (let step = 1; step < names.length; step += 1) {
    at = mapMove(layout, "ArrowRight", at) ?? -1;
    expect(at).toBe(step);
  }
  expect(mapMove(layout, "ArrowRight", at)).toBe(at);
  expect(mapMove(layout, "ArrowDown", at)).toBe(at);
  const below = mapMove(layout, "ArrowDown", 2) as number;
  expect(layout.y[below]).toBeGreaterThan(layout.y[2] as number);
  expect(layout.x[below]).toBe(layout.x[2]);
  expect(mapMove(layout, "ArrowUp", below)).toBe(2);
  expect(mapMove(layout, "x", 2)).toBe(null);
});

test("blocks are the first parts of the names, or the first two where all share the first", () => {
  expect(blocksOf(["a.x.weight", "b.y.weight", "bias"])).toEqual(["a", "b", "bias"]);
  expect(blocksOf(["net.0.weight", "net.1.weight", "net.bias"])).toEqual(["net.0", "net.1", "net"]);
});

test("tiles are drawn inside the strip, one picture bin after another", () => {
  const layout = layMap(["a"], 60, 60);
  const size = 60;
  const into = new Uint32Array(size * size);
  const table = new Uint32Array(256).map((_, at) => pixel(at, 0, 0));
  const picture = { rows: 2, columns: 1, codes: Uint8Array.of(1, 255), limit: 1, sampled: false };
  drawStrip(into, size, size, { layout, from: 0, to: 1, top: 0, dpr: 1 }, () => ({ picture, table }));
  const [x, y, side] = [layout.x[0] as number, layout.y[0] as number, layout.side];
  expect(into[y * size + x]).toBe(table[1]);
  expect(into[(y + side - 1) * size + x + side - 1]).toBe(table[255]);
  expect(into.filter((each) => each !== 0).length).toBe(side * side);
  into.fill(0);
  drawStrip(into, size, size, { layout, from: 0, to: 1, top: y + side / 2, dpr: 1 }, () => ({ colour: 7 }));
  expect(into.filter((each) => each === 7).length).toBe((side * side) / 2);
});

test("tensors of the model itself are neighbours, without a line for each", () => {
  const layout = layMap(["gain", "bias", "conv.weight", "conv.bias", "fc.weight"], 400, 120);
  expect(layout.y[0]).toBe(layout.y[1]);
  expect(layout.headings.map(({ text }) => text)).toEqual(["", "conv", "fc"]);
});

test("a log scale has a share for zero and none for what is no number", () => {
  const scale = scaleOf([1, 100, null, 0, Number.NaN], true);
  expect([1, 10, 100, 0].map(scale.share)).toEqual([0, 0.5, 1, 0]);
  expect(scale.share(null)).toBe(null);
  expect(scale.share(Number.NaN)).toBe(null);
  expect(scaleOf([3, 3], false).share(3)).toBe(0.5);
});

test("sorting keeps those without a number last, and equal ones in the model's order", () => {
  const keys = [2, null, 5, 2, null, 7];
  const value = (at: number): number | null => keys[at] ?? null;
  expect(sorted([0, 1, 2, 3, 4, 5], value, false)).toEqual([5, 2, 0, 3, 1, 4]);
  expect(sorted([0, 1, 2, 3, 4, 5], value, true)).toEqual([0, 3, 2, 5, 1, 4]);
});

const columns = (shape: number[][]): TensorColumns => ({
  name: shape.map((_, at) => `m.${at}.weight`),
  kind: shape.map(() => "parameter"),
  shape,
  dtype: shape.map(() => "float32"),
  device: shape.map(() => "cpu"),
  requires_grad: shape.map(() => true),
  aliases: shape.map(() => []),
  editable: shape.map(() => true),
  reason: shape.map(() => ""),
});

const glance = (part: Partial<Glance>): Glance => ({
  count: 8,
  nan: 0,
  inf: 0,
  zero: 2,
  sampled: 8,
  min: -3,
  max: 1,
  mean: 0,
  std: 1,
  l2: 4,
  low: -3,
  high: 1,
  reason: "",
  bars: new Uint8Array(24),
  ...part,
});

test("statistics are those of the glance and of the check", () => {
  const sources = { tensors: columns([[2, 4], [3]]), gradients: null, glance: () => glance({}) };
  expect(statisticOf("size", sources)(0)).toBe(8);
  expect(statisticOf("max", sources)(0)).toBe(3);
  expect(statisticOf("zeros", sources)(0)).toBe(0.25);
  expect(statisticOf("gradient", sources)(0)).toBe(null);
  expect(statisticOf("update", sources)(0)).toBe(null);
  const row = { name: sources.tensors.name[0], norm: 6, weight: 4, step: 0.5 };
  const gradients = { rows: [row, { ...row, name: sources.tensors.name[1], step: null }] } as unknown as Gradients;
  expect([0, 1].map(statisticOf("gradient", { ...sources, gradients }))).toEqual([6, 6]);
  expect([0, 1].map(statisticOf("update", { ...sources, gradients }))).toEqual([0.125, null]);
  expect(statisticOf("std", { ...sources, glance: () => glance({ reason: "meta" }) })(0)).toBe(null);
  expect([0, 1, 0.0001, 0.9999, 0.05, 0.5].map(percent)).toEqual(["0%", "100%", "<0.1%", ">99.9%", "5.0%", "50%"]);
});

test("sorted rows are a flat list that says so", () => {
  const tensors = columns([[1], [2], [3]]);
  const roots = buildTree(tensors, { name: ["", "m"], type: ["Net", "M"] });
  const { rows, matches } = flatRows(roots, [2, 0, 1], matcher("m.*"));
  expect(rows.map((row) => row.node.name)).toEqual(["m.2.weight", "m.0.weight", "m.1.weight"]);
  expect(rows.map((row) => [row.level, row.posinset, row.setsize])).toEqual([
    [1, 1, 3],
    [1, 2, 3],
    [1, 3, 3],
  ]);
  expect(matches).toBe(3);
  expect(flatRows(roots, [2, 0, 1], matcher("0.w")).rows.length).toBe(1);
});

test("a cell's place in the table and its index are each other's inverse", () => {
  const axes: Axis[] = [
    [1, 4, 1],
    [0, 5, 2],
    [2, 4, 1],
  ];
  const table = tableOf(axes);
  expect([table.rows, table.columns]).toEqual([9, 2]);
  for (let row = 0; row < 9; row += 1) {
    for (let column = 0; column < 2; column += 1) {
      expect(placeOf(axes, table.index(row, column))).toEqual([row, column]);
    }
  }
  expect(table.rowName(4)).toBe("2, 2");
  expect(placeOf(axes, [0, 0, 2])).toBe(null);
  expect(placeOf(axes, [1, 1, 2])).toBe(null);
  expect(tableOf([])).toMatchObject({ rows: 1, columns: 1 });
});

test("sizes are forgotten where the host forbids storage, and strange ones are not believed", () => {
  vi.stubGlobal("localStorage", undefined);
  remember("tree", 300);
  expect(remembered()).toEqual({});
  const kept = new Map<string, string>();
  vi.stubGlobal("localStorage", {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, text: string) => kept.set(key, text),
  });
  remember("tree", 300.4);
  expect(remembered()).toEqual({ tree: 300 });
  remember("tree", null);
  expect(remembered()).toEqual({});
  kept.set("weightlab.sizes", '{"tree": "wide", "cells": 5}');
  expect(remembered()).toEqual({ cells: 5 });
  vi.unstubAllGlobals();
});

let model: FakeModel;
beforeEach(() => {
  vi.useFakeTimers();
  model = new FakeModel();
});
afterEach(() => {
  vi.useRealTimers();
});

/** Answers the last request for glances: so many of the names, the rest is left. */
function answer(most = 128): string[] {
  const asked = model.last("glances").content["names"] as string[];
  const taken = asked.slice(0, most);
  const all = <T>(value: T): T[] => taken.map(() => value);
  const numbers = Object.fromEntries(["min", "max", "mean", "std", "l2", "low", "high"].map((key) => [key, all(0)]));
  const counts = Object.fromEntries(["count", "nan", "inf", "zero", "sampled"].map((key) => [key, all(1)]));
  const glances = { name: taken, ...numbers, ...counts, reason: all("") };
  model.answer("glances", { glances, left: asked.slice(most) }, 0, [new DataView(new ArrayBuffer(24 * taken.length))]);
  return taken;
}
const asks = (): number => model.sent.filter(({ content }) => content["op"] === "glances").length;

test("glances of rows in sight come in batches, and only changed ones are asked for again", async () => {
  const store = createStore();
  const glances = createGlances(store, { request: createClient(model).request, meet: () => {} });
  const sight = Array.from({ length: 200 }, (_, at) => `t${at}`);
  glances.want("tree", sight);
  await vi.advanceTimersByTimeAsync(100);
  expect(answer(50).length).toBe(50);
  await vi.advanceTimersByTimeAsync(100);
  expect(answer().length).toBe(128);
  await vi.advanceTimersByTimeAsync(100);
  expect(answer()).toEqual(sight.slice(178));
  await vi.advanceTimersByTimeAsync(1000);
  expect(asks()).toBe(3);
  glances.mark([["t7", [[0, 1]]]]);
  expect(glances.get("t7")).toBeDefined();
  await vi.advanceTimersByTimeAsync(100);
  expect(answer()).toEqual(["t7"]);
  await vi.advanceTimersByTimeAsync(1000);
  expect(asks()).toBe(4);
});

test("rows that scrolled away before they were asked for are not asked for", async () => {
  const glances = createGlances(createStore(), { request: createClient(model).request, meet: () => {} });
  for (let at = 0; at < 50; at += 1) glances.want("tree", [`t${at}`]);
  await vi.advanceTimersByTimeAsync(100);
  expect(answer()).toEqual(["t49"]);
  // While rows rush past nothing is asked, but not for ever.
  let frame = 0;
  for (; frame < 20; frame += 1) {
    glances.want("tree", [`u${frame}`]);
    await vi.advanceTimersByTimeAsync(16);
  }
  expect(asks()).toBe(1);
  for (; frame < 40; frame += 1) {
    glances.want("tree", [`u${frame}`]);
    await vi.advanceTimersByTimeAsync(16);
  }
  expect(asks()).toBe(2);
});

test("all numbers can be asked for, and the wish ends", async () => {
  const glances = createGlances(createStore(), { request: createClient(model).request, meet: () => {} });
  const every = Array.from({ length: 3000 }, (_, at) => `t${at}`);
  const ended = new AbortController();
  const told: number[] = [];
  const done = glances.all(every, ended.signal, (ready) => told.push(ready));
  expect(answer(700).length).toBe(700);
  await vi.advanceTimersByTimeAsync(0);
  expect(model.last("glances").content["names"]).toHaveLength(2048);
  ended.abort();
  answer();
  await done;
  expect(told).toEqual([0, 700]);
  expect(asks()).toBe(2);
});

test("on the map a place without a cell is the ground, NaN has its colour, and the ends are the ends", () => {
  for (const dark of [false, true]) {
    const of = colours(dark);
    const table = inks(of);
    const wanted = [rgb(of, NAN_ENTRY), of.background, rgb(of, 1), rgb(of, 128), rgb(of, 255)];
    expect([0, 1, 2, 128, 254].map((code) => table[code])).toEqual(wanted.map((ink) => pixel(...ink) >>> 0));
  }
  const picture = (...codes: number[]) => ({
    rows: 1,
    columns: codes.length,
    codes: Uint8Array.from(codes),
    limit: 1,
    sampled: false,
  });
  expect(isZero(picture(128, 128, 1))).toBe(true);
  expect(isZero(picture(128, 0, 1))).toBe(false);
  expect(isZero(picture())).toBe(false);
});
