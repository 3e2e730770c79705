/** What tensors are sorted and coloured by. Pure. */
import type { Gradients, TensorColumns } from "../kernel/protocol";
import type { Glance } from "../state/glances";
import { count, number, numel } from "./format";

export type Statistic = "size" | "std" | "mean" | "max" | "zeros" | "gradient" | "ratio" | "update";

/** Name, and whether it is of the glances: those come one batch after another. */
export const STATISTICS: readonly [Statistic, string, boolean][] = [
  ["size", "size", false],
  ["std", "std", true],
  ["mean", "mean", true],
  ["max", "max |w|", true],
  ["zeros", "share of zeros", true],
  ["gradient", "gradient norm", false],
  ["ratio", "gradient / weight", true],
  ["update", "update ratio", false],
];

export interface Sources {
  tensors: TensorColumns;
  gradients: Gradients | null;
  glance(name: string): Glance | undefined;
}

/** Of each tensor by its place; null where there is none. */
export function statisticOf(by: Statistic, { tensors, gradients, glance }: Sources): (at: number) => number | null {
  if (by === "size") return (at) => numel(tensors.shape[at] ?? []);
  const norms = new Map(gradients?.rows.map((row) => [row.name, row.norm]));
  const norm = (at: number): number | null => norms.get(tensors.name[at] ?? "") ?? null;
  if (by === "gradient") return norm;
  if (by === "update") {
    // How far the optimizer's step moves a parameter, as a share of it.
    const ratios = new Map(gradients?.rows.map((row) => [row.name, row.weight ? share(row.step, row.weight) : null]));
    return (at) => ratios.get(tensors.name[at] ?? "") ?? null;
  }
  return (at) => {
    const seen = glance(tensors.name[at] ?? "");
    if (!seen || seen.reason) return null;
    switch (by) {
      case "std":
        return seen.std;
      case "mean":
        return seen.mean;
      case "max":
        return seen.min === null || seen.max === null ? null : Math.max(-seen.min, seen.max);
      case "zeros":
        return seen.count > 0 ? seen.zero / seen.count : null;
      case "ratio": {
        const above = norm(at);
        return above === null || !seen.l2 ? null : above / seen.l2;
      }
    }
  };
}

const share = (part: number | null, of: number): number | null => (part === null ? null : part / of);

/** Whether the glances are not needed for it. */
export const isAtHand = (by: Statistic): boolean => !STATISTICS.some(([key, , glanced]) => key === by && glanced);

/** Places in order, those without a number last; equal ones in the model's order. */
export function sorted(places: readonly number[], value: (at: number) => number | null, rising: boolean): number[] {
  const keyed = places.map((at) => ({ at, key: value(at) }));
  keyed.sort((a, b) => {
    if (a.key === null || b.key === null) return Number(a.key === null) - Number(b.key === null) || a.at - b.at;
    return (rising ? a.key - b.key : b.key - a.key) || a.at - b.at;
  });
  return keyed.map(({ at }) => at);
}

export function statisticText(by: Statistic, value: number | null): string {
  if (value === null) return "–";
  if (by === "size") return count(value);
  return by === "zeros" ? percent(value) : number(value, 3);
}

/** `0 %` only for none, `100 %` only for all. */
export function percent(share: number): string {
  if (share === 0 || share === 1) return `${share * 100}%`;
  if (share < 0.001) return "<0.1%";
  if (share > 0.999) return ">99.9%";
  return share < 0.1 || share > 0.99 ? `${(share * 100).toFixed(1)}%` : `${Math.round(share * 100)}%`;
}
