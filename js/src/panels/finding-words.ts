/** What the findings panel says. Pure. */
import type { Finding, Repaired, Severity } from "../kernel/checkup";
import type { Entry, History } from "../kernel/protocol";
import { plural } from "./format";

export const kindWords = (kind: string): string => kind.replaceAll("_", " ");

/** `2 errors · 1 warning · 3 notes`. */
export function severityTally(findings: readonly Finding[]): string {
  const words: [Severity, string][] = [
    ["error", "error"],
    ["warning", "warning"],
    ["info", "note"],
  ];
  return words
    .map(([severity, word]): [number, string] => [findings.filter((each) => each.severity === severity).length, word])
    .filter(([many]) => many > 0)
    .map(([many, word]) => plural(many, word))
    .join(" · ");
}

/** The heading of a finding, with its place where the title does not say it. */
export const headline = (finding: Pick<Finding, "title" | "name" | "kind">): string =>
  finding.title || `${kindWords(finding.kind)}${finding.name ? ` of ${finding.name}` : ""}`;

/** Those that suffer; a tensor that is the origin is not told twice. */
export const victims = (finding: Pick<Finding, "name" | "at" | "affects">): string[] =>
  finding.affects.filter((name) => name !== finding.name || finding.at !== name);

/** A repair is told while its entry is in force: undone, it is as if it had not been. */
export function inForce(repaired: Repaired | null, history: History | undefined): Entry | null {
  if (!repaired || repaired.entry === null || !history) return null;
  return history.entries.slice(0, history.position).find((entry) => entry.id === repaired.entry) ?? null;
}

export function outcomeWords(repaired: Repaired): string {
  const { findings } = repaired;
  const left = findings.filter((each) => each.left).length;
  if (findings.length === 1) return left === 0 ? "It helped: not found any more." : "It did not help: still found.";
  if (left === 0) return `It helped: ${plural(findings.length, "finding")} repaired.`;
  return `${findings.length - left} of ${findings.length} repaired, ${left} still found.`;
}
