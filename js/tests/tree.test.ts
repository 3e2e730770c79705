import { expect, test } from "vitest";
import type { ModuleColumns, TensorColumns } from "../src/kernel/protocol";
import { treeMove, typeAhead } from "../src/panels/tree-keys";
import { buildTree, foldedAtFirst, matcher, visibleRows } from "../src/panels/tree-model";
import { rowsInSight } from "../src/panels/use-window";

function columns(...name: string[]): TensorColumns {
  const each = <T>(value: T): T[] => name.map(() => value);
  return {
    name,
    kind: each("parameter"),
    shape: each([2]),
    dtype: each("float32"),
    device: each("cpu"),
    requires_grad: each(true),
    aliases: each([]),
    editable: each(true),
    reason: each(""),
  };
}

const modules: ModuleColumns = {
  name: ["", "conv", "body", "body.0", "body.0.act", "body.0.fc", "head"],
  type: ["Net", "Conv2d", "Sequential", "Block", "ReLU", "Linear", "Linear"],
};
const tensors = columns("scale", "conv.weight", "conv.bias", "body.0.fc.weight", "head.weight");
const names = (filter: string, folded: string[] = []): string[] =>
  visibleRows(buildTree(tensors, modules), new Set(folded), matcher(filter)).rows.map((row) => row.node.name);

test("a module's own tensors come before its submodules, and every module has a row", () => {
  expect(names("")).toEqual([
    "scale",
    "conv",
    "conv.weight",
    "conv.bias",
    "body",
    "body.0",
    "body.0.act",
    "body.0.fc",
    "body.0.fc.weight",
    "head",
    "head.weight",
  ]);
});

test("levels, set sizes and positions are those of the rows shown", () => {
  const { rows } = visibleRows(buildTree(tensors, modules), new Set(["body"]), null);
  const row = (name: string) => rows.find((each) => each.node.name === name);
  expect(row("conv.bias")).toMatchObject({ level: 2, setsize: 2, posinset: 2, expanded: false });
  expect(row("body")).toMatchObject({ level: 1, setsize: 4, posinset: 3, expanded: false });
  expect(row("body.0")).toBeUndefined();
  const filtered = visibleRows(buildTree(tensors, modules), new Set(), matcher("bias"));
  expect(filtered.rows.map((each) => [each.node.name, each.setsize])).toEqual([
    ["conv", 1],
    ["conv.bias", 1],
  ]);
  expect(filtered.matches).toBe(1);
});

test("a filter takes any part, any case, and * for anything", () => {
  expect(names("FC.W")).toEqual(["body", "body.0", "body.0.fc", "body.0.fc.weight"]);
  expect(names("b*0*weight")).toEqual(["body", "body.0", "body.0.fc", "body.0.fc.weight"]);
  expect(names("relu")).toEqual([]);
  expect(names("act")).toEqual(["body", "body.0", "body.0.act"]);
  expect(names("c.n")).toEqual([]);
  expect(names("   ")).toHaveLength(11);
  expect(names("weight*conv")).toEqual([]);
});

test("a dot, a bracket and a plus in a filter are themselves", () => {
  expect(() => names("[(+")).not.toThrow();
  expect(names("conv.w")).toEqual(["conv", "conv.weight"]);
});

test("parents that no module column lists are made, and a tensor may share a module's name", () => {
  const odd = columns("a", "a.b", "x.y.z");
  const { rows } = visibleRows(buildTree(odd, { name: [], type: [] }), new Set(), null);
  expect(rows.map((row) => [row.node.name, row.node.kind])).toEqual([
    ["a", "parameter"],
    ["a", "module"],
    ["a.b", "parameter"],
    ["x", "module"],
    ["x.y", "module"],
    ["x.y.z", "parameter"],
  ]);
});

test("five thousand parameters are built and filtered in a blink, and start folded", () => {
  const many = columns(...Array.from({ length: 5000 }, (_, at) => `layers.${at >> 3}.part${at % 8}.weight`));
  const begun = performance.now();
  const roots = buildTree(many, { name: [""], type: ["Net"] });
  const shown = visibleRows(roots, foldedAtFirst(roots), matcher("77*part3"));
  expect(performance.now() - begun).toBeLessThan(500);
  expect(shown.matches).toBeGreaterThan(0);
  expect(visibleRows(roots, foldedAtFirst(roots), null).rows.length).toBeLessThan(700);
});

test("only rows in sight are drawn, also after the list became short", () => {
  expect(rowsInSight({ top: 0, height: 240 }, 5000, 24)).toEqual([0, 20]);
  expect(rowsInSight({ top: 24_000, height: 240 }, 5000, 24)).toEqual([990, 1020]);
  const [start, end] = rowsInSight({ top: 24_000, height: 240 }, 3, 24);
  expect(end).toBe(3);
  expect(start).toBeLessThanOrEqual(2);
  expect(rowsInSight({ top: 0, height: 240 }, 0, 24)).toEqual([0, 0]);
});

test("arrows walk the tree as in any tree", () => {
  const { rows } = visibleRows(buildTree(tensors, modules), new Set(["body"]), null);
  const at = (name: string) => rows.findIndex((row) => row.node.name === name);
  expect(treeMove("ArrowDown", rows, 0)).toEqual({ do: "go", to: 1 });
  expect(treeMove("ArrowUp", rows, 0)).toEqual({ do: "go", to: 0 });
  expect(treeMove("ArrowRight", rows, at("body"))).toMatchObject({ do: "unfold" });
  expect(treeMove("ArrowRight", rows, at("conv"))).toEqual({ do: "go", to: at("conv.weight") });
  expect(treeMove("ArrowLeft", rows, at("conv.bias"))).toEqual({ do: "go", to: at("conv") });
  expect(treeMove("ArrowLeft", rows, at("conv"))).toMatchObject({ do: "fold" });
  expect(treeMove("End", rows, 0)).toEqual({ do: "go", to: rows.length - 1 });
  expect(treeMove("Enter", rows, 2)).toMatchObject({ do: "activate" });
  expect(treeMove("x", rows, 2)).toBeNull();
  expect(treeMove("ArrowDown", rows, -1)).toEqual({ do: "go", to: 0 });
});

test("typing goes to the next row that begins so, and around the end", () => {
  const { rows } = visibleRows(buildTree(tensors, modules), new Set(), null);
  const label = (at: number) => rows[at]?.node.name;
  expect(label(typeAhead("w", rows, 0))).toBe("conv.weight");
  expect(label(typeAhead("w", rows, 2))).toBe("body.0.fc.weight");
  expect(label(typeAhead("he", rows, 0))).toBe("head");
  expect(label(typeAhead("s", rows, 5))).toBe("scale");
  expect(typeAhead("zz", rows, 0)).toBe(-1);
});
