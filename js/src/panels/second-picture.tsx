/** The second picture: another view of the open tensor, beside the first, from the same place and in colours of its own. */
import type { ComponentChildren } from "preact";
import { useEffect, useMemo } from "preact/hooks";
import type { HeatmapView } from "../heatmap/heatmap";
import type { Pair } from "../heatmap/pair";
import { opened } from "../state/layouts";
import { secondStore } from "../state/second";
import { type OpenTensor, type Store, viewed } from "../state/store";
import { createSummaries } from "../state/summaries";
import type { Page, View } from "../state/view";
import { number } from "./format";
import { viewWords } from "./views";

interface Props extends Page {
  pair: Pair;
  /** Comes from the first script, which has drawn the first picture with it. */
  Picture: typeof HeatmapView;
}

export function SecondPicture({ store, actions, view, pair, Picture }: Props) {
  const own = useMemo(() => secondStore(store), [store]);
  const summaries = useMemo(() => createSummaries(own, actions, actions.meet), [own, actions]);
  const first = store.open.value;
  const shows = view.second.value ?? "value";
  const wanted = first?.layout ? JSON.stringify([first.name, shows, first.layout]) : first?.name;
  useEffect(() => {
    own.missing.value = "";
    const before = own.open.value;
    if (!first || before?.name !== first.name || before.view !== shows) own.open.value = first && blank(first, shows);
    if (!first?.layout) return;
    const { name, call } = first;
    const ended = new AbortController();
    const fields = { name, ...viewed(shows), ...(call ? { layout: call } : {}) };
    actions.request("open", fields, { signal: ended.signal }).then(
      (answer) => {
        own.open.value = opened(name, shows, answer, call);
        actions.meet(answer.revision);
        summaries.complete();
      },
      (error: Error) => {
        if (ended.signal.aborted) return;
        own.open.value = blank(first, shows);
        own.missing.value = error.message;
      },
    );
    return () => ended.abort();
  }, [wanted]);
  useEffect(
    () =>
      actions.onChanged((changed) => {
        const name = own.open.value?.name;
        if (changed === "everything" || changed.some(([which]) => which === name)) summaries.refresh();
      }),
    [own, actions],
  );
  useEffect(
    () => () => {
      own.open.value = null;
    },
    [own],
  );
  return (
    <Picture
      store={own}
      actions={actions}
      pair={pair}
      part="heatmap-beside"
      caption={<SecondCaption store={own} view={view} />}
    />
  );
}

/** Open, but its layout is not known in this view. */
const blank = (first: OpenTensor, view: string): OpenTensor => {
  const { call: _, orders: __, first: ___, ...rest } = first;
  return { ...rest, view, layout: null, summary: null, about: "" };
};

function SecondCaption({ store, view }: { store: Store; view: View }) {
  return (
    <Caption store={store}>
      <button
        type="button"
        class="wl-ghost wl-icon"
        aria-label="Close the second picture"
        title="One picture"
        onClick={(event) => {
          const pair = event.currentTarget.closest(".wl-pair");
          view.second.value = null;
          pair?.querySelector<HTMLElement>(".wl-heatmap")?.focus();
        }}
      >
        ✕
      </button>
    </Caption>
  );
}

/** Over each of two pictures: which view it is, its spread, and where its numbers come from. */
export function Caption({ store, children }: { store: Store; children?: ComponentChildren }) {
  const open = store.open.value;
  if (!open) return null;
  const { summary, about } = open;
  const largest = summary && Math.max(-(summary.min ?? 0), summary.max ?? 0);
  return (
    <div class="wl-caption">
      <b>{store.peek.value ? "before" : viewWords(open.view)}</b>
      {summary && (
        <span class="wl-num wl-dim">
          std {number(summary.std)} · |max| {number(largest)}
          {summary.exact ? "" : " · sampled"}
        </span>
      )}
      <span class="wl-dim wl-grow" title={about}>
        {about}
      </span>
      {children}
    </div>
  );
}
