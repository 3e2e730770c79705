/** The functions of torch.nn.init as data: the shapes that each takes, and its arguments with torch's own defaults. Pure. */
import type { Field } from "./forms";

interface Method {
  /** Ranks from and to. */
  ranks: readonly [number, number];
  fields: readonly (Field & { needed?: boolean })[];
  /** Draws numbers, so that it takes a seed. */
  draws: boolean;
}

const number = (key: string, label: string, placeholder: string, needed = false) => ({
  key,
  label,
  placeholder,
  start: "",
  needed,
});
const choice = (key: string, label: string, choices: readonly string[]): Field => ({
  key,
  label,
  placeholder: "",
  start: choices[0] ?? "",
  choices,
});

const KAIMING = [
  choice("nonlinearity", "For", ["leaky_relu", "relu", "linear", "tanh", "sigmoid", "selu"]),
  choice("mode", "Mode", ["fan_in", "fan_out"]),
  number("a", "Slope (a)", "0"),
];
const GAIN = [number("gain", "Gain", "1")];
const ANY = [0, 32] as const;
const FANS = [2, 32] as const;
const method = (ranks: Method["ranks"], fields: Method["fields"], draws = true): Method => ({ ranks, fields, draws });

const METHODS: Record<string, Method> = {
  kaiming_normal_: method(FANS, KAIMING),
  kaiming_uniform_: method(FANS, KAIMING),
  xavier_normal_: method(FANS, GAIN),
  xavier_uniform_: method(FANS, GAIN),
  orthogonal_: method(FANS, GAIN),
  normal_: method(ANY, [number("mean", "Mean", "0"), number("std", "Std", "1")]),
  uniform_: method(ANY, [number("a", "From (a)", "0"), number("b", "To (b)", "1")]),
  trunc_normal_: method(ANY, [
    number("mean", "Mean", "0"),
    number("std", "Std", "1"),
    number("a", "From (a)", "-2"),
    number("b", "To (b)", "2"),
  ]),
  constant_: method(ANY, [number("val", "Value", "0.5", true)], false),
  zeros_: method(ANY, [], false),
  ones_: method(ANY, [], false),
  eye_: method([2, 2], [], false),
  dirac_: method([3, 5], [number("groups", "Groups", "1")], false),
  sparse_: method([2, 2], [number("sparsity", "Sparsity", "0.9 of each column", true), number("std", "Std", "0.01")]),
};

/** Those that take a tensor of this rank; the first is the one to begin with. */
export const methodsFor = (rank: number): string[] =>
  Object.keys(METHODS).filter((name) => {
    const [from, to] = (METHODS[name] as Method).ranks;
    return rank >= from && rank <= to;
  });

/** The fields of a method, behind the choice of it; `seed` where it draws. */
export function fieldsOf(name: string, seed: Field): readonly Field[] {
  const { fields = [], draws = false } = METHODS[name] ?? {};
  return draws ? [...fields, seed] : fields;
}

/** The arguments that were given; null while a needed one is missing. */
export function argumentsOf(values: Record<string, string>): ({ method: string } & Record<string, string>) | null {
  const { method: name = "", seed = "" } = values;
  const { fields, draws } = METHODS[name] ?? { fields: [], draws: false };
  if (!METHODS[name] || fields.some(({ key, needed }) => needed && !values[key])) return null;
  const given = fields.flatMap(({ key }) => (values[key] ? [[key, values[key]] as const] : []));
  return { method: name, ...Object.fromEntries(given), ...(draws && seed ? { seed } : {}) };
}
