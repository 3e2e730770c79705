/** On the colour bar: two ends of the range to drag, and an interval of values to brush. Each has its arrow keys. */
import { useRef } from "preact/hooks";
import { type BarAxis, shareOf, valueAt } from "../heatmap/bar";
import { pickedOf } from "../heatmap/look";
import { short } from "../heatmap/numbers";
import { bend, entryOf, type Scale, unbend, valuesOf } from "../heatmap/scale";
import { type Store, viewed } from "../state/store";

interface Props {
  store: Store;
  axis: BarAxis;
  scale: Scale;
}

type End = "low" | "high";

/** Means the cells of whole steps of colour, so that what is lit and what is edited are the same cells. */
export function pick(store: Store, scale: Scale, one: number, other: number): void {
  const inside = (value: number) => {
    const entry = entryOf(Math.max(scale.low, Math.min(scale.high, value)), scale);
    return Math.max(1, Math.min(255, entry));
  };
  const [first, last] = [inside(Math.min(one, other)), inside(Math.max(one, other))];
  const kind = scale.curve === "log" ? "size_between" : "between";
  const value: [number, number] = [valuesOf(first, scale)[0], valuesOf(last, scale)[1]];
  store.where.value = { kind, value, ...viewed(store.open.value?.view) };
}

/** What a slider can be moved to; steps of colour reach a little over the ends of the range. */
const within = (value: number, ...[least, most]: number[]) => ({
  "aria-valuemin": Math.min(value, least as number),
  "aria-valuemax": Math.max(value, most as number),
});

export function BarHandles({ store, axis, scale }: Props) {
  const picked = pickedOf(store);
  const brush = useRef<HTMLDivElement>(null);
  const still = store.held_axis;

  const pointed = (event: PointerEvent, held: BarAxis): number => {
    const box = (event.currentTarget as HTMLElement).parentElement?.getBoundingClientRect();
    const share = box ? (event.clientY - box.top) / Math.max(1, box.height) : 0;
    return valueAt(Math.max(0, Math.min(1, share)), held);
  };

  /** A symmetric range stays so, unless Shift says that one end is meant. */
  function setEnd(end: End, value: number, alone: boolean): void {
    const both = !alone && scale.base === 128 && scale.low === -scale.high;
    let [low, high] = end === "low" ? [value, scale.high] : [scale.low, value];
    if (both) [low, high] = [-Math.abs(value), Math.abs(value)];
    if (low < high) store.range.value = { kind: "typed", low, high };
  }

  const stepped = (value: number, event: KeyboardEvent): number | null => {
    const by = { ArrowUp: 1, ArrowDown: -1, ArrowRight: 1, ArrowLeft: -1, PageUp: 10, PageDown: -10 }[event.key];
    if (by === undefined) return null;
    event.preventDefault();
    event.stopPropagation();
    const step = (axis.to - axis.from) / 100;
    return unbend(bend(value, axis.curve, axis.knee) + by * step, axis.curve, axis.knee);
  };

  const end = (which: End) => {
    const value = scale[which];
    return (
      <div
        class={`wl-end wl-end-${which}`}
        role="slider"
        tabIndex={0}
        aria-label={which === "low" ? "Lowest colour" : "Highest colour"}
        aria-orientation="vertical"
        aria-valuenow={value}
        {...within(value, ...(which === "low" ? [valueAt(1, axis), scale.high] : [scale.low, valueAt(0, axis)]))}
        aria-valuetext={short(value)}
        title="Drag to set the range of the colours. A symmetric range stays so, with Shift one end moves alone. Double click: all values."
        style={{ top: `${shareOf(value, axis) * 100}%` }}
        onPointerDown={(event) => {
          event.preventDefault();
          event.currentTarget.focus();
          event.currentTarget.setPointerCapture(event.pointerId);
          still.value = axis;
        }}
        onPointerMove={(event) => {
          if (still.value) setEnd(which, pointed(event, still.value), event.shiftKey);
        }}
        onLostPointerCapture={() => {
          still.value = null;
        }}
        onDblClick={() => {
          store.range.value = { kind: "symmetric" };
        }}
        onKeyDown={(event) => {
          const next = stepped(value, event);
          if (next !== null) setEnd(which, next, event.shiftKey);
        }}
      />
    );
  };

  const grip = (which: 0 | 1) => {
    const value = (picked as [number, number])[which];
    const other = (picked as [number, number])[which === 0 ? 1 : 0];
    return (
      <div
        class="wl-grip"
        role="slider"
        tabIndex={0}
        aria-label={which === 0 ? "Pick from" : "Pick to"}
        aria-orientation="vertical"
        aria-valuenow={value}
        {...within(value, ...(which === 0 ? [scale.low, other] : [other, scale.high]))}
        aria-valuetext={short(value)}
        style={{ top: `${shareOf(value, axis) * 100}%` }}
        onKeyDown={(event) => {
          if (event.key === "Escape") clear(event);
          const next = stepped(value, event);
          if (next !== null && (which === 0 ? next <= other : next >= other)) pick(store, scale, next, other);
        }}
      />
    );
  };

  function clear(event: Event): void {
    event.stopPropagation();
    store.where.value = null;
  }

  const from = useRef<number | null>(null);
  return (
    <>
      {/* biome-ignore lint/a11y/noStaticElementInteractions: the button "Pick values" and the grips are its keyboard */}
      <div
        ref={brush}
        class="wl-brush"
        title="Drag along the histogram to mean only the cells with these values. Double click: all of them."
        data-wl="brush"
        onPointerDown={(event) => {
          event.preventDefault();
          event.currentTarget.setPointerCapture(event.pointerId);
          from.current = pointed(event, axis);
        }}
        onPointerMove={(event) => {
          if (from.current !== null) pick(store, scale, from.current, pointed(event, axis));
        }}
        onLostPointerCapture={() => {
          from.current = null;
        }}
        onDblClick={clear}
      />
      {end("high")}
      {end("low")}
      {picked && (
        <div
          class="wl-picked"
          style={{
            top: `${Math.max(0, shareOf(picked[1], axis)) * 100}%`,
            bottom: `${Math.max(0, 1 - shareOf(picked[0], axis)) * 100}%`,
          }}
        />
      )}
      {picked && grip(1)}
      {picked && grip(0)}
    </>
  );
}
