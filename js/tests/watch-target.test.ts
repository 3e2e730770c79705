import { afterEach, beforeEach, expect, test, vi } from "vitest";
import messages from "../../tests/messages.json";
import { createClient } from "../src/kernel/client";
import { watchTarget } from "../src/panels/watch-target";
import { type Actions, createActions } from "../src/state/actions";
import { createStore, type Store } from "../src/state/store";
import { FakeModel } from "./fake-model";

const reply = (op: string): Record<string, unknown> => {
  const list = messages.replies as unknown as { op: string; message: Record<string, unknown> }[];
  const { id: _, revision: __, ...body } = list.find((each) => each.op === op)?.message ?? {};
  return body;
};
const PAUSE = 200;
const settle = (milliseconds = 0) => vi.advanceTimersByTimeAsync(milliseconds);
const region = (numel: number) => ({ name: "conv.weight", region: { text: `[${numel} cells]`, numel, axes: [] } });

let model: FakeModel;
let store: Store;
let actions: Actions;
let stop: () => void;

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
  stop = watchTarget({ store, actions });
});
afterEach(() => {
  stop();
  vi.useRealTimers();
});
const asked = () => model.sent.filter(({ content }) => content["op"] === "region").length;

test("a target tells how many cells it picks and which, as it is typed", async () => {
  store.where.value = { kind: "largest", value: "" };
  await settle(PAUSE);
  expect(asked()).toBe(0);
  store.where.value = { kind: "largest", value: "1" };
  store.where.value = { kind: "largest", value: "12" };
  await settle(PAUSE);
  expect(asked()).toBe(1);
  expect(model.last("region").content).toMatchObject({ text: "[...]", where: { kind: "largest", value: "12" } });
  const marks = new DataView(new Float64Array([3, 5]).buffer);
  model.answer("region", region(12), 0, [marks]);
  await settle();
  expect(store.picked.value).toMatchObject({ cells: 12, error: "" });
  expect(store.picked.value?.marks?.getFloat64(8, true)).toBe(5);
  store.revision.value += 1;
  await settle(PAUSE);
  expect(asked()).toBe(2);
  store.where.value = null;
  expect(store.picked.value).toBeNull();
});

test("what is wrong with its number is told before anything is edited, and is no alert", async () => {
  store.where.value = { kind: "below", value: "abc" };
  await settle(PAUSE);
  model.refuse("region", "EditRefused", "'abc' is no number");
  await settle();
  expect(store.picked.value).toEqual({ cells: null, marks: null, error: "'abc' is no number" });
  expect(store.alert.value).toBeNull();
});

test("an edit whose target picks nothing says that no cell is meant", async () => {
  store.where.value = { kind: "below", value: "1e-9" };
  void actions.edit({ edit: "zero_", args: {} });
  await settle();
  const { state } = reply("undo");
  model.answer("edit", { entry: null, state, behind: null });
  await settle();
  model.answer("region", region(0));
  await settle();
  expect(store.notice.value).toBe("No cell is meant: none of them has |w| < 1e-9.");
  void actions.edit({ edit: "zero_", args: {} });
  await settle();
  model.answer("edit", { entry: null, state, behind: null });
  await settle();
  model.answer("region", region(4));
  await settle();
  expect(store.notice.value).toBe("No cell changed: they already held these values.");
});
