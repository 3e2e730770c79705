import { expect, test } from "vitest";
import { grow, invert, listText, MOST_LISTED, otherParts, partsOfText, unite, whole } from "../src/state/cell-sets";

type Axis = [number, number, number];

test("inverting a region that is cut at one end of one axis gives a region", () => {
  expect(
    invert(
      [
        [0, 3, 1],
        [0, 5, 1],
      ],
      [8, 5],
    ),
  ).toEqual([
    [3, 8, 1],
    [0, 5, 1],
  ]);
  expect(
    invert(
      [
        [0, 8, 1],
        [2, 5, 1],
      ],
      [8, 5],
    ),
  ).toEqual([
    [0, 8, 1],
    [0, 2, 1],
  ]);
});

test("any other region inverts to the listed cells that it does not hold", () => {
  const axes: Axis[] = [
    [1, 4, 2],
    [1, 2, 1],
  ];
  const cells = invert(axes, [4, 3]);
  expect(cells).toEqual(new Float64Array([0, 1, 2, 3, 5, 6, 7, 8, 9, 11]));
});

test("nothing is left of the whole, and too many cells are not listed", () => {
  expect(invert(whole([4, 3]), [4, 3])).toBeNull();
  const size = MOST_LISTED + 2;
  expect(invert([[1, 2, 1]], [size])).toBeNull();
  expect(invert([[1, 3, 1]], [size])).toBeInstanceOf(Float64Array);
});

test("growing stops at the edges, and two regions unite to the smallest that holds both", () => {
  expect(
    grow(
      [
        [0, 2, 1],
        [3, 5, 2],
      ],
      [4, 5],
    ),
  ).toEqual([
    [0, 3, 1],
    [2, 5, 1],
  ]);
  expect(
    unite(
      [
        [0, 2, 1],
        [0, 8, 2],
      ],
      [
        [3, 4, 1],
        [0, 8, 2],
      ],
    ),
  ).toEqual([
    [0, 4, 1],
    [0, 8, 2],
  ]);
});

test("boxes that differ along one axis are a list of its indices, there and back", () => {
  const box = (from: number, to: number): Axis[] => [
    [from, to, 1],
    [0, 3, 1],
  ];
  const parts = [box(1, 3), box(9, 11)];
  expect(listText(parts, [12, 3])).toBe("[[1, 2, 9, 10]]");
  expect(partsOfText("[[1, 2, 9, 10]]", [12, 3])).toEqual(parts);
  expect(partsOfText("[[-2, 1, -3, 2, 1]]", [12, 3])).toEqual(parts);
  expect(partsOfText("[[1, 12]]", [12, 3])).toBeNull();
  expect(partsOfText("[1:3]", [12, 3])).toBeNull();
  expect(otherParts(parts, [12, 3])).toEqual([box(0, 1), box(3, 9), box(11, 12)]);
});

test("a list on an inner axis keeps its place", () => {
  const parts: Axis[][] = [
    [
      [0, 4, 1],
      [0, 1, 1],
      [1, 2, 1],
    ],
    [
      [0, 4, 1],
      [4, 6, 1],
      [1, 2, 1],
    ],
  ];
  expect(listText(parts, [4, 8, 5])).toBe("[:, [0, 4, 5], 1]");
});
