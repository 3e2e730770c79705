import { afterEach, beforeEach, expect, test, vi } from "vitest";
import messages from "../../tests/messages.json";
import { createClient } from "../src/kernel/client";
import { type Actions, createActions } from "../src/state/actions";
import { type Axis, grow, growParts, partsOfText, whole } from "../src/state/cell-sets";
import { boundsOf, cellsIn, joined, otherCells, wider, without } from "../src/state/listed-cells";
import { createStore, type Store } from "../src/state/store";
import { FakeModel } from "./fake-model";

const reply = (op: string): Record<string, unknown> => {
  const list = messages.replies as unknown as { op: string; message: Record<string, unknown> }[];
  const { id: _, revision: __, ...body } = list.find((each) => each.op === op)?.message ?? {};
  return body;
};
const settle = () => vi.advanceTimersByTimeAsync(0);
const SHAPE = [4, 3, 3, 3];
const filters = (from: number, to: number): Axis[] =>
  whole(SHAPE).map((all, axis) => (axis === 0 ? [from, to, 1] : all));
const list = (cells: Float64Array | null): number[] => [...(cells ?? [])];

let model: FakeModel;
let store: Store;
let actions: Actions;

/** conv.weight [4, 3, 3, 3] is open. */
beforeEach(async () => {
  vi.useFakeTimers();
  model = new FakeModel();
  store = createStore();
  actions = createActions(store, createClient(model));
  actions.connect();
  model.answer("hello", reply("hello"));
  await settle();
  void actions.openTensor("conv.weight");
  model.answer("open", reply("open"));
  await settle();
});
afterEach(() => {
  vi.useRealTimers();
});

test("listed cells grow as the box of the same cells does", () => {
  const shape = [5, 4, 3];
  const boxes: Axis[][] = [
    [
      [2, 3, 1],
      [1, 2, 1],
      [0, 1, 1],
    ],
    [
      [0, 2, 1],
      [3, 4, 1],
      [1, 2, 1],
    ],
  ];
  for (const box of boxes) {
    const cells = cellsIn([box], shape) as Float64Array;
    expect(boundsOf(cells, shape)).toEqual(box);
    expect(list(wider(cells, shape))).toEqual(list(cellsIn([grow(box, shape)], shape)));
    const others = otherCells(cells, shape) as Float64Array;
    expect(list(otherCells(others, shape))).toEqual(list(cells));
    expect(list(joined(others, cells))).toEqual(Array.from({ length: 60 }, (_, flat) => flat));
    expect(list(without(others, cells))).toEqual(list(others));
  }
  expect(wider(new Float64Array([70_000]), [300_000])).toEqual(new Float64Array([69_999, 70_000, 70_001]));
  expect(otherCells(new Float64Array([1]), [300_000])).toBeNull();
});

test("a list of indices grows along its own axis and all others", () => {
  const parts = partsOfText("[[0, 5, 6]]", [9, 4]) as Axis[][];
  expect(growParts(parts, [9, 4]).map(([range]) => range)).toEqual([
    [0, 2, 1],
    [4, 8, 1],
  ]);
});

test("grow after invert grows the inverted cells, not the region before", async () => {
  actions.selectAxes(filters(1, 3));
  await actions.reselect("invert");
  expect(store.selection.value?.region.numel).toBe(54);
  await actions.reselect("grow");
  // Filters 0 and 3 with their neighbours are everything.
  expect(store.selection.value?.region).toMatchObject({ text: "[...]", numel: 108 });
  void actions.selectText("");
  actions.selectCells(new Float64Array([0, 107]), "add");
  await actions.reselect("grow");
  expect(store.selection.value?.region.numel).toBe(2 * 2 ** 4);
  actions.selectAxes([
    [1, 2, 1],
    [1, 2, 1],
    [1, 2, 1],
    [0, 3, 1],
  ]);
  await actions.reselect("invert");
  await actions.reselect("invert");
  expect(store.selection.value?.region.text).toBe("[1, 1, 1]");
  actions.selectCells(new Float64Array([0]), "take");
  expect(store.selection.value?.region.text).toBe("[1, 1, 1]");
  await actions.reselect("invert");
  actions.selectCells(new Float64Array([0]), "take");
  await actions.reselect("grow");
  expect(store.selection.value?.region.text).toBe("[...]");
});

test("invert and grow right after a region text wait for it", async () => {
  const typed = actions.selectText("[1]");
  const inverted = actions.reselect("invert");
  const region = { text: "[1]", numel: 27, axes: filters(1, 2) };
  model.answer("region", { name: "conv.weight", region });
  await Promise.all([typed, inverted]);
  expect(store.selection.value?.region.numel).toBe(81);
  void actions.selectText("[99]");
  const grown = actions.reselect("grow");
  model.refuse("region", "EditRefused", "index 99 is outside axis 0");
  await grown;
  expect(store.selection.value?.region.numel).toBe(81);
  expect(store.alert.value?.message).toContain("outside axis 0");
});

test("a region text that arrives after a later selection does not replace it", async () => {
  const typed = actions.selectText("[1]");
  actions.selectAxes(filters(2, 3));
  model.answer("region", { name: "conv.weight", region: { text: "[1]", numel: 27, axes: filters(1, 2) } });
  await typed;
  expect(store.selection.value?.region.text).toBe("[2]");
});

test("painted cells join what is selected, or leave it; without a cell left no cell is meant", async () => {
  actions.selectCells(new Float64Array([3, 5]), "add");
  expect(store.selection.value?.region.text).toBe("[2 cells]");
  actions.selectCells(new Float64Array([5, 9]), "add");
  expect(list(store.selection.value?.cells ?? null)).toEqual([3, 5, 9]);
  void actions.edit({ edit: "zero_", args: {} });
  await settle();
  expect(model.last("edit").buffers[0]).toEqual(new Float64Array([3, 5, 9]));
  actions.selectCells(new Float64Array([3, 5, 9]), "take");
  expect(store.selection.value?.region).toMatchObject({ text: "[0:0]", numel: 0 });
  actions.selectAxes(filters(1, 2));
  actions.selectCells(new Float64Array([27, 0]), "add");
  expect(store.selection.value?.region.numel).toBe(28);
});
