import { expect, test } from "vitest";
import { position } from "../src/heatmap/axis";
import { hit } from "../src/heatmap/hit";
import { labels } from "../src/heatmap/labels";
import { makeSheet, type Sheet } from "../src/heatmap/layout";
import { fitView, zoom } from "../src/heatmap/viewport";
import type { Layout } from "../src/kernel/protocol";
import { PLAIN } from "./heatmap-seed";

const AREA = { width: 600, height: 320 };
const matrix = (rows: number, columns: number, more: Partial<Layout> = {}): Layout => ({
  ...PLAIN,
  rows: [0],
  columns: [1],
  facets: [],
  wrap: 1,
  labels: ["out", "in"],
  shape: [rows, columns],
  ...more,
});
const along = (sheet: Sheet, area = AREA) => {
  const view = fitView(sheet, area, 1);
  const all = labels(sheet, view);
  return { view, all, at: (x: number, y: number) => hit(sheet, view, all, x, y).target };
};

test("every row and column can be pointed at in the margin, printed or not", () => {
  const sheet = makeSheet(matrix(40, 60));
  const { view, all, at } = along(sheet);
  expect(all.filter(({ kind }) => kind === "row").length).toBeLessThan(40);
  for (let row = 0; row < 40; row++) {
    const y = view.y + position(view.rows, row + 0.5);
    expect(at(-12, y)).toEqual({
      kind: "region",
      region: [
        [row, row + 1, 1],
        [0, 60, 1],
      ],
      text: `out ${row}`,
    });
  }
  for (let column = 0; column < 60; column++) {
    const x = view.x + position(view.columns, column + 0.5);
    expect(at(x, -10)).toMatchObject({
      region: [
        [0, 40, 1],
        [column, column + 1, 1],
      ],
      text: `in ${column}`,
    });
  }
});

test("of rows thinner than a pixel a printed one is what is meant near its number", () => {
  const sheet = makeSheet(matrix(9000, 40));
  const { all, at } = along(sheet);
  const label = all.find(({ kind, text }) => kind === "row" && text !== "out 0");
  expect(at(-5, (label?.y ?? 0) + 4)).toMatchObject({ region: label?.region });
  const view = zoom(sheet, fitView(sheet, AREA, 1), 200, 10, 10, 1);
  const seen = labels(sheet, view);
  const y = view.y + position(view.rows, 1.5);
  if (y > 0) expect(hit(sheet, view, seen, -5, y).target).toMatchObject({ text: "out 1" });
});

test("every filter of a contact sheet can be pointed at above it", () => {
  const layout = { rows: [1, 2], columns: [3], facets: [0], wrap: 40, labels: ["out", "in", "kh", "kw"] };
  const sheet = makeSheet({ ...PLAIN, ...layout, shape: [60, 1, 3, 3] });
  const { view, all, at } = along(sheet);
  expect(all.filter(({ kind }) => kind === "facet").length).toBeLessThan(40);
  for (let filter = 0; filter < 40; filter++) {
    const x = view.x + position(view.columns, filter * 3 + 1.5);
    expect(at(x, -10)).toMatchObject({ text: `out ${filter}` });
    expect((at(x, -10) as { region: number[][] }).region[0]).toEqual([filter, filter + 1, 1]);
  }
});

test("on a sorted axis the margin says which index stands there", () => {
  const order = Int32Array.from({ length: 40 }, (_, place) => 39 - place);
  const sheet = makeSheet(matrix(40, 6, { orders: [{ axis: 0, by: "norm", token: "1" }] }), [order]);
  const { view, at } = along(sheet);
  expect(at(-12, view.y + position(view.rows, 3.5))).toMatchObject({ text: "out by norm 36" });
});
