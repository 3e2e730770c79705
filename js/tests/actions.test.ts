import { afterEach, beforeEach, expect, test, vi } from "vitest";
import messages from "../../tests/messages.json";
import { createClient } from "../src/kernel/client";
import { type Bounds, type EditCall, type LabState, type TileKey, unpack } from "../src/kernel/protocol";
import { type Actions, createActions } from "../src/state/actions";
import { createStore, type Store } from "../src/state/store";
import { FakeModel } from "./fake-model";

interface Example {
  message: Record<string, unknown>;
  ok: boolean;
  why: string;
}
const requests = messages.requests as unknown as Example[];
const sequences = messages.sequences as unknown as {
  messages: Record<string, unknown>[];
  reply: Record<string, unknown>;
}[];
const replies = [
  ...(messages.replies as unknown as { op: string; message: Record<string, unknown> }[]),
  ...sequences.map((each) => ({ op: String(each.messages.at(-1)?.["op"]), message: each.reply })),
];
const reply = (op: string): Record<string, unknown> => {
  const { id: _, revision: __, ...body } = replies.find((each) => each.op === op)?.message ?? {};
  return body;
};

let model: FakeModel;
let store: Store;
let actions: Actions;
let changes: [[string, Bounds][] | "everything", number][];

/** Lets promises that are settled run on. */
const settle = () => vi.advanceTimersByTimeAsync(0);

beforeEach(async () => {
  vi.useFakeTimers();
  model = new FakeModel();
  store = createStore();
  actions = createActions(store, createClient(model));
  changes = [];
  actions.onChanged((changed, revision) => changes.push([changed, revision]));
  actions.connect();
  model.answer("hello", reply("hello"));
  await settle();
});
afterEach(() => {
  vi.useRealTimers();
});

async function open(): Promise<void> {
  void actions.openTensor("conv.weight");
  model.answer("open", reply("open"));
  await settle();
}

/** Names and types of a message's fields, to the depth that the kernel checks. */
function shape(message: Record<string, unknown>): string {
  const kind = (value: unknown): string => (value === null ? "null" : Array.isArray(value) ? "list" : typeof value);
  const fields = Object.entries(message)
    .filter(([key]) => key !== "id")
    .map(([key, value]) => {
      if (key === "op" || key === "edit" || key === "v" || key === "encoding") return `${key}=${String(value)}`;
      if (key === "args") return `args{${Object.keys(value as object).sort()}}`;
      return `${key}:${kind(value)}`;
    });
  return fields.sort().join(" ");
}

test("what the page sends has the shape of the good examples", async () => {
  await open();
  const waiting = new AbortController().signal;
  void actions.refresh();
  const tiles: TileKey[] = [[1, 1, 0, 0]];
  void actions.tiles({ name: "conv.weight", tiles, encoding: "q8", planes: ["extreme"] }, waiting);
  void actions.tiles({ name: "conv.weight", tiles, encoding: "f32", planes: ["min", "max"] }, waiting);
  void actions.read("conv.weight", [[0, 0, 0, 0]]);
  void actions.edit({ edit: "zero_", args: {} });
  void actions.edit({ edit: "fill_", args: { value: "1" } });
  void actions.edit({ edit: "copy_", args: { values: ["1"] } }, "[2]");
  void actions.edit({ edit: "clamp_", args: { min: null, max: "1" } });
  void actions.edit({ edit: "mul_", args: { value: "2" } });
  void actions.edit({ edit: "init_", args: { method: "normal_" } });
  void actions.editCells({ edit: "fill_", args: { value: "0" } }, new Float64Array([1, 2]));
  void actions.undo();
  void actions.undo(true);
  void actions.redo();
  void actions.check();
  void actions.setAutoCheck(false);
  const calls: EditCall[] = [
    { edit: "add_", args: { value: "1" } },
    { edit: "neg_", args: {} },
    { edit: "normal_", args: { mean: "0", std: "1", seed: null } },
    { edit: "uniform_", args: { a: "0", b: "1", seed: "1" } },
    { edit: "init_", args: { method: "normal_", seed: "1" } },
    { edit: "prune_", args: { amount: "0.2", by: "magnitude" } },
    { edit: "quantize_", args: { bits: "4" } },
    { edit: "requires_grad_", args: { flag: false } },
  ];
  for (const call of calls) void actions.edit(call);
  const zero: EditCall = { edit: "zero_", args: {} };
  void actions.edit({ kind: "keep" });
  void actions.edit({ kind: "clamp", min: null, max: "1" });
  void actions.editCells({ kind: "keep" }, new Float64Array([1]));
  void actions.preview(zero, undefined, waiting);
  await settle();
  store.where.value = { kind: "below", value: "0.1" };
  void actions.edit(zero);
  void actions.edit({ kind: "sign" });
  void actions.preview({ edit: "fill_", args: { value: "1" } }, undefined, waiting);
  void actions.release(1);
  void actions.jump(3);
  void actions.jump(0, true);
  void actions.snapshot("before");
  void actions.drop("before");
  void actions.compare("before");
  void actions.restore("before");
  void actions.export("python");
  void actions.save("edited.safetensors");
  model.emit({ v: 1, push: "progress", id: model.last("save").content["id"], done: 1, total: 2, words: "saving" });
  void actions.cancel();
  void actions.showView("held");
  void actions.tiles({ name: "conv.weight", tiles, encoding: "q8", planes: ["mean"] }, waiting, "held");
  void actions.read("conv.weight", [[0, 0, 0, 0]], "held");
  void actions.selectText("[3, :, 1:2]");
  await settle();
  store.room.value = { rows: 300, columns: 700 };
  void actions.openTensor("conv.weight");
  const good = new Set(
    [
      ...requests.filter((each) => each.ok).map((each) => each.message),
      ...sequences.flatMap((each) => each.messages),
    ].map(shape),
  );
  for (const { content } of model.sent) {
    expect([...good], `no example is like ${JSON.stringify(content)}`).toContain(shape(content));
    expect(String(content["id"]).length).toBeLessThanOrEqual(64);
  }
  expect(model.sent.find((sent) => "cells" in sent.content && sent.content["op"] === "edit")?.buffers[0]).toEqual(
    new Float64Array([1, 2]),
  );
});

test("every operation has good and bad examples and a reply that is taken", () => {
  const ops = new Set(requests.filter((each) => each.ok).map((each) => each.message["op"]));
  for (const each of sequences) for (const { op } of each.messages as { op: string }[]) ops.add(op);
  expect([...ops].sort()).toEqual([...new Set(replies.map((each) => each.op))].sort());
  expect(requests.filter((each) => each.ok).length).toBeGreaterThanOrEqual(12);
  expect(requests.filter((each) => !each.ok).length).toBeGreaterThanOrEqual(15);
});

test("an edit writes history and revision, tells what changed, and asks for no check that is already there", async () => {
  await open();
  const done = actions.edit({ edit: "zero_", args: {} });
  await settle();
  expect(model.last("edit").content["region"]).toBe("[...]");
  model.answer("edit", reply("edit"), 1);
  expect(await done).toBe(true);
  expect(store.revision.value).toBe(1);
  expect(store.lab.value?.history.position).toBe(1);
  expect(store.gradients.value?.loss).toBe(2.371);
  expect(changes).toEqual([
    [
      [
        [
          "conv.weight",
          [
            [3, 4],
            [0, 3],
            [0, 3],
            [0, 3],
          ],
        ],
      ],
      1,
    ],
  ]);
  expect(model.sent.filter((sent) => sent.content["op"] === "check")).toHaveLength(0);
});

test("after an edit the check is asked for, when it is on and the report is old", async () => {
  await open();
  void actions.edit({ edit: "zero_", args: {} });
  await settle();
  model.answer("edit", { ...reply("edit"), state: { ...(reply("edit")["state"] as object), gradients: null } }, 1);
  await settle();
  expect(model.sent.some((sent) => sent.content["op"] === "check")).toBe(false);
  store.painted.value = 1;
  await vi.advanceTimersByTimeAsync(50);
  model.answer("check", reply("check"), 1);
  await settle();
  expect(store.gradients.value?.rows).toHaveLength(2);
  expect(model.sent.filter((sent) => sent.content["op"] === "check")).toHaveLength(1);
});

test("a long request shows how far it is; cancelled, it leaves a quiet notice and no alert", async () => {
  const saved = actions.save("edited.safetensors");
  const { message } = messages.pushes[0] as { message: Record<string, unknown> };
  model.emit({ ...message, id: model.last("save").content["id"] });
  expect(store.progress.value).toMatchObject({ done: message["done"], total: message["total"] });
  void actions.cancel();
  expect(model.last("cancel").content["request"]).toBe(model.last("save").content["id"]);
  model.answer("cancel", reply("cancel"));
  model.refuse("save", "Cancelled", "Cancelled while saving fc.weight. Nothing was changed.");
  expect(await saved).toBeNull();
  expect(store.progress.value).toBeNull();
  expect(store.alert.value).toBeNull();
  expect(store.notice.value).toBe("Cancelled while saving fc.weight. Nothing was changed.");
});

test("long columns come packed, and read as lists", () => {
  const columns = {
    name: ["a", "b", "c"],
    kind: { of: ["parameter"], at: [], count: 3 },
    at: { of: [[2], []], at: [0, 1, 0], count: 3 },
  };
  expect(unpack(columns)).toEqual({
    name: ["a", "b", "c"],
    kind: ["parameter", "parameter", "parameter"],
    at: [[2], [], [2]],
  });
});

test("a tensor without values is said to be one, calmly", async () => {
  void actions.openTensor("conv.weight");
  model.refuse("open", "NoValues", "conv.weight [4, 3]: it is on the meta device: its values are not there.");
  await settle();
  expect(store.missing.value).toContain("its values are not there");
  expect(store.alert.value).toBeNull();
  void actions.openTensor("fc.bias");
  expect(store.missing.value).toBe("");
});

test("a region that is refused is never edited as the whole tensor", async () => {
  await open();
  const region = actions.selectText("[99]");
  const done = actions.edit({ edit: "zero_", args: {} });
  model.refuse("region", "EditRefused", "index 99 is outside axis 0");
  expect(await region).toBeNull();
  expect(await done).toBe(false);
  expect(store.alert.value?.message).toContain("outside axis 0");
  // Also when the alert was read, and the box still says what was refused.
  actions.dismiss();
  expect(await actions.edit({ edit: "zero_", args: {} })).toBe(false);
  expect(store.alert.value?.message).toContain("[99]");
  expect(model.sent.some((sent) => sent.content["op"] === "edit")).toBe(false);
  await actions.selectText("");
  void actions.edit({ edit: "zero_", args: {} });
  await settle();
  expect(model.last("edit").content["region"]).toBe("[...]");
});

test("listed cells are sent as they were typed: their canonical text cannot be read back", async () => {
  await open();
  const region = actions.selectText("[[0, 2]]");
  model.answer("region", { name: "conv.weight", region: { text: "[54 cells]", numel: 54, axes: [] } });
  await region;
  void actions.edit({ edit: "zero_", args: {} });
  await settle();
  expect(model.last("edit").content["region"]).toBe("[[0, 2]]");
});

test("a jump goes to an entry and everything is drawn again; its conflict knows where it was to go", async () => {
  await open();
  void actions.jump(1);
  model.answer("jump", reply("jump"), 1);
  await settle();
  expect(changes).toEqual([["everything", 1]]);
  void actions.jump(7);
  model.refuse("jump", "UndoConflict", "27 cells changed since", 1);
  await settle();
  expect(store.alert.value).toEqual({ message: "27 cells changed since", retry: "jump", entry: 7 });
});

test("a condition picks among the selected cells, listed cells stand for themselves", async () => {
  await open();
  store.where.value = { kind: "smallest", value: "3" };
  void actions.edit({ edit: "zero_", args: {} });
  await settle();
  expect(model.last("edit").content).toMatchObject({ region: "[...]", where: { kind: "smallest", value: "3" } });
  actions.selectAxes([
    [1, 2, 1],
    [0, 1, 1],
    [0, 3, 1],
    [0, 3, 1],
  ]);
  actions.reselect("invert");
  void actions.edit({ edit: "zero_", args: {} });
  await settle();
  expect(model.last("edit").content["where"]).toBeUndefined();
  expect(model.last("edit").content["cells"]).toBe(true);
  expect((model.last("edit").buffers[0] as Float64Array).length).toBe(108 - 9);
  actions.reselect("invert");
  expect(store.selection.value?.region.text).toBe("[1, 0]");
});

test("the last edit is repeated on another selection", async () => {
  await open();
  void actions.edit({ edit: "fill_", args: { value: "2" } }, "[0]");
  await settle();
  model.answer("edit", reply("edit"), 1);
  await settle();
  actions.selectAxes([
    [2, 3, 1],
    [0, 3, 1],
    [0, 3, 1],
    [0, 3, 1],
  ]);
  void actions.repeat();
  await settle();
  expect(model.last("edit").content).toMatchObject({ edit: "fill_", args: { value: "2" }, region: "[2]" });
});

test("a preview is kept, and what the kernel has against it is no alert", async () => {
  await open();
  const signal = new AbortController().signal;
  const good = actions.preview({ edit: "zero_", args: {} }, undefined, signal);
  await settle();
  model.answer("preview", reply("preview"));
  expect(await good).toBe("");
  expect(store.preview.value?.changed).toBe(9);
  const bad = actions.preview({ edit: "fill_", args: { value: "x" } }, undefined, signal);
  await settle();
  model.refuse("preview", "EditRefused", "'x' is no number");
  expect(await bad).toBe("'x' is no number");
  expect(store.preview.value).toBeNull();
  expect(store.alert.value).toBeNull();
});

test("a view that the kernel does not have leaves the picture as it is", async () => {
  await open();
  void actions.showView("gradient");
  model.refuse("open", "WeightLabError", "no gradient yet");
  await settle();
  expect(store.open.value?.view).toBe("value");
  expect(store.alert.value?.message).toBe("no gradient yet");
  void actions.showView("held");
  expect(model.last("open").content["view"]).toBe("held");
  model.answer("open", reply("open"));
  await settle();
  expect(store.open.value?.view).toBe("held");
});

test("a conflict offers to insist, and insisting sends force", async () => {
  void actions.undo();
  model.refuse("undo", "UndoConflict", "27 cells changed since");
  await settle();
  expect(store.alert.value).toEqual({ message: "27 cells changed since", retry: "undo" });
  void actions.undo(true);
  expect(model.last("undo").content["force"]).toBe(true);
  model.answer("undo", reply("undo"), 2);
  await settle();
  expect(store.alert.value).toBeNull();
});

test("a lost push is caught up with at the next reply", async () => {
  await open();
  void actions.read("conv.weight", [[0, 0, 0, 0]]);
  const wanted = { name: "conv.weight", tiles: [[0, 0, 0, 0]] as TileKey[], encoding: "f32" as const };
  const tiles = actions.tiles(wanted, new AbortController().signal);
  model.answer("tiles", reply("tiles"), 5);
  expect((await tiles).revision).toBe(5);
  expect(store.revision.value).toBe(5);
  await vi.advanceTimersByTimeAsync(500);
  expect(changes).toEqual([["everything", 5]]);
  expect(model.sent.filter((sent) => sent.content["op"] === "hello")).toHaveLength(2);
});

test("a push tells what changed once and brings the state, and a training loop's pushes ask the kernel nothing", async () => {
  const { state } = reply("undo") as { state: LabState };
  for (let revision = 1; revision <= 50; revision += 1) {
    model.emit({ v: 1, push: "changed", revision, changed: [["fc.bias", [[0, 1]]]], state });
    model.emit({ v: 1, push: "changed", revision, changed: [["fc.bias", [[0, 1]]]], state });
    await vi.advanceTimersByTimeAsync(100);
  }
  expect(changes).toHaveLength(50);
  expect(model.sent.filter((sent) => sent.content["op"] === "hello")).toHaveLength(1);
  expect(store.lab.value).toEqual(state);
  // An edit that waits for a short step of training is over before anybody has read that it waits.
  model.emit({ v: 1, push: "status", queued: 1 });
  expect(store.queued.value).toBe(0);
  model.emit({ v: 1, push: "status", queued: 0 });
  await vi.advanceTimersByTimeAsync(1000);
  expect(store.queued.value).toBe(0);
  model.emit({ v: 1, push: "status", queued: 2 });
  await vi.advanceTimersByTimeAsync(1000);
  expect(store.queued.value).toBe(2);
});

test("an answer about a tensor that is no longer open is dropped", async () => {
  void actions.openTensor("conv.weight");
  const old = model.last("open").content["id"];
  void actions.openTensor("fc.bias");
  model.emit({ v: 1, id: old, ok: true, revision: 0, ...reply("open") });
  await settle();
  expect(store.open.value).toMatchObject({ name: "fc.bias", view: "value", layout: null, summary: null });
});

test("what is open stays in sight until the next has come, unless that takes long", async () => {
  await open();
  actions.selectAxes([[0, 1, 1]]);
  void actions.openTensor("fc.bias");
  expect(store.opening.value).toBe("fc.bias");
  expect(store.open.value?.name).toBe("conv.weight");
  // The page asks about the tensor that is coming, not about the one that is going.
  const region = actions.selectText("[2]");
  const edit = actions.edit({ edit: "zero_", args: {} });
  model.answer("open", { ...reply("open"), name: "fc.bias" });
  await settle();
  expect(store.open.value).toMatchObject({ name: "fc.bias" });
  expect(store.opening.value).toBe("");
  expect(model.last("region").content["name"]).toBe("fc.bias");
  model.answer("region", { ...reply("region"), name: "fc.bias" });
  await region;
  await settle();
  expect(model.last("edit").content["name"]).toBe("fc.bias");
  model.answer("edit", reply("edit"));
  await edit;
  void actions.openTensor("conv.weight");
  await vi.advanceTimersByTimeAsync(149);
  expect(store.open.value?.name).toBe("fc.bias");
  await vi.advanceTimersByTimeAsync(2);
  expect(store.open.value).toMatchObject({ name: "conv.weight", layout: null });
  expect(store.selection.value).toBeNull();
  // Nobody waits any more for what was asked for before.
  void actions.openTensor("fc.bias");
  model.answer("open", { ...reply("open"), name: "fc.bias" });
  await vi.advanceTimersByTimeAsync(400);
  expect(store.open.value).toMatchObject({ name: "fc.bias" });
});

test("a sampled summary is followed by the exact one", async () => {
  void actions.openTensor("conv.weight");
  const body = reply("open");
  model.answer("open", { ...body, summary: { ...(body["summary"] as object), exact: false } });
  await settle();
  expect(store.open.value?.summary?.exact).toBe(false);
  await vi.advanceTimersByTimeAsync(400);
  model.answer("summary", reply("summary"));
  await settle();
  expect(store.open.value?.summary?.exact).toBe(true);
});

test("after a restart an action says so instead of hanging", async () => {
  await open();
  model.dead = true;
  expect(await actions.edit({ edit: "zero_", args: {} })).toBe(false);
  expect(store.kernel.value).toBe("restarted");
  expect(store.alert.value?.message).toContain("Run the cell again");
  expect(store.working.value).toBe("");
});
