/** The histogram beside the colours, asked for on the range that is looked at where the summary's is too coarse for it. */
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { type BarAxis, type Bars, barsCounted, barsOf, edgesOf, isCoarse } from "../heatmap/bar";
import type { Scale } from "../heatmap/scale";
import type { BarCounts } from "../kernel/protocol";
import type { Actions } from "../state/actions";
import { type Store, viewed } from "../state/store";

/** An end is being dragged, or a training loop runs: the kernel is asked when it rests. */
const REST = 120;
const KEPT = 32;

interface Counted {
  key: string;
  /** Of which tensor and on which axis: these rows still stand while only an end of the range moves. */
  rows: string;
  counts: BarCounts;
}

const known = new WeakMap<Store, Map<string, Counted>>();

export interface Seen {
  bars: Bars;
  /** Whether what lies outside is counted from every cell. */
  exact: boolean;
  sampled: boolean;
}

/** Null where there is nothing to count. */
export function useSeen(store: Store, actions: Actions, axis: BarAxis, scale: Scale): Seen | null {
  const { name = "", view, summary = null } = store.open.value ?? {};
  const revision = store.revision.value;
  const coarse = summary !== null && summary.count > 0 && isCoarse(summary, axis, scale);
  const rows = [name, view, revision, axis.from, axis.to, axis.curve, axis.knee].join(" ");
  const key = `${rows} ${scale.low} ${scale.high}`;
  const latest = useSignal<Counted | null>(null);

  useEffect(() => {
    if (!coarse) return;
    const kept = known.get(store) ?? new Map<string, Counted>();
    known.set(store, kept);
    const before = kept.get(key);
    if (before) {
      latest.value = before;
      return;
    }
    const ended = new AbortController();
    const { signal } = ended;
    const asking = setTimeout(() => {
      const range: [number, number] = [scale.low, scale.high];
      const size = axis.curve === "log";
      actions
        .request("bar", { name, ...viewed(view), edges: edgesOf(axis), range, size }, { signal })
        .then(({ reply, revision: brought }) => {
          const counted = { key, rows, counts: reply.bar };
          if (kept.size >= KEPT) kept.clear();
          kept.set(key, counted);
          latest.value = counted;
          actions.meet(brought);
        })
        // The coarse one stays; whatever the user does next reports the reason.
        .catch(() => {});
    }, REST);
    return () => {
      clearTimeout(asking);
      ended.abort();
    };
  }, [store, actions, coarse, key]);

  if (!summary || summary.count === 0) return null;
  const counted = coarse ? latest.value : null;
  const rough = barsOf(summary, axis, scale);
  if (counted?.rows !== rows) return { bars: rough, exact: summary.exact, sampled: !summary.exact };
  const { exact } = counted.counts;
  const sampled = counted.counts.sampled < summary.count;
  const bars = barsCounted(counted.counts, summary, scale);
  if (counted.key === key) return { bars, exact, sampled };
  return { bars: { ...rough, bars: bars.bars }, exact: summary.exact, sampled };
}
