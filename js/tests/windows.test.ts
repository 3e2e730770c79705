import { batch } from "@preact/signals";
import { afterEach, beforeEach, expect, test } from "vitest";
import { oneWindow } from "../src/panels/windows";
import { createStore, type OpenTensor, type Store } from "../src/state/store";
import { createView, type View } from "../src/state/view";

let store: Store;
let view: View;
let stop: () => void;

const opened = (name: string) => ({ name, view: "value", layout: null }) as OpenTensor;

beforeEach(() => {
  store = createStore();
  view = createView();
  store.open.value = opened("emb.weight");
  stop = oneWindow({ store, view });
});
afterEach(() => stop());

test("a window that opens closes the one before it", () => {
  view.dialog.value = "fill";
  view.help.value = true;
  expect(view.dialog.value).toBeNull();
  store.comparison.value = { label: "before", rows: [], equal: 3 };
  expect(view.help.value).toBe(false);
  view.dialog.value = "save";
  expect(store.comparison.value).toBeNull();
  view.dialog.value = "hold";
  expect(view.dialog.value).toBe("hold");
});

test("another tensor closes a form, and the same one read again does not", () => {
  view.dialog.value = "fill";
  store.open.value = { ...opened("emb.weight"), view: "held" };
  expect(view.dialog.value).toBe("fill");
  store.opening.value = "fc.weight";
  expect(view.dialog.value).toBeNull();
  view.dialog.value = "fill";
  batch(() => {
    store.open.value = opened("fc.weight");
    store.opening.value = "";
  });
  expect(view.dialog.value).toBe("fill");
  view.dialog.value = "save";
  store.open.value = opened("emb.weight");
  expect(view.dialog.value).toBe("save");
});
