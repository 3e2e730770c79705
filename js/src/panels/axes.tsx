/**
 * The roles of the axes, above the picture: a chip for each axis, to be dragged to another role or moved by its menu; a slider
 * for each axis of which one index is shown.
 */
import { useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { colourAxis } from "../heatmap/rgb";
import type { Layout, LayoutCall, OrderBy, Statistic } from "../kernel/protocol";
import { atIndex, axesIn, moved, placeAt, ROLES, type Role, roleOf, sortedBy } from "../state/roles";
import type { Page } from "../state/view";
import { type Item, Menu } from "./menu";

const SORTS: readonly [OrderBy, string][] = [
  ["norm", "Sort by norm"],
  ["mean", "Sort by mean"],
  ["zeros", "Sort by share of zeros"],
  ["similar", "Alike side by side"],
];
const PROFILES: readonly [Statistic, string][] = [
  ["norm", "norm"],
  ["mean", "mean"],
  ["zeros", "zeros"],
  ["largest", "largest |w|"],
];
/** A press that moves less than this is a click. */
const CLICK = 4;

interface Drag {
  axis: number;
  /** Of the pointer, from the corner of the chips. */
  x: number;
  y: number;
  /** Null: over no role. */
  to: { role: Role; place: number } | null;
}

export function Axes(page: Page) {
  const { store, actions } = page;
  const root = useRef<HTMLDivElement>(null);
  const drag = useSignal<Drag | null>(null);
  const arrange = useLatest(actions.arrange);
  const open = store.open.value;
  const layout = open?.layout;
  if (!layout || layout.shape.length === 0) return <div class="wl-axes" />;

  const inputs = colourAxis(layout);
  const rgb = inputs !== null && store.rgb.value && roleOf(layout, inputs) === "fixed";

  const sources = [...new Set(layout.groups.map((group) => group.source))].join("; ");

  /** The role under a point, and which place in it. */
  function roleUnder(x: number, y: number): Drag["to"] {
    for (const zone of root.current?.querySelectorAll<HTMLElement>("[data-role]") ?? []) {
      const box = zone.getBoundingClientRect();
      if (x < box.left - 6 || x > box.right + 6 || y < box.top - 12 || y > box.bottom + 12) continue;
      const chips = [...zone.querySelectorAll("[data-axis]")].map((chip) => chip.getBoundingClientRect());
      return { role: zone.dataset["role"] as Role, place: placeAt(x, chips) };
    }
    return null;
  }

  return (
    <div ref={root} class={`wl-axes${drag.value ? " wl-dragging" : ""}`} role="group" aria-label="Axes of the picture">
      {ROLES.map((role) => (
        <span
          key={role}
          class={`wl-role${drag.value?.to?.role === role ? " wl-into" : ""}`}
          data-role={role}
          data-empty={axesIn(layout, role).length === 0 || undefined}
          title={TITLES[role]}
        >
          <span class="wl-dim">{role}</span>
          {axesIn(layout, role).map((axis) => (
            <Chip
              key={axis}
              axis={axis}
              layout={layout}
              arrange={arrange}
              coloured={rgb && axis === inputs}
              moving={drag.value?.axis === axis}
              onDrag={(x, y) => {
                const box = root.current?.getBoundingClientRect();
                drag.value = { axis, x: x - (box?.x ?? 0), y: y - (box?.y ?? 0), to: roleUnder(x, y) };
              }}
              onDrop={(done) => {
                const to = drag.value?.to;
                drag.value = null;
                if (done && to) arrange(moved(layout, axis, to.role, to.place));
              }}
            />
          ))}
        </span>
      ))}
      {inputs !== null && (
        <button
          type="button"
          class="wl-num wl-rgb"
          aria-pressed={rgb}
          title="The three inputs of a filter as red, green and blue. Grey is 0; each filter is scaled by its own largest |w|."
          onClick={() => {
            store.rgb.value = !rgb;
            if (rgb) void actions.arrange(undefined);
            else arrange(moved(layout, inputs, "fixed"));
          }}
        >
          RGB
        </button>
      )}
      {rgb && <span>grey is 0, each filter by its max |w|</span>}
      <span class="wl-source" title={sources}>
        {sources}
      </span>
      {open.call && !rgb && (
        <button
          type="button"
          class="wl-ghost"
          title="The axes as this layer suggests"
          onClick={() => void actions.arrange(undefined)}
        >
          Reset
        </button>
      )}
      {!rgb && (
        <label class="wl-role" title="One number per row and per column, along the edges of the picture">
          <select
            aria-label="Edges"
            value={store.profile.value ?? ""}
            onChange={(event) => {
              store.profile.value = (event.currentTarget.value || null) as Statistic | null;
            }}
          >
            <option value="">edges: none</option>
            {layout.norm && <option value="scale">edges: scale of {layout.norm}</option>}
            {layout.norm && <option value="shift">edges: shift of {layout.norm}</option>}
            {PROFILES.map(([stat, words]) => (
              <option key={stat} value={stat}>
                edges: {words}
              </option>
            ))}
          </select>
        </label>
      )}
      {drag.value && (
        <span class="wl-ghost-chip wl-num" style={{ left: `${drag.value.x}px`, top: `${drag.value.y}px` }}>
          {chipText(layout, drag.value.axis)}
        </span>
      )}
    </div>
  );
}

const TITLES: Record<Role, string> = {
  rows: "Axes that run down the picture; the last one fastest",
  columns: "Axes that run across the picture; the last one fastest",
  facets: "Axes of which each index has a block of its own",
  fixed: "Axes of which one index is shown",
};

const nameOf = (layout: Layout, axis: number): string => layout.labels[axis] || `axis ${axis}`;

const SIGNS: Record<string, string> = { norm: "by norm", mean: "by mean", zeros: "by zeros", similar: "alike" };

function chipText(layout: Layout, axis: number): string {
  const by = layout.orders.find((order) => order.axis === axis)?.by;
  return `${nameOf(layout, axis)} ${layout.shape[axis]}${by ? ` ${SIGNS[by] ?? by}` : ""}`;
}

interface ChipProps {
  axis: number;
  layout: Layout;
  moving: boolean;
  /** Drawn as red, green and blue: there is no index to choose. */
  coloured: boolean;
  arrange(call: LayoutCall): void;
  onDrag(x: number, y: number): void;
  /** The drag ended, by letting go or by giving up. */
  onDrop(done: boolean): void;
}

function Chip({ axis, layout, moving, coloured, arrange, onDrag, onDrop }: ChipProps) {
  const start = useRef<{ x: number; y: number; dragged: boolean } | null>(null);
  const name = nameOf(layout, axis);
  const role = roleOf(layout, axis);
  const place = axesIn(layout, role).indexOf(axis);
  const by = layout.orders.find((order) => order.axis === axis)?.by;
  const size = layout.shape[axis] ?? 1;
  const still = layout.fixed.find(([each]) => each === axis)?.[1];
  const groups = layout.groups.filter((group) => group.axis === axis);
  const items: Item[] = ROLES.filter((each) => each !== role).map((to) => ({
    label: to === "fixed" ? "Show one index" : `To ${to}`,
    title: TITLES[to],
    run: () => arrange(moved(layout, axis, to)),
  }));
  if (place > 0) items.push({ label: `First of ${role}`, run: () => arrange(moved(layout, axis, role, 0)) });
  if (role !== "fixed" && size > 1) {
    for (const [sort, label] of SORTS) {
      if (sort !== by) items.push({ label, run: () => arrange(sortedBy(layout, axis, sort)) });
    }
    if (by) items.push({ label: "In its own order", run: () => arrange(sortedBy(layout, axis, null)) });
  }
  const sources = [...new Set(groups.map((group) => group.source))].map((source) => `. Groups: ${source}`).join("");
  return (
    <span
      class={`wl-chip-axis${moving ? " wl-moving" : ""}`}
      data-axis={axis}
      onPointerDown={(event) => {
        if (event.button === 0 && event.target instanceof HTMLButtonElement)
          start.current = { x: event.clientX, y: event.clientY, dragged: false };
      }}
      onPointerMove={(event) => {
        const from = start.current;
        if (!from) return;
        if (!from.dragged && Math.hypot(event.clientX - from.x, event.clientY - from.y) < CLICK) return;
        if (!from.dragged) event.currentTarget.setPointerCapture(event.pointerId);
        from.dragged = true;
        onDrag(event.clientX, event.clientY);
      }}
      onPointerUp={() => {
        if (start.current?.dragged) onDrop(true);
        else start.current = null;
      }}
      onPointerCancel={() => {
        start.current = null;
        onDrop(false);
      }}
      onClickCapture={(event) => {
        if (start.current?.dragged) {
          event.preventDefault();
          event.stopPropagation();
        }
        start.current = null;
      }}
    >
      <Menu
        text={chipText(layout, axis)}
        title={`Axis ${axis}: ${name}, ${size} indices. Drag it to another role, or press for a menu${sources}`}
        kind="wl-num"
        left
        items={items}
      />
      {still !== undefined && !coloured && (
        <>
          <input
            type="range"
            aria-label={`Index of ${name}`}
            min={0}
            max={size - 1}
            step={1}
            value={still}
            onInput={(event) => arrange(atIndex(layout, axis, Number(event.currentTarget.value)))}
          />
          <output class="wl-num">{still}</output>
        </>
      )}
    </span>
  );
}

/** One call under way; while it is, only the latest wish is kept. A slider is moved faster than a kernel answers. */
function useLatest(run: (call: LayoutCall) => Promise<void>): (call: LayoutCall) => void {
  const state = useRef<{ busy: boolean; next: LayoutCall | null }>({ busy: false, next: null });
  return async (call) => {
    const { current } = state;
    current.next = call;
    if (current.busy) return;
    current.busy = true;
    try {
      while (current.next) {
        const next: LayoutCall = current.next;
        current.next = null;
        await run(next);
      }
    } finally {
      current.busy = false;
    }
  };
}
