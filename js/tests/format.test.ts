import { expect, test } from "vitest";
import type { Entry, GradientRow } from "../src/kernel/protocol";
import { outcome } from "../src/panels/code-line";
import { kernelWords } from "../src/panels/footer";
import { bytes, count, dims, labelledShape, number, scientific } from "../src/panels/format";
import { formOf, listOf, previewOf, previewText, seeded } from "../src/panels/forms";
import { barScale, ratioText, tally } from "../src/panels/gradient-rows";
import { conflictAt, touched } from "../src/panels/history";
import { stays } from "../src/panels/keys";
import { cellCount, regionText } from "../src/state/region-text";
import { widthOf } from "../src/state/view";

test("numbers keep four digits and their sign", () => {
  expect(number(0.18291)).toBe("0.1829");
  expect(number(-0.0011)).toBe("−0.0011");
  expect(number(1.2740001)).toBe("1.274");
  expect(number(3.14159e-7)).toBe("3.14e-7");
  expect(number(-2.5e7)).toBe("−2.50e7");
  expect(number(0)).toBe("0");
  expect(number(null)).toBe("–");
  expect(scientific(0.031)).toBe("3.1e-2");
});

test("counts, bytes and shapes read the same in every locale", () => {
  expect(count(4652008)).toBe("4,652,008");
  expect(count(12)).toBe("12");
  expect(bytes(412)).toBe("412 B");
  expect(bytes(2 ** 30)).toBe("1 GB");
  expect(bytes(1536)).toBe("1.5 KB");
  expect(bytes(1023 * 1024)).toBe("1 MB");
  expect(dims([])).toBe("scalar");
  expect(labelledShape([32, 3, 3, 3], ["out", "in", "", ""])).toBe("[32 out, 3 in, 3, 3]");
});

test("a region by mouse is spelled as the kernel spells it", () => {
  const shape = [16, 3, 7, 7];
  const all = shape.map((size): [number, number, number] => [0, size, 1]);
  expect(regionText(all, shape)).toBe("[...]");
  expect(regionText([[3, 4, 1], ...all.slice(1)] as typeof all, shape)).toBe("[3]");
  expect(
    regionText(
      [
        [3, 4, 1],
        [0, 3, 1],
        [1, 3, 1],
        [0, 7, 1],
      ],
      shape,
    ),
  ).toBe("[3, :, 1:3]");
  expect(
    regionText(
      [
        [0, 16, 2],
        [0, 3, 1],
        [0, 7, 1],
        [6, 7, 1],
      ],
      shape,
    ),
  ).toBe("[0:16:2, :, :, 6]");
  expect(regionText([], [])).toBe("[...]");
  expect(regionText([[0, 1, 1]], [1])).toBe("[...]");
  expect(
    cellCount([
      [0, 16, 3],
      [1, 3, 1],
    ]),
  ).toBe(12);
});

test("kernel states read word for word as P9 says", () => {
  expect(kernelWords("ready", 0)).toBe("kernel ready");
  expect(kernelWords("busy", 0)).toBe("kernel busy");
  expect(kernelWords("busy", 1)).toBe("1 edit queued");
  expect(kernelWords("ready", 2)).toBe("2 edits queued");
  expect(kernelWords("restarted", 1)).toBe("kernel restarted: run the cell again");
});

test("values are taken as typed; only the trailing comma of Python goes", () => {
  expect(listOf("1, -2.5,3e-2")).toEqual(["1", "-2.5", "3e-2"]);
  expect(listOf("[1, 2,]")).toEqual(["1", "2"]);
  expect(listOf("nan")).toEqual(["nan"]);
  expect(listOf("1,,2")).toEqual(["1", "", "2"]);
  expect(listOf("  ")).toEqual([]);
});

test("an outcome tells what was rounded and which tied names changed", () => {
  const entry = {
    id: 1,
    text: "",
    code: "",
    cells: 27,
    names: ["a.weight", "b.weight"],
    held: 0,
    rounded: 3,
    requested: ["1.0", "1.003"],
    stored: ["1.0", "1.0"],
    changed: [["a.weight", [[0, 1]]]] as [string, [number, number][]][],
    notes: ["said so"],
  };
  expect(outcome(entry)).toBe(
    "27 cells changed · asked 1.003 → stored 1.0, 3 cells rounded · also b.weight (tied) · said so",
  );
  expect(outcome({ ...entry, cells: 1, names: ["a.weight"], rounded: 0, notes: [] })).toBe("1 cell changed");
  const hold = { ...entry, text: "Hold a.weight[3]", cells: 0, names: ["a.weight"], rounded: 0, notes: [] };
  expect(outcome({ ...hold, held: 8 })).toBe("8 cells held");
  expect(outcome({ ...hold, held: -1 })).toBe("1 cell released");
  expect(outcome({ ...hold, cells: 2, held: 8, notes: ["call lab.step()"] })).toBe(
    "2 cells changed · 8 cells held · call lab.step()",
  );
  expect(outcome({ ...hold, text: "Freeze a.weight" })).toBe("Freeze a.weight");
  expect([touched({ ...hold, held: -8 }), touched(entry)]).toEqual([8, 27]);
});

const row = (norm: number | null, ratio: number | null = null): GradientRow => ({
  name: "a",
  status: "flowing",
  norm,
  weight: null,
  step: null,
  ratio,
  was: null,
  zero_units: 0,
  units: 1,
});

test("bars are logarithmic, and only a true zero has none", () => {
  const scale = barScale([row(1), row(1e-3), row(0), row(null)]);
  expect(scale(1)).toBeCloseTo(1);
  expect(scale(1e-3)).toBeCloseTo(0.06);
  expect(scale(Math.sqrt(1e-3))).toBeCloseTo(0.53);
  expect(scale(0)).toBe(0);
  expect(barScale([])(1)).toBe(0);
  expect(barScale([row(5)])(5)).toBeCloseTo(1);
});

test("only a notable change of norm is told", () => {
  expect(ratioText(row(1, 1.1))).toBe("");
  expect(ratioText(row(1, 2.4))).toBe("↑ 2.4×");
  expect(ratioText(row(1, 0.25))).toBe("↓ 4×");
  expect(ratioText(row(1))).toBe("");
  expect(tally([row(1), row(2)])).toEqual([["flowing", 2]]);
});

test("plain keys stay, the browser's and the host's pass (P6)", () => {
  const key = (name: string, held: Partial<KeyboardEvent> = {}) =>
    stays({ key: name, ctrlKey: false, metaKey: false, altKey: false, ...held });
  for (const each of ["d", "b", "ArrowDown", "Enter", "Escape", " ", "?"]) expect(key(each), each).toBe(true);
  for (const each of ["Tab", "F5", "F12"]) expect(key(each), each).toBe(false);
  expect(key("z", { ctrlKey: true })).toBe(true);
  expect(key("c", { ctrlKey: true })).toBe(false);
  expect(key("s", { metaKey: true })).toBe(false);
});

test("widths fold at 900 and 600", () => {
  expect([1280, 900, 899, 600, 599].map(widthOf)).toEqual(["wide", "wide", "narrow", "narrow", "slim"]);
});

test("a preview says how many cells change, and from where to where", () => {
  const region = { text: "[3]", numel: 27, axes: [] };
  const of = (cells: number, changed: number, before: [number, number] | null, after: [number, number] | null) =>
    previewText({
      text: "",
      cells,
      changed,
      before,
      after,
      region,
      rounded: 0,
      requested: "",
      stored: "",
      truncated: false,
    });
  expect(of(27, 27, [-0.5, 0.25], [0, 0])).toBe("27 cells change · −0.5 … 0.25 → 0");
  expect(of(864, 27, [-0.5, 0.25], null)).toBe("27 of 864 cells change · −0.5 … 0.25 → not finite");
  expect(of(1, 0, [1, 1], [1, 1])).toBe("None of 1 cell would change.");
  expect(of(0, 0, null, null)).toBe("No cell is meant.");
});

const context = (shape: number[], row = "0") => ({
  shape,
  row,
  sources: ["before", "pretrained"],
  tensor: "fc.weight",
});

test("copies and averages say from where, and of what only where that differs", () => {
  const copy = formOf("copy-from", context([4, 3]));
  expect(copy.call({ source: "before", tensor: "", part: "" })).toEqual({ edit: "copy_", args: { source: "before" } });
  expect(copy.call({ source: "pretrained", tensor: "head.weight", part: "[:4]" })).toEqual({
    edit: "copy_",
    args: { source: "pretrained", tensor: "head.weight", part: "[:4]" },
  });
  const average = formOf("average", context([4, 3]));
  expect(average.call({ source: "before", weight: "" })).toBeNull();
  expect(average.call({ source: "before", weight: "0.5" })).toEqual({
    edit: "lerp_",
    args: { source: "before", weight: "0.5" },
  });
  expect(formOf("copy-from", { ...context([4, 3]), sources: [] }).note).toContain("lab.offer");
});

test("what draws takes the seed that was typed, else the form's own; nothing else has one", () => {
  const call = (name: "normal" | "uniform" | "init" | "prune" | "scale", values: Record<string, string>) => {
    const made = formOf(name, context([4, 3])).call(values);
    return made && seeded(made, "7");
  };
  const seedOf = (made: ReturnType<typeof call>) =>
    made && "edit" in made ? (made.args as { seed?: string }).seed : "";
  expect(seedOf(call("normal", { mean: "0", std: "1", seed: "" }))).toBe("7");
  expect(seedOf(call("normal", { mean: "0", std: "1", seed: "3" }))).toBe("3");
  expect(seedOf(call("uniform", { a: "0", b: "1", seed: "" }))).toBe("7");
  expect(seedOf(call("init", { method: "normal_", seed: "" }))).toBe("7");
  expect(seedOf(call("prune", { amount: "0.5", by: "random", seed: "" }))).toBe("7");
  expect(seedOf(call("prune", { amount: "0.5", by: "random", seed: "3" }))).toBe("3");
  expect(call("prune", { amount: "0.5", by: "magnitude", seed: "3" })).toEqual({
    edit: "prune_",
    args: { amount: "0.5", by: "magnitude" },
  });
  expect(seeded({ kind: "keep" }, "7")).toEqual({ kind: "keep" });
});

test("Reinitialize offers what fits the shape, with each method's own arguments, and axes are asked for where they count", () => {
  const flat = formOf("init", context([4]));
  const choices = (form: ReturnType<typeof formOf>) => form.fields[0]?.choices ?? [];
  expect(flat.fields[0]?.start).toBe("normal_");
  expect(choices(flat)).not.toContain("kaiming_normal_");
  const matrix = formOf("init", context([4, 3]));
  expect(choices(matrix)).toEqual(expect.arrayContaining(["kaiming_uniform_", "eye_", "sparse_", "trunc_normal_"]));
  expect(choices(matrix)).not.toContain("dirac_");
  expect(choices(formOf("init", context([4, 3, 3, 3])))).toContain("dirac_");
  const keys = (method: string) => matrix.more?.({ method }).map(({ key }) => key);
  expect(keys("kaiming_normal_")).toEqual(["nonlinearity", "mode", "a", "seed"]);
  expect(keys("constant_")).toEqual(["val"]);
  expect(keys("trunc_normal_")).toEqual(["mean", "std", "a", "b", "seed"]);
  expect(matrix.call({ method: "constant_" })).toBeNull();
  expect(matrix.call({ method: "orthogonal_", gain: "2", val: "7" })).toEqual({
    edit: "init_",
    args: { method: "orthogonal_", gain: "2" },
  });
  const permute = formOf("permute", context([3, 4]));
  expect(permute.call({ axis: "0", order: "2, 0, 1" })).toEqual({
    edit: "permute_",
    args: { axis: "0", order: ["2", "0", "1"] },
  });
  expect(permute.call({ axis: "0", order: "" })).toBeNull();
  expect(formOf("quantize", context([3, 4])).call({ bits: "4", axis: "0" })).toEqual({
    edit: "quantize_",
    args: { bits: "4", axis: "0" },
  });
});

test("a preview says what the type of the cells would round (J7)", () => {
  const of = (changed: number) =>
    previewText({
      text: "",
      cells: 3,
      changed,
      before: [1, 1],
      after: [1, 1],
      rounded: 3,
      requested: "1.003",
      stored: "1.0",
      truncated: false,
      region: { text: "", numel: 3, axes: [] },
    });
  expect(of(0)).toBe("None of 3 cells would change · 3 rounded: asked 1.003, stored 1.0");
  expect(of(3)).toContain("3 rounded: asked 1.003, stored 1.0");
});

test("a rule shows the code for the selected cells, and has nothing to apply", () => {
  const rule = formOf("hold-rule", context([4, 3]));
  expect(rule.call({})).toBeNull();
  expect(rule.code?.("fc.weight", "[1]")).toContain('lab["fc.weight"][1].hold(rule=rule)');
  expect(rule.code?.("fc.weight", "[...]")).toContain('lab["fc.weight"].hold(rule=rule)');
});

test("a form makes its call only when nothing is missing, and a hold inside bounds is previewed as a clamp", () => {
  expect(formOf("scale", context([4], "0")).call({ value: "" })).toBeNull();
  expect(formOf("scale", context([4], "0")).call({ value: "2" })).toEqual({ edit: "mul_", args: { value: "2" } });
  expect(formOf("row", context([4, 3], "2")).region?.({ row: "2" })).toBe("[2]");
  expect(formOf("row", context([4], "2")).region).toBeUndefined();
  const hold = formOf("hold-clamp", context([4], "0")).call({ min: "", max: "1" });
  expect(hold).toEqual({ kind: "clamp", min: null, max: "1" });
  expect(hold && previewOf(hold)).toEqual({ edit: "clamp_", args: { min: null, max: "1" } });
});

test("a conflict marks the step that was refused, or where a jump was to go", () => {
  const entry = (id: number) => ({ id }) as Entry;
  const history = { entries: [entry(5), entry(6), entry(7)], position: 2 };
  expect(conflictAt({ message: "", retry: "undo" }, history)).toBe(6);
  expect(conflictAt({ message: "", retry: "redo" }, history)).toBe(7);
  expect(conflictAt({ message: "", retry: "jump", entry: 5 }, history)).toBe(5);
  expect(conflictAt({ message: "" }, history)).toBeUndefined();
});
