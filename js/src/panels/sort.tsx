/** The order of the tree's rows: the model's, or by a statistic. */
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { glancesOf } from "../state/glances";
import type { Page } from "../state/view";
import { count } from "./format";
import { isAtHand, STATISTICS, type Statistic, sorted, statisticOf, statisticText } from "./statistics";

/** Sorts once all numbers are there, and not again while they change: rows must not run away from under the mouse. */
export function SortBar({ store, actions, view }: Page) {
  const by = useSignal<Statistic | null>(null);
  const rising = useSignal(false);
  /** How many numbers have been read, while there are more to come. */
  const done = useSignal<number | null>(null);
  const { order } = view;
  const glances = glancesOf({ store, actions });
  const tensors = store.hello.value?.tensors;
  useEffect(() => {
    const statistic = by.value;
    order.value = null;
    if (!tensors || !statistic) return;
    const ended = new AbortController();
    const glance = (name: string) => glances.get(name);
    const read = () => statisticOf(statistic, { tensors, gradients: store.gradients.peek(), glance });
    const sort = (): void => {
      done.value = null;
      const all = tensors.name.map((_, at) => at);
      const value = read();
      order.value = {
        places: sorted(all, value, rising.value),
        text: (at) => statisticText(statistic, value(at)),
      };
    };
    if (isAtHand(statistic)) sort();
    else {
      glances
        .all(tensors.name, ended.signal, (ready) => {
          done.value = ready;
        })
        .then(
          () => ended.signal.aborted || sort(),
          (error: Error) => {
            by.value = null;
            store.alert.value = { message: error.message };
          },
        );
    }
    return () => {
      ended.abort();
      done.value = null;
    };
  }, [by.value, rising.value, tensors]);
  return (
    <div class="wl-sort">
      <select
        aria-label="Sort parameters"
        title="The order of the rows"
        value={by.value ?? ""}
        onChange={(event) => {
          by.value = (event.currentTarget.value || null) as Statistic | null;
        }}
      >
        <option value="">as in the model</option>
        {STATISTICS.map(([key, words]) => (
          <option key={key} value={key}>
            by {words}
          </option>
        ))}
      </select>
      {by.value && (
        <button
          type="button"
          class="wl-ghost wl-icon"
          aria-label={rising.value ? "Smallest first" : "Largest first"}
          title={rising.value ? "Smallest first" : "Largest first"}
          onClick={() => {
            rising.value = !rising.value;
          }}
        >
          {rising.value ? "↑" : "↓"}
        </button>
      )}
      {done.value !== null && (
        <>
          <span class="wl-num wl-dim" role="status">
            {count(done.value)} read…
          </span>
          <button
            type="button"
            class="wl-ghost"
            onClick={() => {
              by.value = null;
            }}
          >
            Stop
          </button>
        </>
      )}
    </div>
  );
}
