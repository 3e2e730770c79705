import { signal } from "@preact/signals";
import { expect, test } from "vitest";
import { Pair } from "../src/heatmap/pair";
import type { Picture } from "../src/heatmap/picture";
import { keyOf, shownBy } from "../src/heatmap/session";
import { secondStore } from "../src/state/second";
import { createStore, type OpenTensor } from "../src/state/store";

const picture = (): Picture => ({ twin: signal<Picture | null>(null) }) as unknown as Picture;

test("two pictures know each other from when the second joins until one of them leaves", () => {
  const pair = new Pair();
  const [one, other] = [picture(), picture()];
  pair.join(one);
  expect(one.twin.value).toBe(null);
  const leave = pair.join(other);
  expect(one.twin.value).toBe(other);
  expect(other.twin.value).toBe(one);
  leave();
  expect(one.twin.value).toBe(null);
  expect(other.twin.value).toBe(null);
  const third = picture();
  pair.join(third);
  expect(one.twin.value).toBe(third);
});

test("the second picture has its own view and colours, and shares selection, tool and reduction", () => {
  const store = createStore();
  const second = secondStore(store);
  second.range.value = { kind: "full" };
  second.map.value = "viridis";
  second.painted.value = 7;
  expect(store.range.value).toEqual({ kind: "symmetric" });
  expect(store.map.value).toBe("auto");
  // The check after an edit waits for the first picture alone.
  expect(store.painted.value).toBe(0);
  store.reduction.value = "mean";
  store.peek.value = true;
  expect(second.reduction.value).toBe("mean");
  expect(second.peek.value).toBe(false);
  expect(second.selection).toBe(store.selection);
});

test("the key of a picture says whose it is, whatever signs are in the name of its tensor or view", () => {
  for (const [name, shows] of [
    ["fc.weight", "value"],
    ["a value.weight", "diff:at step 3"],
    ['the "first" layer.weight', "value"],
  ] as const) {
    const key = keyOf({ name, view: shows, layout: { shape: [2, 3] } } as OpenTensor, shows);
    expect(shownBy(key).slice(0, 2)).toEqual([name, shows]);
  }
});
