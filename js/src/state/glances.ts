/**
 * Numbers of tensors for lists of them, fetched when somebody looks: asked for in batches, one request at a time, after the first
 * picture; what changed is asked for anew, and its old numbers stand until then.
 */
import { type Signal, signal } from "@preact/signals";
import type { GlanceColumns } from "../kernel/protocol";
import type { Actions } from "./actions";
import type { Changed } from "./feed";
import type { Store } from "./store";

export interface Glance {
  count: number;
  nan: number;
  inf: number;
  zero: number;
  /** How many cells were looked at. */
  sampled: number;
  min: number | null;
  max: number | null;
  mean: number | null;
  std: number | null;
  l2: number | null;
  low: number | null;
  high: number | null;
  /** Why there are no numbers; empty when there are. */
  reason: string;
  /** Heights of the histogram, the highest 255. */
  bars: Uint8Array;
}

export interface Glances {
  /** Grows whenever numbers came or went stale: read it to draw again. */
  version: Signal<number>;
  get(name: string): Glance | undefined;
  /** Ask for those that are missing or stale, and forget what this list wanted before: these are in sight. */
  want(list: string, names: readonly string[]): void;
  /** Ask for all of them, in the background; resolves when they are there, or `signal` aborts. */
  all(names: readonly string[], signal: AbortSignal, tell: (done: number) => void): Promise<void>;
  /** Cells changed. */
  mark(changed: Changed): void;
}

const BARS = 24;
const BATCH = 128;
/** Of a batch that nobody scrolls past: as many as the kernel takes, in as many letters as a message holds easily. */
const LARGE = 2048;
const LETTERS = 200_000;
/** Lets the first tiles and a fast scroll go by: rows that rush past are not asked for, unless that goes on. */
const PAUSE = 60;
const RUSH = 400;
const FIRST_PICTURE = 1500;

/** One for each model, however many views it has: they go with its store. */
const made = new WeakMap<Store, Glances>();

export function glancesOf({ store, actions }: { store: Store; actions: Actions }): Glances {
  let found = made.get(store);
  if (!found) {
    found = createGlances(store, actions);
    actions.onChanged(found.mark);
    made.set(store, found);
  }
  return found;
}

export function createGlances(store: Store, { request, meet }: Pick<Actions, "request" | "meet">): Glances {
  const known = new Map<string, Glance>();
  const fresh = new Set<string>();
  const version = signal(0);
  const begun = Date.now();
  const wanted = new Map<string, readonly string[]>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let asking: Promise<void> | null = null;
  /** Until when new wishes put the asking off. */
  let rush = 0;

  function take(columns: GlanceColumns, buffer: DataView): void {
    columns.name.forEach((name, at) => {
      fresh.add(name);
      const of = <K extends keyof GlanceColumns>(key: K) => columns[key][at] as GlanceColumns[K][number];
      known.set(name, {
        count: of("count"),
        nan: of("nan"),
        inf: of("inf"),
        zero: of("zero"),
        sampled: of("sampled"),
        min: of("min"),
        max: of("max"),
        mean: of("mean"),
        std: of("std"),
        l2: of("l2"),
        low: of("low"),
        high: of("high"),
        reason: of("reason"),
        bars: new Uint8Array(buffer.buffer, buffer.byteOffset + at * BARS, BARS),
      });
    });
    version.value += 1;
  }

  /** One batch; rejects when the kernel refuses or is gone. */
  function fetch(names: readonly string[], most = BATCH): Promise<void> {
    const revision = store.revision.peek();
    const run = async (): Promise<void> => {
      const { reply, buffer, revision: shown } = await request("glances", { names: head(names, most) });
      take(reply.glances, buffer);
      meet(shown);
      // Changed while they were on their way: these may be older than the change.
      if (store.revision.peek() !== revision) for (const name of reply.glances.name) fresh.delete(name);
    };
    asking = run().finally(() => {
      asking = null;
    });
    return asking;
  }

  const inSight = (): string[] => [...new Set([...wanted.values()].flat())];
  const missing = (names: readonly string[]): string[] => names.filter((name) => !fresh.has(name));

  function soon(pause: number): void {
    if (timer !== undefined) return;
    timer = setTimeout(async () => {
      timer = undefined;
      if (asking || (store.open.peek() && store.painted.peek() === 0 && Date.now() - begun < FIRST_PICTURE)) {
        return soon(PAUSE);
      }
      const names = missing(inSight());
      if (names.length === 0) return;
      try {
        await fetch(names);
      } catch {
        // Rows stay without numbers; whatever the user does next reports the reason.
        return;
      }
      if (missing(inSight()).length > 0) soon(0);
    }, pause);
  }

  return {
    version,
    get: (name) => known.get(name),
    want(list, names) {
      wanted.set(list, names);
      if (missing(names).length === 0) return;
      if (timer === undefined) rush = Date.now() + RUSH;
      else if (Date.now() < rush) {
        clearTimeout(timer);
        timer = undefined;
      }
      soon(PAUSE);
    },
    async all(names, signal, tell) {
      for (let left = missing(names); left.length > 0 && !signal.aborted; left = missing(left)) {
        tell(names.length - left.length);
        // Somebody else's batch, or its failure, is not ours.
        if (asking) await (asking as Promise<void>).catch(() => {});
        else await fetch(left, LARGE);
      }
    },
    mark(changed) {
      if (changed === "everything") fresh.clear();
      else for (const [name] of changed) fresh.delete(name);
      version.value += 1;
      soon(PAUSE);
    },
  };
}

function head(names: readonly string[], most: number): string[] {
  let letters = 0;
  const end = names.findIndex((name, at) => {
    letters += name.length;
    return at > 0 && (at >= most || letters > LETTERS);
  });
  return names.slice(0, end < 0 ? most : end);
}
