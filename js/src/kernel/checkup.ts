/** Messages about the health of the whole model: diagnosis, signal, repairs. Field names are the wire's. */
import type { Done, WireError } from "./protocol";

export type Severity = "error" | "warning" | "info";

/** What a finding or a cause is found again by. */
export interface FindingWords {
  kind: string;
  name: string;
  at: string;
  text: string;
}

export interface Finding extends FindingWords {
  severity: Severity;
  title: string;
  evidence: string[];
  /** Names of parameters that suffer from it; `affected` counts those that are not named, too. */
  affects: string[];
  affected: number;
  /** What a repair would do; null: there is none, and `advice` may say what to do by hand. */
  repair: string | null;
  advice: string;
  /** What "Show me" opens, and the cells in it. */
  show: string | null;
  region: string | null;
}

/** One row per function of the forward pass; its numbers are in the buffer. */
export interface SignalColumns {
  name: string[];
  op: string[];
  weight: (string | null)[];
  note: string[];
  left: number;
}

export interface Diagnosis {
  number: number;
  revision: number;
  seconds: number;
  /** Why the gradient check in it could not run; empty when it did. */
  failure: string;
  synthetic: string | null;
  batch: boolean;
  findings: Finding[];
  left: number;
  signal: SignalColumns;
}

export interface Repaired {
  entry: number | null;
  helped: boolean;
  findings: { kind: string; name: string; title: string; repair: string; left: boolean }[];
  /** What else is found now. */
  others: { kind: string; name: string; title: string }[];
}

export interface Checkup {
  diagnosis: Diagnosis | null;
  repaired: Repaired | null;
  /** A step of training is in flight: what was asked for runs when that ends, and a push follows. */
  waits: boolean;
  trouble: WireError | null;
  state: Done["state"];
}

/** With each `Checkup` the numbers of the signal travel as a buffer. */
export interface CheckupOperations {
  diagnose: { request: { stop?: boolean }; reply: Checkup };
  findings: { request: Record<string, never>; reply: Checkup };
  repair: { request: { finding: FindingWords }; reply: Checkup & Done };
  repair_all: { request: Record<string, never>; reply: Checkup & Done };
  explain: { request: { kind: string }; reply: { kind: string; text: string } };
}
