import { expect, test } from "vitest";
import { itemFor } from "../src/panels/menu";

test("a menu knows the keys of a list (P6)", () => {
  const labels = ["Copy from…", "Average with…", "Add…", "Absolute…"];
  const go = (key: string, at: number) => itemFor(key, labels, at);
  expect([go("Home", 2), go("End", 0), go("ArrowDown", 3), go("ArrowUp", 0)]).toEqual([0, 3, 0, 3]);
  // A letter goes round the items that begin with it.
  expect([go("a", 0), go("a", 1), go("A", 2), go("a", 3), go("c", 0)]).toEqual([1, 2, 3, 1, 0]);
  expect([go("z", 0), go("Tab", 0), go(" ", 0), go("Shift", 1)]).toEqual([null, null, null, null]);
  expect(itemFor("Home", [], -1)).toBeNull();
});
