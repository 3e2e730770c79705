import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type Client, createClient, Gone, PATIENCE, Refused } from "../src/kernel/client";
import type { Push } from "../src/kernel/protocol";
import { FakeModel } from "./fake-model";

let model: FakeModel;
let client: Client;
let states: string[];
let pushes: Push[];
let settled: string[];

beforeEach(() => {
  vi.useFakeTimers();
  model = new FakeModel();
  client = createClient(model);
  states = [];
  pushes = [];
  settled = [];
  client.listen({
    state: (state) => states.push(state),
    push: (push) => pushes.push(push),
    settled: (id) => settled.push(id),
  });
});
afterEach(() => {
  vi.useRealTimers();
});

test("a reply settles its own request, whatever the order", async () => {
  const first = client.request("read", { name: "a", cells: [[0]] });
  const second = client.request("read", { name: "b", cells: [[0]] });
  const [one, two] = model.sent.map((sent) => sent.content["id"]);
  expect(one).not.toBe(two);
  model.emit({ v: 1, id: two, ok: true, revision: 4, name: "b", texts: ["2"] });
  model.emit({ v: 1, id: one, ok: true, revision: 5, name: "a", texts: ["1"] });
  expect((await first).reply.texts).toEqual(["1"]);
  expect(await second).toMatchObject({ revision: 4, reply: { texts: ["2"] } });
});

test("silence for a second is busy, not an error, and the late reply counts (P9)", async () => {
  const late = client.request("check", {});
  vi.advanceTimersByTime(PATIENCE - 1);
  expect(states).toEqual([]);
  vi.advanceTimersByTime(1);
  expect(states).toEqual(["busy"]);
  vi.advanceTimersByTime(600_000);
  model.answer("check", { state: {} });
  await late;
  expect(states).toEqual(["busy", "ready"]);
});

test("a refusal carries the kernel's kind and words", async () => {
  const asked = client.request("open", { name: "x" });
  model.refuse("open", "UnknownName", "x: no parameter has this name.");
  await expect(asked).rejects.toMatchObject({ kind: "UnknownName", message: "x: no parameter has this name." });
  await expect(asked).rejects.toBeInstanceOf(Refused);
});

test("a send that throws means a restart: nobody waits for ever", async () => {
  const before = client.request("check", {});
  model.dead = true;
  const after = client.request("undo", {});
  await expect(before).rejects.toBeInstanceOf(Gone);
  await expect(after).rejects.toBeInstanceOf(Gone);
  expect(states).toEqual(["restarted"]);
  vi.advanceTimersByTime(10 * PATIENCE);
  expect(states).toEqual(["restarted"]);
});

test("replies to others, replies twice and noise are ignored", async () => {
  const asked = client.request("undo", {});
  model.emit({ v: 1, id: "someone-1", ok: true, revision: 1 });
  model.emit({ v: 2, id: model.last("undo").content["id"], ok: true });
  model.emit("text");
  model.emit(null);
  model.emit({ v: 1, push: "unheard", revision: 1 });
  expect(states).toEqual([]);
  model.answer("undo", { entry: null, state: {} }, 7);
  model.answer("undo", { entry: null, state: {} }, 8);
  expect((await asked).revision).toBe(7);
  expect(states).toEqual(["ready"]);
  expect(pushes).toEqual([]);
});

test("hello is asked again until it is answered, and then no more", async () => {
  const answers: number[] = [];
  client.connect(
    (answer) => answers.push(answer.revision),
    () => {},
  );
  expect(model.sent).toHaveLength(1);
  vi.advanceTimersByTime(2000);
  vi.advanceTimersByTime(4000);
  expect(model.sent).toHaveLength(3);
  model.answer("hello", {}, 9);
  await vi.advanceTimersByTimeAsync(120_000);
  expect(answers).toEqual([9]);
  expect(model.sent).toHaveLength(3);
});

test("an aborted request rejects at once, and its reply is nobody's", async () => {
  const life = new AbortController();
  const asked = client.request("tiles", { name: "a", tiles: [[0, 0, 0, 0]], encoding: "f32" }, { signal: life.signal });
  life.abort();
  await expect(asked).rejects.toMatchObject({ name: "AbortError" });
  model.answer("tiles", {});
  vi.advanceTimersByTime(2 * PATIENCE);
  expect(states).toEqual([]);
});

test("a buffer keeps its place inside a larger one", async () => {
  const whole = new Uint8Array([9, 9, 9, 9, 0, 0, 128, 63]);
  const asked = client.request("tiles", { name: "a", tiles: [[0, 0, 0, 0]], encoding: "f32" });
  model.answer("tiles", { tiles: [], left: [] }, 0, [new DataView(whole.buffer, 4, 4)]);
  expect((await asked).buffer.getFloat32(0, true)).toBe(1);
});

test("pushes arrive", () => {
  model.emit({ v: 1, push: "status", queued: 1 });
  model.emit({ v: 1, push: "changed", revision: 2, changed: [], state: {} });
  expect(pushes.map((push) => push.push)).toEqual(["status", "changed"]);
});

test("progress is told of one's own requests, until they are settled", async () => {
  const asked = client.request("save", { file: "a" });
  const id = String(model.last("save").content["id"]);
  const push = { v: 1, push: "progress", id, done: 1, total: 4, words: "saving a" };
  model.emit(push);
  model.emit({ ...push, id: "someone-1" });
  model.emit({ ...push, done: "1" });
  expect(pushes).toEqual([push]);
  model.refuse("save", "Cancelled", "Cancelled while saving a. Nothing was changed.");
  await expect(asked).rejects.toMatchObject({ kind: "Cancelled" });
  expect(settled).toEqual([id]);
  model.emit(push);
  expect(pushes).toHaveLength(1);
});

test("a closed client leaves no listener and no waiting request", async () => {
  client.onTrait("selected", () => {});
  const asked = client.request("check", {});
  client.close();
  await expect(asked).rejects.toBeInstanceOf(Gone);
  expect(model.listening()).toBe(0);
});

test("a trait that the kernel does not have is not set", () => {
  client.setTrait("selected", "a");
  expect(model.traits).toEqual({});
  model.traits["selected"] = "";
  client.setTrait("selected", "a");
  expect(model.traits["selected"]).toBe("a");
});
