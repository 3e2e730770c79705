import { expect, test, vi } from "vitest";
import { type LabState, type TileKey, unpack } from "../src/kernel/protocol";
import { actions, changes, model, open, reply, settle, store } from "./open-lab";

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

test("a profile that is ended takes its edges back; one that is refused leaves the choice", async () => {
  await open();
  store.profile.value = "norm";
  const refused = actions.profile("conv.weight", 0, "norm");
  model.refuse("profile", "EditRefused", "too long");
  await expect(refused).rejects.toThrow("too long");
  expect(store.profile.value).toBe("norm");
  const ended = actions.profile("conv.weight", 0, "norm");
  model.refuse("profile", "Cancelled", "ended");
  await expect(ended).rejects.toThrow("ended");
  expect(store.profile.value).toBeNull();
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
