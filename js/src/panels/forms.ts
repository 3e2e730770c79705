/** What the dialogs of the edit bar ask for, and the call that each makes. Pure. */
import type { EditCall, HoldCall, Preview } from "../kernel/protocol";
import type { FormName } from "../state/view";
import { count, number } from "./format";
import { argumentsOf, fieldsOf, methodsFor } from "./init-forms";

export interface Field {
  key: string;
  label: string;
  placeholder: string;
  start?: string;
  choices?: readonly string[];
}

type Values = Record<string, string>;

export interface Form {
  title: string;
  /** What it will do, in one line of PyTorch. */
  hint: string;
  fields: readonly Field[];
  /** Where what was chosen decides which fields there are. */
  more?(values: Values): readonly Field[];
  /** The form says itself which cells it is about. */
  region?(values: Values): string;
  /** Null while something is missing. */
  call(values: Values): EditCall | HoldCall | null;
  /** Instead of a preview. */
  note?: string;
  /** What only Python can say: the code, for the cells that are selected. The form then has nothing to apply. */
  code?(name: string, region: string): string;
}

const field = (key: string, label: string, placeholder: string, start = ""): Field => ({
  key,
  label,
  placeholder,
  start,
});
/** Its placeholder is the seed that was drawn when the form opened: the preview is what will be. */
const SEED = field("seed", "Seed", "any");
/** Each index of it by itself; the axes are those of the cells that are meant. */
const AXIS = field("axis", "Per axis", "all together; 0 each row");
const BOUNDS = [field("min", "Minimum", "none"), field("max", "Maximum", "none")];

function one(
  title: string,
  edit: "fill_" | "add_" | "sub_" | "mul_" | "div_",
  label: string,
  placeholder: string,
): Form {
  return {
    title,
    hint: `${edit}(${label.toLowerCase()})`,
    fields: [field("value", label, placeholder)],
    call: ({ value }) => (value ? { edit, args: { value } } : null),
  };
}

const none = (title: string, edit: "neg_" | "abs_" | "round_" | "sign_"): Form => ({
  title,
  hint: `${edit}()`,
  fields: [],
  call: () => ({ edit, args: {} }),
});

const bounds = ({ min, max }: Values): { min: string | null; max: string | null } | null =>
  min || max ? { min: min || null, max: max || null } : null;

type Given = "row" | "copy-from" | "average" | "init";

const FORMS: Record<Exclude<FormName, Given>, Form> = {
  fill: one("Fill", "fill_", "Value", "0.5, 1e-3, nan"),
  clamp: {
    title: "Clamp",
    hint: "clamp_(min, max)",
    fields: BOUNDS,
    call(values) {
      const args = bounds(values);
      return args && { edit: "clamp_", args };
    },
  },
  scale: one("Scale", "mul_", "Factor", "0.5"),
  add: one("Add", "add_", "Value", "0.01"),
  subtract: one("Subtract", "sub_", "Value", "0.01"),
  divide: one("Divide", "div_", "Divisor", "2"),
  negate: none("Negate", "neg_"),
  absolute: none("Absolute", "abs_"),
  round: none("Round", "round_"),
  sign: none("Sign", "sign_"),
  normal: {
    title: "Normal",
    hint: "normal_(mean, std)",
    fields: [field("mean", "Mean", "0", "0"), field("std", "Std", "0.02"), SEED],
    call: ({ mean, std, seed }) => (mean && std ? { edit: "normal_", args: { mean, std, seed: seed || null } } : null),
  },
  uniform: {
    title: "Uniform",
    hint: "uniform_(a, b)",
    fields: [field("a", "From", "-0.1"), field("b", "To", "0.1"), SEED],
    call: ({ a, b, seed }) => (a && b ? { edit: "uniform_", args: { a, b, seed: seed || null } } : null),
  },
  prune: {
    title: "Prune",
    hint: "prune_(amount)",
    fields: [
      field("amount", "Amount", "0.2 a share, 20 a count"),
      { key: "by", label: "By", placeholder: "", start: "magnitude", choices: ["magnitude", "random"] },
      AXIS,
    ],
    more: ({ by }) => (by === "random" ? [SEED] : []),
    call({ amount, by, axis, seed }) {
      if (!amount) return null;
      const along = axis ? { axis } : {};
      if (by !== "random") return { edit: "prune_", args: { amount, by: "magnitude", ...along } };
      return { edit: "prune_", args: { amount, by, ...along, ...(seed ? { seed } : {}) } };
    },
  },
  permute: {
    title: "Permute",
    hint: "permute_(axis, order)",
    fields: [field("axis", "Axis", "0", "0"), field("order", "Order", "2, 0, 1")],
    call({ axis, order }) {
      const list = listOf(order ?? "");
      return axis && list.length > 0 ? { edit: "permute_", args: { axis, order: list } } : null;
    },
  },
  quantize: {
    title: "Quantize",
    hint: "quantize_(bits)",
    fields: [field("bits", "Bits", "8", "8"), AXIS],
    call: ({ bits, axis }) => (bits ? { edit: "quantize_", args: { bits, ...(axis ? { axis } : {}) } } : null),
  },
  train: {
    title: "Freeze or train",
    hint: "requires_grad_(flag)",
    fields: [{ key: "flag", label: "Trains", placeholder: "", start: "no", choices: ["no", "yes"] }],
    region: () => "[...]",
    call: ({ flag }) => ({ edit: "requires_grad_", args: { flag: flag === "yes" } }),
    note: "The whole parameter. A frozen one gets no gradient.",
  },
  "hold-clamp": {
    title: "Hold inside bounds",
    hint: "hold(min, max)",
    fields: BOUNDS,
    call(values) {
      const args = bounds(values);
      return args && { kind: "clamp", ...args };
    },
  },
  "hold-sign": {
    title: "Hold the sign",
    hint: "hold(sign=True)",
    fields: [],
    call: () => ({ kind: "sign" }),
    note: "No optimizer step changes the sign of these cells.",
  },
  "hold-rule": {
    title: "Hold to a rule",
    hint: "hold(rule=function)",
    fields: [],
    call: () => null,
    note: "A rule is a function of the cells, and runs after each step. Write it in a notebook cell; its hold is then listed here.",
    code: (name, region) =>
      `def rule(cells):\n    return cells / cells.norm()\n\nlab["${name}"]${region === "[...]" ? "" : region}.hold(rule=rule)`,
  },
  hold: {
    title: "Hold",
    hint: "hold()",
    fields: [],
    call: () => ({ kind: "keep" }),
    note: "These cells keep their values through optimizer steps.",
  },
};

/** Values of a snapshot or of another model, at the same cells unless the form says which. */
function fromSource(name: "copy-from" | "average", { sources, tensor }: Context): Form {
  const average = name === "average";
  const fields = [
    { key: "source", label: "From", placeholder: "", start: sources[0] ?? "", choices: sources },
    field("tensor", "Tensor", tensor),
    field("part", "Part", "the same cells"),
  ];
  return {
    title: average ? "Average with" : "Copy from",
    hint: average ? "lerp_(other, weight)" : "copy_(other)",
    fields: average ? [...fields, field("weight", "Weight", "0.5", "0.5")] : fields,
    call({ source, tensor: of, part, weight }) {
      if (!source || (average && !weight)) return null;
      const from = { source, ...(of ? { tensor: of } : {}), ...(part ? { part } : {}) };
      return average && weight ? { edit: "lerp_", args: { ...from, weight } } : { edit: "copy_", args: from };
    },
    ...(sources.length > 0 ? {} : { note: 'Take a snapshot, or name another model: lab.offer("pretrained", model).' }),
  };
}

function initForm({ shape }: Context): Form {
  const choices = methodsFor(shape.length);
  return {
    title: "Reinitialize",
    hint: "torch.nn.init",
    fields: [{ key: "method", label: "Method", placeholder: "", start: choices[0] ?? "", choices }],
    more: ({ method }) => fieldsOf(method ?? "", SEED),
    call(values) {
      const args = argumentsOf(values);
      return args && { edit: "init_", args };
    },
  };
}

export interface Context {
  shape: readonly number[];
  /** Row of the present selection, as the first guess. */
  row: string;
  /** Labels of snapshots and offered models. */
  sources: readonly string[];
  /** Name of the open tensor. */
  tensor: string;
}

export function formOf(name: FormName, context: Context): Form {
  const { shape, row } = context;
  if (name === "copy-from" || name === "average") return fromSource(name, context);
  if (name === "init") return initForm(context);
  if (name !== "row") return FORMS[name];
  const flat = shape.length < 2;
  const values = field("values", "Values", flat ? "1, 2, 3 or one for all" : "1, 2, 3 or one");
  return {
    title: "Set row",
    hint: flat ? "copy_(values)" : "[row].copy_(values)",
    fields: flat ? [values] : [field("row", "Row", "0", row), values],
    ...(flat ? {} : { region: ({ row: at }: Values) => `[${at}]` }),
    call: ({ row: at, values: text }) => {
      const list = listOf(text ?? "");
      return list.length > 0 && (flat || at) ? { edit: "copy_", args: { values: list } } : null;
    },
  };
}

/** The edit whose preview shows what a call will do at once; null where there is nothing to show. */
export function previewOf(call: EditCall | HoldCall): EditCall | null {
  if ("edit" in call) return call.edit === "requires_grad_" ? null : call;
  return call.kind === "clamp" ? { edit: "clamp_", args: { min: call.min, max: call.max } } : null;
}

/** The same call with a seed where it draws and has none. */
export function seeded(call: EditCall | HoldCall, seed: string): EditCall | HoldCall {
  if (!("edit" in call)) return call;
  switch (call.edit) {
    case "normal_":
      return { ...call, args: { ...call.args, seed: call.args.seed ?? seed } };
    case "uniform_":
      return { ...call, args: { ...call.args, seed: call.args.seed ?? seed } };
    case "init_":
      return { ...call, args: { ...call.args, seed: call.args.seed ?? seed } };
    case "prune_":
      return call.args.by === "random" ? { ...call, args: { ...call.args, seed: call.args.seed ?? seed } } : call;
    default:
      return call;
  }
}

/** `27 of 864 cells change · −0.31 … 0.42 → 0` */
export function previewText({ cells, changed, before, after, rounded, requested, stored }: Preview): string {
  if (cells === 0) return "No cell is meant.";
  // A type of few digits: said before, and not only after (J7).
  const told = rounded > 0 ? ` · ${count(rounded)} rounded: asked ${requested}, stored ${stored}` : "";
  if (changed === 0 && told) return `None of ${count(cells)} ${cells === 1 ? "cell" : "cells"} would change${told}`;
  if (changed === 0) return `None of ${count(cells)} ${cells === 1 ? "cell" : "cells"} would change.`;
  const range = (of: [number, number] | null): string =>
    of === null ? "not finite" : of[0] === of[1] ? number(of[0], 3) : `${number(of[0], 3)} … ${number(of[1], 3)}`;
  const many = changed === cells ? count(cells) : `${count(changed)} of ${count(cells)}`;
  return `${many} ${cells === 1 ? "cell changes" : changed === 1 ? "cells changes" : "cells change"} · ${range(before)} → ${range(after)}${told}`;
}

/** `1, 2, 3`, brackets allowed, as the user typed each number. */
export function listOf(text: string): string[] {
  const inner = text.trim().replace(/^\[(.*)\]$/s, "$1");
  const parts = inner.split(",").map((part) => part.trim());
  // A comma behind the last number is Python; any other gap is for the kernel to refuse, with its position.
  if (parts.at(-1) === "") parts.pop();
  return parts;
}
