/**
 * The last diagnosis and repair, for all views of a model: what Python found is shown, too. While somebody looks at it, a diagnosis
 * that took a moment only is made again after each edit, as the check is; a longer one stays, and says how old it is.
 */
import { batch, effect, type Signal, signal } from "@preact/signals";
import type { Checkup, Diagnosis, FindingWords, Repaired } from "../kernel/checkup";
import type { Answer } from "../kernel/client";
import type { WireError } from "../kernel/protocol";
import type { Actions } from "./actions";
import type { Store } from "./store";

/** One function of the forward pass: quantiles of its output and of its gradient, and mean squares beside what is expected. */
export interface SignalRow {
  name: string;
  op: string;
  weight: string | null;
  note: string;
  /** 5, 25, 50, 75 and 95 % of |x|. */
  activation: number[];
  gradient: number[] | null;
  variance: number;
  gradient_variance: number | null;
  expected: number | null;
  expected_gradient: number | null;
  passed_gradient: number | null;
}

export interface Doctor {
  diagnosis: Signal<Diagnosis | null>;
  rows: Signal<readonly SignalRow[]>;
  repaired: Signal<Repaired | null>;
  /** What this page asked for and has no answer to yet. */
  doing: Signal<"" | "diagnosing" | "repairing">;
  /** A step of training is in flight; the diagnosis runs when that ends. */
  waits: Signal<boolean>;
  /** Why there is no diagnosis, where one was asked for; null: nothing went wrong. */
  trouble: Signal<WireError | null>;
  diagnose(): Promise<void>;
  /** Give up what waits for the end of a step. */
  stop(): Promise<void>;
  /** End what is being done, also before it has said how far it is. */
  cancel(): Promise<void>;
  /** The wish to end it is on its way. */
  ending: Signal<boolean>;
  repair(finding: FindingWords): Promise<void>;
  repairAll(): Promise<void>;
  /** Three sentences about a kind, asked for once. */
  explain(kind: string): Promise<string>;
  forgetRepair(): void;
  /** Somebody looks, until the returned function is called. */
  watch(): () => void;
}

/** What takes longer is not done unasked: the picture waits behind it. */
const QUICK_SECONDS = 0.3;
const NUMBERS = 16;
/** Milliseconds between two wishes to cancel what has not begun. */
const AGAIN = 200;

const made = new WeakMap<Store, Doctor>();

export function doctorOf(page: { store: Store; actions: Actions }): Doctor {
  let found = made.get(page.store);
  if (!found) {
    found = createDoctor(page.store, page.actions);
    made.set(page.store, found);
  }
  return found;
}

export function createDoctor(store: Store, actions: Pick<Actions, "request" | "ask" | "take">): Doctor {
  const diagnosis = signal<Diagnosis | null>(null);
  const rows = signal<readonly SignalRow[]>([]);
  const repaired = signal<Repaired | null>(null);
  const doing = signal<"" | "diagnosing" | "repairing">("");
  const waits = signal(false);
  const trouble = signal<WireError | null>(null);
  const ending = signal(false);
  /** The request that `doing` is about. */
  let request = "";
  const named = (id: string): void => {
    request = id;
  };
  const watchers = signal(0);
  const explained = new Map<string, Promise<string>>();

  function take({ reply, buffer }: { reply: Checkup; buffer: DataView }): void {
    batch(() => {
      diagnosis.value = reply.diagnosis;
      rows.value = reply.diagnosis ? signalRows(reply.diagnosis, buffer) : [];
      repaired.value = reply.repaired;
      waits.value = reply.waits;
      trouble.value = reply.trouble;
    });
  }

  function done(): void {
    doing.value = "";
    ending.value = false;
  }

  async function diagnose(): Promise<void> {
    if (doing.value) return;
    doing.value = "diagnosing";
    const answer = await actions.ask("diagnosing", () => actions.request("diagnose", {}, { named }));
    done();
    if (!answer) return;
    take(answer);
    actions.take(answer.reply.state, null, answer.revision);
  }

  async function mend(ask: () => Promise<Answer<"repair"> | Answer<"repair_all">>): Promise<void> {
    if (doing.value) return;
    doing.value = "repairing";
    const answer = await actions.ask("repairing", ask);
    done();
    if (!answer) return;
    const { entry, state } = answer.reply;
    take(answer);
    if (!entry) store.notice.value = "Nothing was changed: there is nothing to repair.";
    actions.take(state, entry?.changed ?? null, answer.revision);
  }

  async function cancel(): Promise<void> {
    ending.value = true;
    // It may not have begun yet: then there is nothing to cancel, and it is asked again.
    while (doing.value && request) {
      const answer = await actions.ask("cancelling", () => actions.request("cancel", { request }));
      if (!answer || answer.reply.cancelled) return;
      await new Promise((resolve) => setTimeout(resolve, AGAIN));
    }
  }

  /** The last diagnosis was made by somebody else, or has waited for a step of training. */
  async function follow(): Promise<void> {
    try {
      take(await actions.request("findings", {}));
    } catch {
      // The next push asks again.
    }
  }

  effect(() => {
    const told = store.lab.value?.diagnosed;
    if (!told || doing.value) return;
    // Where it waits and fails, the number stays: the push that tells of it carries a new state.
    if (told.number !== (diagnosis.peek()?.number ?? 0) || waits.peek()) void follow();
  });
  effect(() => {
    const lab = store.lab.value;
    const known = diagnosis.value;
    if (watchers.value === 0 || !lab?.auto_check || !known || doing.peek() || known.seconds > QUICK_SECONDS) return;
    // After the check of this revision, which the rows wait for.
    const checked = lab.gradients?.revision === store.revision.value;
    if (checked && known.revision < store.revision.value && lab.diagnosed.revision < store.revision.value)
      void diagnose();
  });

  return {
    diagnosis,
    rows,
    repaired,
    doing,
    waits,
    trouble,
    diagnose,
    async stop() {
      const answer = await actions.ask("giving up", () => actions.request("diagnose", { stop: true }));
      if (answer) take(answer);
    },
    cancel,
    ending,
    repair: ({ kind, name, at, text }) =>
      mend(() => actions.request("repair", { finding: { kind, name, at, text } }, { named })),
    repairAll: () => mend(() => actions.request("repair_all", {}, { named })),
    explain(kind) {
      let asked = explained.get(kind);
      if (!asked) {
        asked = actions.request("explain", { kind }).then(({ reply }) => reply.text);
        explained.set(kind, asked);
        asked.catch(() => explained.delete(kind));
      }
      return asked;
    },
    forgetRepair() {
      repaired.value = null;
    },
    watch() {
      watchers.value += 1;
      return () => {
        watchers.value -= 1;
      };
    },
  };
}

/** Columns of the wire and sixteen little-endian float64 for each row; NaN stands for none. */
export function signalRows({ signal: columns }: Diagnosis, buffer: DataView): SignalRow[] {
  return columns.name.map((name, at) => {
    const number = (place: number): number => buffer.getFloat64((at * NUMBERS + place) * 8, true);
    const maybe = (place: number): number | null => (Number.isNaN(number(place)) ? null : number(place));
    const five = (from: number): number[] => [0, 1, 2, 3, 4].map((place) => number(from + place));
    return {
      name,
      op: columns.op[at] ?? "",
      weight: columns.weight[at] ?? null,
      note: columns.note[at] ?? "",
      activation: five(0),
      gradient: maybe(7) === null ? null : five(5),
      variance: number(10),
      gradient_variance: maybe(11),
      expected: maybe(12),
      expected_gradient: maybe(13),
      passed_gradient: maybe(14),
    };
  });
}
