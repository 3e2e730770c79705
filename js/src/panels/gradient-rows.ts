/** What the gradient panel says about its rows. Pure. */
import type { Cause, GradientRow, Gradients, Status } from "../kernel/protocol";
import { number, plural, scientific, short } from "./format";

/** Worst first: the order in which the verdict names them. */
export const STATUSES: readonly Status[] = ["nonfinite", "zero", "unreached", "partial", "weak", "frozen", "flowing"];

export function tally(rows: readonly GradientRow[]): [Status, number][] {
  return STATUSES.map((status): [Status, number] => [
    status,
    rows.filter((row) => row.status === status).length,
  ]).filter(([, rows]) => rows > 0);
}

/** For each module the worst status of what lies in it, where not every gradient flows: what it hides when it is folded. */
export function worstByModule(rows: readonly GradientRow[]): Map<string, Status> {
  const worst = new Map<string, Status>();
  for (const { name, status } of rows) {
    if (status === "flowing" || status === "frozen") continue;
    for (let dot = name.lastIndexOf("."); dot > 0; dot = name.lastIndexOf(".", dot - 1)) {
      const module = name.slice(0, dot);
      const known = worst.get(module);
      if (!known || STATUSES.indexOf(status) < STATUSES.indexOf(known)) worst.set(module, status);
    }
  }
  return worst;
}

/** Length of a norm's bar, 0 to 1, on a log scale over the report's own range (at least three decades). */
export function barScale(rows: readonly GradientRow[]): (norm: number | null) => number {
  const logs = rows.flatMap((row) => (row.norm !== null && row.norm > 0 ? [Math.log10(row.norm)] : []));
  if (logs.length === 0) return () => 0;
  let high = Number.NEGATIVE_INFINITY;
  let low = Number.POSITIVE_INFINITY;
  for (const log of logs) {
    high = Math.max(high, log);
    low = Math.min(low, log);
  }
  const span = Math.max(3, high - low);
  // The smallest norm keeps a stub: only a true zero has no bar.
  return (norm) =>
    norm === null || norm <= 0 ? 0 : 0.06 + 0.94 * Math.max(0, (Math.log10(norm) - (high - span)) / span);
}

export function normText(row: GradientRow): string {
  switch (row.status) {
    case "frozen":
    case "unreached":
      return row.status === "frozen" ? "frozen" : "no path";
    case "nonfinite":
      return row.norm === null ? "NaN" : short(row.norm);
    default:
      return row.norm === null ? "–" : row.norm === 0 ? "0" : short(row.norm);
  }
}

/** More than the digits of any number that is trained in: how many times more or less says nothing then. */
const BEYOND = 1e12;

/** How the norm moved since the check before, where it is worth a word: by a quarter or more. */
export function ratioText(row: GradientRow): string {
  const { ratio } = row;
  if (ratio === null || ratio <= 0 || (ratio > 0.8 && ratio < 1.25)) return "";
  const size = ratio > 1 ? ratio : 1 / ratio;
  if (size > BEYOND) return ratio > 1 ? "was practically 0" : "practically 0";
  return `${ratio > 1 ? "↑" : "↓"} ${size >= 1000 ? scientific(size) : number(size, 2)}×`;
}

/** Causes for one parameter, the one that sits on it first. */
export function causesOf(gradients: Gradients, name: string): Cause[] {
  const here = gradients.causes.filter(
    (cause) => cause.affects.includes(name) || cause.at === name || cause.name === name,
  );
  return here.sort((a, b) => Number(b.at === name) - Number(a.at === name));
}

/** In words, for a row without a cause. */
export function rowText(row: GradientRow): string {
  const parts = [];
  if (row.norm !== null) parts.push(`Gradient norm ${number(row.norm)}.`);
  if (row.ratio !== null && row.ratio < 1 / BEYOND) parts.push("Practically 0 beside that of the check before.");
  else if (row.ratio !== null && row.ratio > BEYOND)
    parts.push("That of the check before was practically 0 beside it.");
  else if (row.ratio !== null) parts.push(`${number(row.ratio)} times that of the check before.`);
  if (row.was !== null && row.was !== row.status) parts.push(`It was ${row.was}.`);
  if (row.zero_units > 0) parts.push(`${row.zero_units} of ${plural(row.units, "output unit")} get exactly zero.`);
  return parts.join(" ");
}

/** What the check says is wrong: new first, each group worst first. A note is told where the last change brought it. */
export function troubles({ causes }: Pick<Gradients, "causes">): Cause[] {
  const told = causes.filter((cause) => cause.new || cause.severity !== "info");
  return told.sort((a, b) => Number(b.new) - Number(a.new));
}

/** How many parameters went from one status to another since the check before; the worst ends first. */
export function movedStatuses(rows: readonly GradientRow[]): { was: Status; status: Status; many: number }[] {
  const found = new Map<string, { was: Status; status: Status; many: number }>();
  for (const { was, status } of rows) {
    if (was === null || was === status) continue;
    const group = found.get(`${was} ${status}`) ?? { was, status, many: 0 };
    group.many += 1;
    found.set(`${was} ${status}`, group);
  }
  return [...found.values()].sort((a, b) => STATUSES.indexOf(a.status) - STATUSES.indexOf(b.status));
}

/** How the loss and the output moved since the check before; empty where there was none, or where nothing moved. */
export function changeWords({ loss, loss_before, output }: Gradients): string {
  const parts = [];
  if (loss !== null && loss_before !== null && loss !== loss_before) {
    const delta = loss - loss_before;
    parts.push(`loss ${delta > 0 ? "+" : ""}${number(delta, 3)}`);
  }
  if (output?.relative_l2) {
    parts.push(`output moved ${number(100 * output.relative_l2, 2)} %`);
    // Rounded to three digits nearly everything is 1: how far it is from it says more.
    if (output.cosine !== null) parts.push(`cosine ${output.cosine.toFixed(4)}`);
    if (output.kl !== null) parts.push(`KL ${number(output.kl, 2)} nats`);
  }
  return parts.join(" · ");
}
