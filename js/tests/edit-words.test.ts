import { expect, test } from "vitest";
import { makeSheet } from "../src/heatmap/layout";
import { towards } from "../src/heatmap/reach";
import { fitView, reveal, visible, zoom } from "../src/heatmap/viewport";
import { offered } from "../src/panels/code-line";
import { PLAIN } from "./heatmap-seed";
import { actions, model, open, reply, settle, store } from "./open-lab";

test("the norm behind listed filters is zeroed with the same cells, and what it cannot do is told", async () => {
  await open();
  const cells = new Float64Array([0, 1, 2]);
  void actions.editCells({ edit: "zero_", args: {} }, cells);
  model.answer("edit", { ...reply("edit"), behind: "norm" }, 1);
  await settle();
  const done = actions.zeroBehind();
  await settle();
  expect(model.last("edit").content).toMatchObject({ cells: true, linked: true });
  expect(model.last("edit").buffers).toEqual([cells]);
  model.answer("edit", { ...reply("edit"), entry: null, behind: null }, 1);
  await done;
  await settle();
  expect(store.notice.value).toContain("No cell changed");
});

test("a note names the button that does it, while there is one", () => {
  const words = "bn behind it still puts out its shift there; zero_(linked=True) sets that to 0 too";
  expect(offered(words, "bn")).toBe('bn behind it still puts out its shift there; "Also zero bn" sets that to 0 too');
  expect(offered(words, undefined)).toBe(words);
});

test("a typed region comes into sight at the same scale, and only where none of it is seen", () => {
  const sheet = makeSheet({
    ...PLAIN,
    rows: [0],
    columns: [1],
    facets: [],
    wrap: 1,
    labels: ["a", "b"],
    shape: [90, 70],
  });
  const fit = fitView(sheet, { width: 300, height: 200 }, 1);
  const near = zoom(sheet, fit, 16, 0, 0, 1);
  const pick = (row: [number, number, number], column: [number, number, number] = [0, 70, 1]) => ({
    region: { text: "", numel: 1, axes: [row, column] },
  });
  expect(towards(near, sheet, pick([0, 1, 1]))).toBe(near);
  expect(towards(near, sheet, pick([1, 90, 80]))).toBe(near);
  const there = towards(near, sheet, pick([80, 81, 1], [60, 61, 1]));
  expect([there.rows.scale, there.columns.scale]).toEqual([near.rows.scale, near.columns.scale]);
  const seen = visible(there);
  expect(seen.row0 <= 80 && seen.row1 > 80 && seen.column0 <= 60 && seen.column1 > 60).toBe(true);
  expect(there).toEqual(reveal(near, 80, 60));
  const none = {
    region: {
      text: "",
      numel: 0,
      axes: [[5, 5, 1] as [number, number, number], [0, 70, 1] as [number, number, number]],
    },
  };
  expect(towards(near, sheet, none)).toBe(near);
});
