/** The whole model at once: every tensor as a small tile, in the model's order. Click or Enter opens one. */
import { useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { colours } from "../heatmap/colormap";
import type { GradientRow, Status } from "../kernel/protocol";
import { glancesOf } from "../state/glances";
import { createThumbnails } from "../state/thumbnails";
import type { Page } from "../state/view";
import { dims, plural } from "./format";
import { drawStrip, type Fill, inks, isZero, type Pixel, pixel, scaleOf, shade } from "./map-draw";
import { layMap, mapMove, tileAt, tilesIn } from "./map-layout";
import { MapLegend } from "./map-legend";
import { statusWords } from "./sign";
import { isAtHand, STATISTICS, type Statistic, statisticOf, statisticText } from "./statistics";
import { useSight } from "./use-window";

export type MapColour = "picture" | "status" | Statistic;

/** On the tile beside its colour, which is never the only sign (P7). */
const MARKS: Record<Status, string> = {
  flowing: "",
  weak: "~",
  partial: "½",
  zero: "0",
  unreached: "/",
  frozen: "–",
  nonfinite: "!",
};
const LINEAR: readonly MapColour[] = ["zeros", "mean"];

export function ModelMap(page: Page) {
  const { store, actions, view } = page;
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const colour = useSignal<MapColour>("picture");
  const active = useSignal(-1);
  const hover = useSignal(-1);
  const width = useSignal(0);
  const sight = useSight(box);
  const thumbnails = useMemo(() => createThumbnails(actions), [actions]);
  const tensors = store.hello.value?.tensors;
  const names = tensors?.name ?? [];
  const layout = useMemo(() => layMap(names, width.value, sight.height), [names, width.value, sight.height]);
  const [from, to] = tilesIn(layout, sight.top, sight.top + sight.height);
  const gradients = store.gradients.value;
  const rows = useMemo(() => new Map(gradients?.rows.map((row) => [row.name, row])), [gradients]);
  const glances = glancesOf(page);
  const by = colour.value;
  const versions = `${glances.version.value} ${thumbnails.version.value}`;
  const statistic = by === "picture" || by === "status" ? null : by;
  const value = useMemo(
    () =>
      statistic && tensors
        ? statisticOf(statistic, { tensors, gradients, glance: (name) => glances.get(name) })
        : () => null,
    [statistic, tensors, gradients, versions],
  );
  const scale = useMemo(
    () => scaleOf(statistic ? names.map((_, at) => value(at)) : [], !LINEAR.includes(by)),
    [value, names],
  );
  const open = store.opening.value || (store.open.value?.name ?? "");
  const dark = store.dark.value;

  useEffect(() => () => thumbnails.close(), [thumbnails]);
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const observer = new ResizeObserver(() => {
      width.value = element.clientWidth;
    });
    observer.observe(element);
    width.value = element.clientWidth;
    element.focus({ preventScroll: true });
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    active.value = names.indexOf(open);
  }, [open, names]);
  useEffect(() => {
    const seen = names.slice(from, to);
    if (by === "picture") thumbnails.want(seen);
    if (statistic) glances.want(`${view.id}-map`, seen);
    else glances.want(`${view.id}-map`, []);
  }, [by, names, from, to, versions]);
  // A scale over all tensors needs all their numbers.
  useEffect(() => {
    if (!statistic || isAtHand(statistic)) return;
    const ended = new AbortController();
    glances.all(names, ended.signal, () => {}).catch(() => {});
    return () => ended.abort();
  }, [statistic, names]);

  useLayoutEffect(() => {
    const element = canvas.current;
    const host = box.current;
    const context = element?.getContext("2d");
    if (!element || !host || !context || width.value === 0) return;
    const dpr = Math.min(2, devicePixelRatio);
    element.width = Math.max(1, Math.round(width.value * dpr));
    element.height = Math.max(1, Math.round(sight.height * dpr));
    const image = context.createImageData(element.width, element.height);
    const ink = painterOf(
      host,
      dark,
      by,
      rows,
      names,
      (name) => thumbnails.get(name),
      (at) => scale.share(value(at)),
    );
    const strip = { layout, from, to, top: sight.top, dpr };
    drawStrip(new Uint32Array(image.data.buffer), element.width, element.height, strip, ink);
    context.putImageData(image, 0, 0);
    context.scale(dpr, dpr);
    if (layout.side >= 14 && by === "status") {
      drawMarks(context, strip, "#fff", (at) => MARKS[rows.get(names[at] ?? "")?.status ?? "flowing"]);
    } else if (layout.side >= 14 && by === "picture") {
      const style = getComputedStyle(host).getPropertyValue("--wl-dim");
      drawMarks(context, strip, style, (at) => (isZero(thumbnails.get(names[at] ?? "")) ? "0" : ""));
    }
    const complete =
      by === "picture"
        ? names.slice(from, to).every((name) => thumbnails.isFresh(name))
        : scale.known > 0 || statistic === null;
    if (complete) host.dataset["painted"] = `${by}@${store.revision.peek()}`;
    else delete host.dataset["painted"];
    Object.assign(host, {
      __wl_tile: (name: string) => {
        const at = names.indexOf(name);
        const [x, y] = [(layout.x[at] ?? 0) + layout.side / 2, (layout.y[at] ?? 0) - sight.top + layout.side / 2];
        const { left, top } = host.getBoundingClientRect();
        const { data } = context.getImageData(Math.round(x * dpr) + 3, Math.round(y * dpr), 1, 1);
        return { x: left + x, y: top + y, color: [...data] };
      },
    });
  }, [layout, from, to, sight, by, versions, dark, rows, scale, width.value]);

  function go(at: number): void {
    active.value = at;
    const element = box.current;
    const y = layout.y[at];
    if (!element || y === undefined) return;
    if (y < element.scrollTop) element.scrollTop = y - 8;
    else if (y + layout.side > element.scrollTop + element.clientHeight) {
      element.scrollTop = y + layout.side + 8 - element.clientHeight;
    }
  }

  function openTile(at: number): void {
    const name = names[at];
    if (name === undefined) return;
    view.stage.value = "picture";
    if (name !== open) void actions.openTensor(name);
  }

  const told = hover.value >= 0 ? hover.value : active.value;
  const name = names[told];
  const words = name === undefined ? `${plural(names.length, "tensor")}, in the model's order` : describe(told);
  function describe(at: number): string {
    const name = names[at] ?? "";
    const parts = [dims(tensors?.shape[at] ?? [])];
    if (statistic) {
      const label = STATISTICS.find(([key]) => key === statistic)?.[1] ?? "";
      parts.push(`${label} ${statisticText(statistic, value(at))}`);
    }
    const row = rows.get(name);
    if (by === "status" && row) parts.push(statusWords(row.status));
    if (by === "picture" && isZero(thumbnails.get(name))) parts.push("all zero");
    return parts.join(" · ");
  }

  const marked = active.value;
  return (
    <div class="wl-map" data-wl="map">
      <div class="wl-map-bar">
        <label class="wl-field">
          <span>Colour</span>
          <select
            aria-label="Colour of the map"
            value={by}
            onChange={(event) => {
              colour.value = event.currentTarget.value as MapColour;
            }}
          >
            <option value="picture">picture</option>
            {STATISTICS.map(([key, label]) => (
              <option key={key} value={key}>
                {label}
              </option>
            ))}
            <option value="status">gradient status</option>
          </select>
        </label>
        {/* What is not enough room for is cut from a long name, never from the number. */}
        <span class="wl-num wl-map-words" title={name === undefined ? words : `${name} · ${words}`}>
          {name !== undefined && (
            <span class="wl-name">
              <bdi dir="ltr">{name}</bdi>
            </span>
          )}
          <span class="wl-map-number">{name === undefined ? words : ` · ${words}`}</span>
        </span>
      </div>
      <div
        ref={box}
        class="wl-map-scroll wl-scroll"
        role="listbox"
        aria-label="Map of the model"
        aria-activedescendant={marked >= 0 ? `${view.id}-tile` : undefined}
        tabIndex={0}
        onKeyDown={(event) => {
          if (event.ctrlKey || event.metaKey || event.altKey) return;
          const next = mapMove(layout, event.key, Math.max(0, marked));
          if (next !== null) go(next);
          else if (event.key === "Enter" || event.key === " ") openTile(marked);
          else return;
          event.preventDefault();
        }}
        onPointerMove={(event) => {
          hover.value = tileUnder(event);
        }}
        onPointerLeave={() => {
          hover.value = -1;
        }}
        onClick={(event) => openTile(tileUnder(event))}
      >
        <canvas ref={canvas} style={{ width: `${width.value}px`, height: `${sight.height}px` }} />
        <div class="wl-map-over" style={{ height: `${layout.height}px` }}>
          {layout.headings.map(({ text, y }) => (
            <span key={y} class="wl-map-heading" style={{ top: `${y}px` }}>
              {text}
            </span>
          ))}
          {marked >= 0 && (
            <div
              id={`${view.id}-tile`}
              role="option"
              class="wl-map-active"
              tabIndex={-1}
              aria-selected={names[marked] === open}
              aria-label={`${names[marked]} · ${describe(marked)}`}
              aria-posinset={marked + 1}
              aria-setsize={names.length}
              data-name={names[marked]}
              style={place(marked)}
            />
          )}
        </div>
      </div>
      <MapLegend by={by} scale={scale} dark={dark} rows={gradients?.rows ?? []} />
    </div>
  );

  function tileUnder(event: MouseEvent): number {
    const element = box.current;
    if (!element) return -1;
    const { left, top } = element.getBoundingClientRect();
    return tileAt(layout, event.clientX - left, event.clientY - top + element.scrollTop);
  }

  function place(at: number) {
    const { side, x, y } = layout;
    return { left: `${x[at]}px`, top: `${y[at]}px`, width: `${side}px`, height: `${side}px` };
  }
}

function painterOf(
  host: HTMLElement,
  dark: boolean,
  by: MapColour,
  rows: ReadonlyMap<string, GradientRow>,
  names: readonly string[],
  thumbnail: (name: string) => Parameters<typeof toFill>[0] | undefined,
  share: (at: number) => number | null,
): (at: number) => Fill {
  const style = getComputedStyle(host);
  const variable = (name: string): Pixel => hex(style.getPropertyValue(name));
  const none: Fill = { lines: variable("--wl-line"), ground: variable("--wl-bg") };
  if (by === "picture") {
    const pixels = inks(colours(dark));
    return (at) => toFill(thumbnail(names[at] ?? ""), pixels, none);
  }
  if (by === "status") {
    const of: Record<Status, Pixel> = {
      flowing: variable("--wl-ok"),
      weak: variable("--wl-partial"),
      partial: variable("--wl-partial"),
      zero: variable("--wl-zero"),
      unreached: variable("--wl-zero"),
      frozen: variable("--wl-frozen"),
      nonfinite: variable("--wl-zero"),
    };
    return (at) => {
      const row = rows.get(names[at] ?? "");
      return row ? { colour: of[row.status] } : none;
    };
  }
  return (at) => {
    const found = share(at);
    return found === null ? none : { colour: pixel(...shade(found, dark)) };
  };
}

function toFill(
  picture: { rows: number; columns: number; codes: Uint8Array; limit: number | null; sampled: boolean } | undefined,
  table: Uint32Array,
  none: Fill,
): Fill {
  return picture && picture.codes.length > 0 ? { picture, table } : none;
}

function hex(text: string): Pixel {
  const digits = Number.parseInt(text.trim().slice(1), 16);
  return pixel(digits >> 16, (digits >> 8) & 255, digits & 255);
}

function drawMarks(
  context: CanvasRenderingContext2D,
  {
    layout,
    from,
    to,
    top,
  }: { layout: { x: Float64Array; y: Float64Array; side: number }; from: number; to: number; top: number },
  colour: string,
  mark: (at: number) => string,
): void {
  context.font = `600 ${Math.min(14, layout.side * 0.6)}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillStyle = colour;
  const middle = layout.side / 2;
  for (let at = from; at < to; at += 1) {
    context.fillText(mark(at), (layout.x[at] ?? 0) + middle, (layout.y[at] ?? 0) - top + middle);
  }
}
