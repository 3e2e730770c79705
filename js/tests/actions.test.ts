import { expect, test, vi } from "vitest";
import messages from "../../tests/messages.json";
import type { EditCall, TileKey } from "../src/kernel/protocol";
import { actions, changes, model, open, replies, reply, requests, sequences, settle, shape, store } from "./open-lab";

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
