/** The check that the first edit is compared with, over a fake kernel. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import messages from "../../tests/messages.json";
import { createClient } from "../src/kernel/client";
import type { Hello, LabState } from "../src/kernel/protocol";
import { createActions } from "../src/state/actions";
import { checkFirst } from "../src/state/first-check";
import { createStore, type OpenTensor, type Store } from "../src/state/store";
import { FakeModel } from "./fake-model";

const told = (messages.replies as unknown as { op: string; message: Hello }[]).find(({ op }) => op === "hello");

let kernel: FakeModel;
let store: Store;
let stops: (() => void)[];
const asked = (): number => kernel.sent.filter(({ content }) => content["op"] === "check").length;
const shown = (): void => {
  store.open.value = { name: "fc.weight", view: "value", layout: {} } as unknown as OpenTensor;
};

async function show(model: Partial<Hello["model"]>, lab: Partial<LabState>): Promise<void> {
  kernel = new FakeModel();
  store = createStore();
  const actions = createActions(store, createClient(kernel));
  actions.connect();
  const { id: _, revision: __, ...reply } = structuredClone(told?.message) as Hello & Record<string, unknown>;
  Object.assign(reply.model, { batch: true, parameters: 100 }, model);
  Object.assign(reply.state, { auto_check: true, gradients: null }, lab);
  stops = [checkFirst(store, actions), checkFirst(store, actions)];
  kernel.answer("hello", reply);
  await vi.advanceTimersByTimeAsync(0);
}

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  for (const stop of stops) stop();
  vi.useRealTimers();
});

test("a Lab with a batch is checked once behind its first picture, however many views show it", async () => {
  await show({}, {});
  await vi.advanceTimersByTimeAsync(2000);
  expect(asked()).toBe(0);
  shown();
  expect(asked()).toBe(0);
  await vi.advanceTimersByTimeAsync(2000);
  expect(asked()).toBe(1);
  shown();
  await vi.advanceTimersByTimeAsync(2000);
  expect(asked()).toBe(1);
});

test.each([
  ["without a batch", { batch: false }, {}],
  ["large", { parameters: 2 ** 25 }, {}],
  ["that is not to be checked after edits", {}, { auto_check: false }],
  ["that was checked", {}, { gradients: { revision: 0, rows: [] } as unknown as LabState["gradients"] }],
])("a Lab %s is not checked unasked", async (_, model, lab) => {
  await show(model, lab);
  shown();
  await vi.advanceTimersByTimeAsync(2000);
  expect(asked()).toBe(0);
});

test("a view that is closed before its picture asks for nothing", async () => {
  await show({}, {});
  shown();
  for (const stop of stops) stop();
  await vi.advanceTimersByTimeAsync(2000);
  expect(asked()).toBe(0);
});
