/** Below the colour bar: which colours, over which range, on which curve; and what is picked on the bar. */
import { useSignal, useSignalEffect } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { pickedOf } from "../heatmap/look";
import { grouped, short } from "../heatmap/numbers";
import type { Scale } from "../heatmap/scale";
import type { Where } from "../kernel/protocol";
import type { Actions } from "../state/actions";
import type { Curve, Range, Store } from "../state/store";
import { pick } from "./bar-handles";

interface Props {
  store: Store;
  actions: Actions;
  scale: Scale;
}

/** 256 times red, green, blue. */
const TABLE = 768;

/** Matplotlib's colour maps, once. */
async function colourMaps(store: Store, actions: Actions): Promise<void> {
  if (store.maps.value.length > 0) return;
  const answer = await actions.ask("reading colours", () => actions.request("colours", {}));
  if (!answer) return;
  const { buffer, reply } = answer;
  const bytes = new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  store.maps.value = reply.maps.map((map, i) => ({ ...map, table: bytes.slice(i * TABLE, (i + 1) * TABLE) }));
}

/** The range of all parameters as they are now. */
async function measureAll(store: Store, actions: Actions): Promise<void> {
  const answer = await actions.ask("measuring all parameters", () => actions.request("extent", {}));
  if (answer) store.extent.value = [answer.reply.low, answer.reply.high];
}

/** How many cells the selection and the condition on it mean; null when the kernel did not say. */
async function countOf(store: Store, actions: Actions, where: Where): Promise<number | null> {
  const name = store.open.value?.name;
  if (name === undefined) return null;
  const text = store.selection.value?.region.text ?? "[...]";
  return (
    (await actions.ask("counting", () => actions.request("region", { name, text, where })))?.reply.region.numel ?? null
  );
}

export function ColourControls({ store, actions, scale }: Props) {
  const { maps, map, range, curve } = store;
  const signed = store.open.value?.signed ?? true;
  useEffect(() => {
    void colourMaps(store, actions);
  }, [store, actions]);
  const kinds: [Range["kind"], string][] = [
    ["symmetric", signed ? "± all" : "0 to all"],
    ["full", "min … max"],
    ["robust", signed ? "± 99 %" : "99 %"],
    ["shared", "all tensors"],
    ["typed", "typed"],
  ];
  return (
    <div class="wl-controls">
      <select
        aria-label="Colour map"
        title="Auto: around 0 where values have both signs, else from dark to light"
        value={map.value}
        onChange={(event) => {
          map.value = event.currentTarget.value;
        }}
      >
        <option value="auto">auto</option>
        {(["diverging", "sequential"] as const).map((kind) => (
          <optgroup key={kind} label={kind}>
            {maps.value
              .filter((each) => each.kind === kind)
              .map(({ name }) => (
                <option key={name}>{name}</option>
              ))}
          </optgroup>
        ))}
      </select>
      <select
        aria-label="Colour range"
        title="Which values the colours reach"
        value={range.value.kind}
        onChange={(event) => {
          const kind = event.currentTarget.value as Range["kind"];
          if (kind === "shared") void measureAll(store, actions);
          range.value = kind === "typed" ? { kind, low: scale.low, high: scale.high } : { kind };
        }}
      >
        {kinds.map(([kind, text]) => (
          <option key={kind} value={kind}>
            {text}
          </option>
        ))}
      </select>
      {range.value.kind === "typed" && (
        <span class="wl-typed">
          <End store={store} end="low" name="Colour from" />
          <End store={store} end="high" name="Colour to" />
        </span>
      )}
      <select
        aria-label="Colour scale"
        title="Logarithmic scales show small values beside large ones"
        value={curve.value}
        onChange={(event) => {
          curve.value = event.currentTarget.value as Curve;
        }}
      >
        <option value="linear">linear</option>
        <option value="symlog">symlog</option>
        <option value="log">log |w|</option>
      </select>
      <Picked {...{ store, actions, scale }} />
    </div>
  );
}

/** One end of a typed range. A text that is no number, or no lower end, changes nothing and says so. */
function End({ store, end, name }: { store: Store; end: "low" | "high"; name: string }) {
  const draft = useSignal<string | null>(null);
  const range = store.range.value;
  const now = range.kind === "typed" ? range[end] : 0;
  const typed = Number(draft.value?.trim().replace("−", "-") || "NaN");
  const next = range.kind === "typed" ? { ...range, [end]: typed } : null;
  const wrong = draft.value !== null && !(next && next.low < next.high && Number.isFinite(next.high - next.low));
  function commit(): void {
    if (draft.value === null || !next || wrong) return;
    store.range.value = next;
    draft.value = null;
  }
  const text = draft.value ?? String(Number(now.toPrecision(6)));
  return (
    <input
      class="wl-num"
      type="text"
      aria-label={name}
      aria-invalid={wrong}
      title={
        wrong ? `Not used: a number ${end === "low" ? "below the upper" : "above the lower"} end is expected.` : name
      }
      spellcheck={false}
      autocomplete="off"
      value={text}
      onInput={(event) => {
        draft.value = event.currentTarget.value;
      }}
      onKeyDown={(event) => {
        if (event.key === "Enter") commit();
        else if (event.key === "Escape") draft.value = null;
      }}
      onBlur={commit}
    />
  );
}

/** What is picked by value, exactly; a button where nothing is, so that it can be done without a mouse. */
function Picked({ store, actions, scale }: Props) {
  const many = useSignal<number | null>(null);
  const picked = pickedOf(store);
  useSignalEffect(() => {
    const where = store.where.value;
    void [store.selection.value, store.revision.value];
    many.value = null;
    if (!where || !pickedOf(store)) return;
    const ended = new AbortController();
    // A drag asks once it rests.
    const timer = setTimeout(async () => {
      const found = await countOf(store, actions, where);
      if (!ended.signal.aborted) many.value = found;
    }, 150);
    return () => {
      clearTimeout(timer);
      ended.abort();
    };
  });
  if (!picked) {
    return (
      <button
        type="button"
        class="wl-ghost wl-pick"
        disabled={!store.open.value?.summary?.count}
        title="Mean only the cells whose values lie in an interval: drag along the histogram"
        onClick={(event) => {
          const bar = event.currentTarget.closest(".wl-scale");
          const middle = (share: number) => {
            const [low, high] = [scale.low, scale.high];
            if (scale.curve === "log") return low * (high / low) ** share;
            return low + (high - low) * share;
          };
          pick(store, scale, middle(0.25), middle(0.75));
          // Its handles exist after the next drawing.
          requestAnimationFrame(() => bar?.querySelector<HTMLElement>(".wl-grip")?.focus());
        }}
      >
        Pick values
      </button>
    );
  }
  return (
    <span class="wl-chip wl-picking" data-wl="picked" title={`${picked[0]} to ${picked[1]}`}>
      <span>
        {short(picked[1])}
        <br />
        {short(picked[0])}
        <br />
        {many.value === null ? "counting" : `${grouped(many.value)} ${many.value === 1 ? "cell" : "cells"}`}
      </span>
      <button
        type="button"
        class="wl-plain"
        aria-label="Pick no values"
        onClick={() => {
          store.where.value = null;
        }}
      >
        ✕
      </button>
    </span>
  );
}
