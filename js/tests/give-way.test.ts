/** An edit does not wait behind the page's own check (rule T3). */
import { expect, test, vi } from "vitest";
import type { Gradients } from "../src/kernel/protocol";
import { actions, model, open, reply, settle, store } from "./open-lab";

const sent = (op: string) => model.sent.filter((each) => each.content["op"] === op);

async function checking(): Promise<unknown> {
  await open();
  const lab = store.lab.value;
  const { gradients } = reply("check")["state"] as { gradients: Gradients };
  if (lab) store.lab.value = { ...lab, auto_check: true, gradients };
  void actions.check();
  return model.last("check").content["id"];
}

test("an edit ends the check that runs, says that it waits, and the check is made again", async () => {
  const id = await checking();
  expect(store.gradients.value).not.toBeNull();
  void actions.edit({ edit: "zero_", args: {} });
  await settle();
  expect(model.last("cancel").content["request"]).toBe(id);
  expect(sent("edit")).toHaveLength(1);
  expect(store.queued.value).toBe(0);
  await vi.advanceTimersByTimeAsync(300);
  expect(store.queued.value).toBe(1);
  // A second edit is one more that waits; the check is ended once.
  void actions.edit({ edit: "zero_", args: {} });
  await vi.advanceTimersByTimeAsync(300);
  expect(store.queued.value).toBe(2);
  expect(sent("cancel")).toHaveLength(1);
  model.refuse("check", "Cancelled", "Cancelled while checking gradients: backward. Nothing was changed.");
  await settle();
  expect([store.queued.value, store.notice.value, store.alert.value]).toEqual([0, "", null]);
  await vi.advanceTimersByTimeAsync(5000);
  expect(sent("check")).toHaveLength(2);
});

test("a check that was asked for with checks after edits switched off stays, and so does the first one", async () => {
  await checking();
  const lab = store.lab.value;
  if (!lab) throw new Error("no state");
  store.lab.value = { ...lab, auto_check: false };
  void actions.edit({ edit: "zero_", args: {} });
  await settle();
  expect(sent("cancel")).toHaveLength(0);
  model.answer("edit", reply("edit"), 1);
  await settle();
  // What it saw is what the first edit is compared with.
  store.lab.value = { ...lab, auto_check: true, gradients: null };
  void actions.undo();
  await vi.advanceTimersByTimeAsync(300);
  expect(sent("cancel")).toHaveLength(0);
  expect(store.queued.value).toBe(1);
});
