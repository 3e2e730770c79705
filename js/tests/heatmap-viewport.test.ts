import { expect, test } from "vitest";
import { cellAt, endOf, extent, makeAxis, pixelCells, position } from "../src/heatmap/axis";
import { hit } from "../src/heatmap/hit";
import { commandOf, moveCursor } from "../src/heatmap/keyboard";
import { CHARACTER, labels, marginFor } from "../src/heatmap/labels";
import { isBlank, makeSheet } from "../src/heatmap/layout";
import {
  fitView,
  levelOf,
  pan,
  reveal,
  standIns,
  TILE,
  tileRect,
  visible,
  wantedTiles,
  zoom,
} from "../src/heatmap/viewport";
import type { Layout } from "../src/kernel/protocol";
import { below, PLAIN, random, randomLayout } from "./heatmap-seed";

const matrix = (rows: number, columns: number): Layout => ({
  ...PLAIN,
  rows: [0],
  columns: [1],
  facets: [],
  wrap: 1,
  labels: ["out", "in"],
  shape: [rows, columns],
});
const conv = (out: number, wrap: number): Layout => ({
  ...PLAIN,
  rows: [1, 2],
  columns: [3],
  facets: [0],
  wrap,
  labels: ["out", "in", "kh", "kw"],
  shape: [out, 3, 3, 3],
});
const AREA = { width: 600, height: 320 };

test("cellAt finds what position placed, at every nesting of blocks", () => {
  for (const [scale, breaks] of [0.3, 2, 7, 21].flatMap((each): [number, number[]][] => [
    [each, []],
    [each, [18, 45]],
  ])) {
    const axis = makeAxis(54, scale, [3, 9], 9, 22, breaks);
    for (let cell = 0; cell < 54; cell++) {
      const found = cellAt(axis, position(axis, cell) + scale / 2);
      expect(found.gap).toBe(false);
      expect(Math.floor(found.at)).toBe(cell);
      if (cell < 53) {
        const room = position(axis, cell + 1) - endOf(axis, cell + 1);
        if (room > 0.01) expect(cellAt(axis, endOf(axis, cell + 1) + room / 2)).toEqual({ at: cell + 1, gap: true });
      }
    }
    expect(cellAt(axis, extent(axis) + 1)).toEqual({ at: 54, gap: true });
    expect(cellAt(axis, -1).gap).toBe(true);
  }
});

test("each pixel shows the cell that cellAt finds there, or a gap", () => {
  for (const [scale, dpr] of [
    [0.4, 1],
    [1.5, 2],
    [6, 1],
    [21, 2],
  ] as const) {
    const axis = makeAxis(90, scale, [3, 9], 9);
    const table = pixelCells(axis, -17.5, dpr, 500);
    table.forEach((cell, i) => {
      if (cell < 0) return;
      const at = cellAt(axis, (i + 0.5) / dpr + 17.5).at;
      // Cells begin on whole pixels: half a pixel of rounding.
      expect(Math.abs(at - cell - 0.5)).toBeLessThanOrEqual(0.5 + 1 / (scale * dpr));
    });
    if (scale * dpr >= 2) expect(new Set(table).size).toBeGreaterThan(10);
  }
});

test("the whole sheet fits, whatever its shape", () => {
  const next = random(11);
  for (let round = 0; round < 200; round++) {
    const layout = next() < 0.5 ? randomLayout(next) : matrix(1 + below(next, 5000), 1 + below(next, 5000));
    const view = fitView(makeSheet(layout), AREA, next() < 0.5 ? 1 : 2);
    expect(extent(view.columns)).toBeLessThanOrEqual(AREA.width + 1e-6);
    expect(extent(view.rows)).toBeLessThanOrEqual(AREA.height + 1e-6);
    expect(Math.max(view.rows.scale, view.columns.scale)).toBeLessThanOrEqual(48);
  }
});

test("cells are square; an extreme shape fills the stage; a bias is a strip", () => {
  const square = fitView(makeSheet(matrix(300, 500)), AREA, 1);
  expect(square.rows.scale).toBe(square.columns.scale);
  const tall = fitView(makeSheet(matrix(131072, 1024)), AREA, 1);
  expect(extent(tall.columns)).toBeCloseTo(600, 3);
  expect(extent(tall.rows)).toBeCloseTo(320, 3);
  const bias = fitView(makeSheet({ ...matrix(1000, 1), rows: [], columns: [0], shape: [1000] }), AREA, 1);
  expect(extent(bias.rows)).toBe(48);
  expect(extent(bias.columns)).toBeCloseTo(600, 3);
});

test("a level passes over no cell and has no more bins than needed", () => {
  expect(levelOf(1, 1000, 1)).toBe(0);
  expect(levelOf(0.5, 1000, 1)).toBe(1);
  expect(levelOf(0.5, 1000, 2)).toBe(0);
  expect(levelOf(0.49, 1000, 1)).toBe(2);
  expect(levelOf(1e-6, 1000, 1)).toBe(10);
  for (let scale = 3; scale > 0.001; scale *= 0.93) {
    const level = levelOf(scale, 1e9, 1);
    expect(2 ** level * scale).toBeGreaterThanOrEqual(1 - 1e-5);
    if (level > 0) expect(2 ** level * scale).toBeLessThan(2);
  }
});

test("the wanted tiles cover what is visible, the middle first, and nothing that is blank", () => {
  const sheet = makeSheet(matrix(3000, 5000));
  let view = fitView(sheet, AREA, 1);
  expect(wantedTiles(sheet, view, 1).encoding).toBe("q8");
  view = zoom(sheet, view, 1e6, 300, 160, 1);
  for (let i = 0; i < 10; i++) view = zoom(sheet, view, 2, 300, 160, 1);
  expect(wantedTiles(sheet, view, 1)).toMatchObject({ row_level: 0, column_level: 0, encoding: "f32" });
  view = zoom(sheet, view, 1 / 40, 300, 160, 1);
  const { keys } = wantedTiles(sheet, view, 1);
  const seen = visible(view);
  for (const row of [seen.row0, seen.row1 - 1]) {
    for (const column of [seen.column0, seen.column1 - 1]) {
      expect(
        keys.filter((key) => {
          const rect = tileRect(sheet, key);
          return row >= rect.row0 && row < rect.row1 && column >= rect.column0 && column < rect.column1;
        }),
      ).toHaveLength(1);
    }
  }
  const middle = (key: (typeof keys)[number]) =>
    Math.hypot(
      (key[2] + 0.5) * TILE * 2 ** key[0] - (seen.row0 + seen.row1) / 2,
      (key[3] + 0.5) * TILE * 2 ** key[1] - (seen.column0 + seen.column1) / 2,
    );
  expect(middle(keys[0] as never)).toBeLessThanOrEqual(middle(keys.at(-1) as never));

  const corner = makeSheet({ ...conv(101, 100), shape: [101, 3, 60, 60] });
  const all = wantedTiles(corner, fitView(corner, { width: 30000, height: 1000 }, 1), 1);
  for (const key of all.keys) {
    const rect = tileRect(corner, key);
    expect(isBlank(corner, rect.row0, rect.column0)).toBe(false);
  }
});

test("zoom keeps the cell under the pointer, and clamps at both ends", () => {
  const sheet = makeSheet(matrix(3000, 5000));
  // From where the sheet is larger than the area; before, its corner stays at the corner.
  let view = zoom(sheet, fitView(sheet, AREA, 1), 1.5, 250, 100, 1);
  const under = () => cellAt(view.columns, 250 - view.x).at;
  const before = under();
  for (let i = 0; i < 40; i++) {
    view = zoom(sheet, view, 1.2, 250, 100, 1);
    expect(Math.abs(under() - before)).toBeLessThan(1e-6 * 5000);
  }
  expect(view.columns.scale).toBeLessThanOrEqual(64);
  for (let i = 0; i < 80; i++) view = zoom(sheet, view, 1 / 1.2, 33, 222, 1);
  expect(view).toEqual(fitView(sheet, AREA, 1));
  expect(pan(view, -500, -500)).toEqual(view);
});

test("a long cell waits for the short side when zooming in", () => {
  const sheet = makeSheet(matrix(131072, 1024));
  let view = fitView(sheet, AREA, 1);
  for (let i = 0; i < 100; i++) {
    view = zoom(sheet, view, 1.3, 300, 160, 1);
    if (view.rows.scale < 10) expect(view.columns.scale).toBeLessThanOrEqual(16);
  }
  expect(view.rows.scale).toBe(64);
  expect(view.columns.scale).toBe(64);
});

test("stand-ins cover their tile", () => {
  const sheet = makeSheet(matrix(3000, 5000));
  const rect = tileRect(sheet, [1, 2, 7, 4]);
  const found = standIns(sheet, [1, 2, 7, 4]);
  expect(found.length).toBeGreaterThan(10);
  for (const key of found) {
    const over = tileRect(sheet, key);
    expect(over.row0 <= rect.row0 && over.row1 >= rect.row1 && over.column0 <= rect.column0).toBe(true);
    expect(over.column1).toBeGreaterThanOrEqual(rect.column1);
  }
});

test("reveal brings a cell on screen and leaves the view alone when it is", () => {
  const sheet = makeSheet(matrix(3000, 5000));
  const view = zoom(sheet, fitView(sheet, AREA, 1), 100, 300, 160, 1);
  for (const [row, column] of [
    [0, 0],
    [2999, 4999],
    [1500, 20],
  ] as const) {
    const next = reveal(view, row, column);
    const seen = visible(next);
    expect(row >= seen.row0 && row < seen.row1 && column >= seen.column0 && column < seen.column1).toBe(true);
    expect(reveal(next, row, column)).toEqual(next);
  }
});

test("labels never overlap, at any zoom", () => {
  for (const layout of [
    matrix(300, 500),
    conv(32, 16),
    conv(7, 3),
    matrix(10, 12),
    matrix(9000, 9000),
    matrix(131072, 1024),
  ]) {
    const sheet = makeSheet(layout);
    let view = fitView(sheet, AREA, 1);
    for (let i = 0; i < 25; i++) {
      const all = labels(sheet, view);
      expect(all.length).toBeGreaterThan(0);
      const rows = all.filter(({ kind }) => kind === "row");
      expect(rows.length).toBeGreaterThan(0);
      rows.slice(1).forEach((label, k) => {
        expect(label.y - (rows[k]?.y ?? 0)).toBeGreaterThanOrEqual(11);
      });
      const top = all.filter(({ kind }) => kind !== "row");
      top.slice(1).forEach((label, k) => {
        const left = top[k] as (typeof top)[number];
        if (left.y !== label.y) return;
        const start = (each: typeof label) =>
          each.x - (each.align === "center" ? (each.text.length * CHARACTER) / 2 : 0);
        expect(start(label) - start(left)).toBeGreaterThan(left.text.length * CHARACTER);
      });
      view = zoom(sheet, view, 1.35, 200, 100, 1);
    }
    expect(marginFor(sheet)).toBeLessThan(110);
  }
});

test("a click on a label or frame means its row, column or filter", () => {
  const sheet = makeSheet(conv(32, 16));
  const view = fitView(sheet, AREA, 1);
  const all = labels(sheet, view);
  const seventeen = all.find(({ text, kind }) => kind === "facet" && text === "17");
  expect(seventeen).toBeDefined();
  const at = hit(sheet, view, all, (seventeen?.x ?? 0) + 3, (seventeen?.y ?? 0) - 3);
  expect(at.target).toMatchObject({
    kind: "region",
    region: [
      [17, 18, 1],
      [0, 3, 1],
      [0, 3, 1],
      [0, 3, 1],
    ],
  });
  const row = all.find(({ text }) => text === "in 1");
  expect(hit(sheet, view, all, -10, row?.y ?? 0).target).toMatchObject({
    region: [
      [0, 32, 1],
      [1, 2, 1],
      [0, 3, 1],
      [0, 3, 1],
    ],
  });
  // Between filters 0 and 1: the frame of filter 0.
  const frame = hit(sheet, view, [], endOf(view.columns, 3) + 0.5, 5);
  expect(frame.target).toMatchObject({
    kind: "region",
    region: [
      [0, 1, 1],
      [0, 3, 1],
      [0, 3, 1],
      [0, 3, 1],
    ],
  });
  expect(hit(sheet, view, [], extent(view.columns) + 3, 5).target.kind).toBe("nothing");
  expect(hit(sheet, view, [], 1, 1).target).toEqual({ kind: "cell", cell: { row: 0, column: 0 } });
  const plain = makeSheet(matrix(300, 500));
  const plain_view = fitView(plain, AREA, 1);
  const labelled = labels(plain, plain_view);
  const label = labelled.find(({ text, kind }) => kind === "row" && text === "100");
  expect(hit(plain, plain_view, labelled, -5, label?.y ?? 0).target).toMatchObject({
    region: [
      [100, 101, 1],
      [0, 500, 1],
    ],
  });
});

const key = (name: string, shift = false, ctrl = false) =>
  commandOf({ key: name, shiftKey: shift, ctrlKey: ctrl, metaKey: false, altKey: false });

test("the cursor stays on cells that exist", () => {
  const sheet = makeSheet(conv(7, 3));
  const next = random(12);
  let cursor = { row: 0, column: 0 };
  const names = ["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Home", "End", "PageUp", "PageDown"];
  for (let i = 0; i < 3000; i++) {
    const command = key(names[below(next, names.length)] as string, false, next() < 0.3);
    if (command) cursor = moveCursor(sheet, cursor, command, 4);
    expect(isBlank(sheet, cursor.row, cursor.column)).toBe(false);
  }
  const go = (from: typeof cursor, command: ReturnType<typeof key>) => command && moveCursor(sheet, from, command, 4);
  expect(go({ row: 0, column: 0 }, key("ArrowRight", false, true))).toEqual({ row: 0, column: 3 });
  expect(go({ row: 4, column: 0 }, key("ArrowUp", false, true))).toEqual({ row: 3, column: 0 });
  expect(go({ row: 17, column: 5 }, key("ArrowDown"))).toEqual({ row: 17, column: 5 });
  expect(key("z", false, true)).toBeNull();
});

test("Ctrl A, I and G make a selection from the one before", () => {
  const press = (key: string, ctrlKey = false) =>
    commandOf({ key, ctrlKey, shiftKey: false, metaKey: false, altKey: false });
  expect(press("a", true)).toEqual({ kind: "reselect", how: "all" });
  expect(press("i")).toEqual({ kind: "reselect", how: "invert" });
  expect(press("g")).toEqual({ kind: "reselect", how: "grow" });
  expect(press("i", true)).toBeNull();
});
