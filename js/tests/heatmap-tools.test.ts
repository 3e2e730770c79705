import { expect, test } from "vitest";
import { type Cell, flatOf, indexOf, makeSheet } from "../src/heatmap/layout";
import { brushCall } from "../src/heatmap/painting";
import {
  cancel,
  footprint,
  type Gesture,
  IDLE,
  line,
  MOST_PAINTED,
  move,
  type Point,
  paintedIndices,
  press,
  release,
} from "../src/heatmap/tools";
import { below, PLAIN, random } from "./heatmap-seed";

const sheet = makeSheet({ ...PLAIN, rows: [0], columns: [1], facets: [], wrap: 1, labels: ["", ""], shape: [40, 50] });
const point = (row: number, column: number): Point => ({
  x: column * 10,
  y: row * 10,
  target: { kind: "cell", cell: { row, column } },
  nearest: { row, column },
  inside: true,
});

function drag(tool: "select" | "brush", path: [number, number][], size = 1): Gesture {
  const [first, ...rest] = path.map(([row, column]) => point(row, column));
  let gesture = press(tool, first as Point, sheet, size);
  for (const each of rest) gesture = move(gesture, each, sheet, size).gesture;
  return gesture;
}

const painted = (gesture: Gesture): string[] =>
  gesture.kind === "brush" ? [...gesture.cells].map((c) => `${Math.floor(c / 50)},${c % 50}`).sort() : [];

test("a click selects a cell, a drag the rectangle in any direction", () => {
  expect(release(drag("select", [[3, 4]]), sheet)).toMatchObject({
    kind: "select",
    regions: [
      [
        [3, 4, 1],
        [4, 5, 1],
      ],
    ],
  });
  expect(
    release(
      drag("select", [
        [7, 9],
        [3, 4],
      ]),
      sheet,
    ),
  ).toMatchObject({
    regions: [
      [
        [3, 8, 1],
        [4, 10, 1],
      ],
    ],
  });
});

test("a press that hardly moves is a click, also where cells are smaller than that", () => {
  const start = press("select", point(3, 4), sheet, 1);
  const near: Point = { ...point(5, 6), x: 41, y: 31 };
  expect(release(move(start, near, sheet, 1).gesture, sheet)).toMatchObject({
    regions: [
      [
        [3, 4, 1],
        [4, 5, 1],
      ],
    ],
  });
});

test("a label stands for its region; a press on nothing for nothing", () => {
  const region: [number, number, number][] = [
    [2, 3, 1],
    [0, 50, 1],
  ];
  const at: Point = { ...point(2, 0), target: { kind: "region", region } };
  expect(release(press("select", at, sheet, 1), sheet)).toEqual({ kind: "label", region });
  expect(press("select", { ...at, target: { kind: "nothing" } }, sheet, 1)).toBe(IDLE);
  expect(press("brush", at, sheet, 1)).toBe(IDLE);
});

test("pan says how far, and commits nothing", () => {
  const next = move(press("pan", point(1, 1), sheet, 1), point(4, 3), sheet, 1);
  expect([next.dx, next.dy]).toEqual([20, 30]);
  expect(release(next.gesture, sheet)).toBeNull();
});

test("cancel leaves nothing to release, whatever was under way", () => {
  for (const gesture of [
    drag("select", [
      [1, 1],
      [5, 5],
    ]),
    drag("brush", [
      [1, 1],
      [5, 5],
    ]),
  ]) {
    expect(release(gesture, sheet)).not.toBeNull();
    expect(release(cancel(), sheet)).toBeNull();
  }
});

test("a brush leaves no gaps between events, however far apart they are", () => {
  const next = random(41);
  for (let round = 0; round < 100; round++) {
    const path = Array.from({ length: 4 }, (): [number, number] => [below(next, 40), below(next, 50)]);
    const gesture = drag("brush", path);
    if (gesture.kind !== "brush") throw new Error("no brush");
    for (const [row, column] of path) expect(gesture.cells.has(row * 50 + column)).toBe(true);
    // Connected: from the first cell every other can be reached over neighbours.
    const left = new Set(gesture.cells);
    const queue = [left.values().next().value as number];
    left.delete(queue[0] as number);
    for (const cell of queue) {
      for (const by of [-51, -50, -49, -1, 1, 49, 50, 51]) if (left.delete(cell + by)) queue.push(cell + by);
    }
    expect(left.size).toBe(0);
  }
  const both = (a: Cell, b: Cell) => [...line(a, b)];
  expect(both({ row: 0, column: 0 }, { row: 2, column: 5 })).toHaveLength(6);
});

test("outside the sheet a brush paints nothing, and coming back begins a new piece (J1)", () => {
  const out = (row: number): Point => ({ ...point(row, 49), target: { kind: "nothing" }, inside: false });
  const gap: Point = { ...point(30, 48), target: { kind: "region", region: [] } };
  let gesture = press("brush", point(10, 47), sheet, 1);
  for (const at of [out(10), out(30), gap, point(32, 47), gap, point(32, 45)]) {
    gesture = move(gesture, at, sheet, 1).gesture;
  }
  // Over a gap between two cells the line goes on.
  expect(painted(gesture)).toEqual(["10,47", "32,45", "32,46", "32,47"]);
});

test("brush size n covers n x n cells; an even size reaches one further down and right (P5)", () => {
  expect(painted(drag("brush", [[5, 5]]))).toEqual(["5,5"]);
  expect(painted(drag("brush", [[5, 5]], 2))).toEqual(["5,5", "5,6", "6,5", "6,6"]);
  expect(painted(drag("brush", [[5, 5]], 3))).toHaveLength(9);
  expect(footprint({ row: 5, column: 5 }, 3)).toEqual({ row0: 4, row1: 7, column0: 4, column1: 7 });
  expect(footprint({ row: 5, column: 5 }, 4)).toEqual({ row0: 4, row1: 8, column0: 4, column1: 8 });
  expect(painted(drag("brush", [[0, 0]], 3))).toEqual(["0,0", "0,1", "1,0", "1,1"]);
});

test("painted cells become flat tensor indices, ascending, without blank ones", () => {
  const conv = makeSheet({
    ...PLAIN,
    rows: [2],
    columns: [1],
    facets: [0],
    wrap: 2,
    labels: ["", "", ""],
    shape: [3, 4, 5],
  });
  const cells = new Set<number>();
  for (let i = conv.rows * conv.columns - 1; i >= 0; i--) cells.add(i);
  const expected: number[] = [];
  for (const cell of cells) {
    const index = indexOf(conv, Math.floor(cell / conv.columns), cell % conv.columns);
    if (index) expected.push(flatOf(conv, index));
  }
  expect(Array.from(paintedIndices(conv, cells))).toEqual(expected.sort((a, b) => a - b));
  expect(expected).toHaveLength(60);
});

test("a stroke stops before it is too large for one message", () => {
  const wide = makeSheet({
    ...PLAIN,
    rows: [0],
    columns: [1],
    facets: [],
    wrap: 1,
    labels: ["", ""],
    shape: [2000, 2000],
  });
  const gesture = press("brush", { ...point(1000, 1000) }, wide, 400);
  expect(gesture).toMatchObject({ kind: "brush", full: true });
  expect(gesture.kind === "brush" && gesture.cells.size).toBe(MOST_PAINTED);
  expect(MOST_PAINTED * 8).toBeLessThan(512 * 1024);
});

test("painting zero zeroes; anything else is sent as it was typed", () => {
  expect(brushCall("0")).toEqual({ edit: "zero_", args: {} });
  expect(brushCall(" 0.0 ")).toEqual({ edit: "zero_", args: {} });
  expect(brushCall("-0")).toEqual({ edit: "fill_", args: { value: "-0" } });
  expect(brushCall("1e-3")).toEqual({ edit: "fill_", args: { value: "1e-3" } });
  expect(brushCall("nan")).toEqual({ edit: "fill_", args: { value: "nan" } });
  expect(brushCall("")).toEqual({ edit: "fill_", args: { value: "" } });
});

test("the brush's mode says what painting does", () => {
  expect(brushCall("0", "add")).toEqual({ edit: "add_", args: { value: "0" } });
  expect(brushCall("2", "scale")).toEqual({ edit: "mul_", args: { value: "2" } });
  expect(brushCall("2", "hold")).toEqual({ kind: "keep" });
});
