/** The picture part of the page: stage, colour bar and read-out. Fills the room that its flex parent gives it. */
import { useComputed, useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { Actions } from "../state/actions";
import { extra } from "../state/extra";
import type { Reduction, Store } from "../state/store";
import { css } from "./colormap";
import { listen } from "./input";
import { lookOf } from "./look";
import { indexText } from "./numbers";
import type { Pair } from "./pair";
import { Picture } from "./picture";
import type { TileCaches } from "./session";

/** How several cells become one point, in words. */
const REDUCTIONS: readonly [Reduction, string, string][] = [
  ["extreme", "largest |w|", "The cell farthest from 0: no spike is lost"],
  ["mean", "mean", "The average: a single spike drowns in it"],
  ["rms", "l2 (rms)", "Root mean square: how much weight there is, without signs"],
];

export interface HeatmapProps {
  store: Store;
  actions: Actions;
  /** Whom it shares its place with. */
  pair: Pair;
  /** How it is found on the page. */
  part?: "heatmap" | "heatmap-beside";
  /** Above the picture. */
  caption?: ComponentChildren;
  /** Tiles that outlive this view; without it they go with the view. */
  cache?: TileCaches;
}

export function HeatmapView({ store, actions, pair, part = "heatmap", caption, cache }: HeatmapProps) {
  const stage = useRef<HTMLDivElement>(null);
  const picture = useSignal<Picture | null>(null);

  useEffect(() => {
    const host = stage.current;
    if (!host) return;
    const made = new Picture(host, store, actions, cache ?? new Map());
    const ended = new AbortController();
    listen(made, ended.signal);
    const aside = ({ clientY }: PointerEvent) =>
      host.nextElementSibling?.classList.toggle("wl-aside", clientY > host.getBoundingClientRect().bottom - 76);
    host.addEventListener("pointermove", aside, ended);
    const leave = pair.join(made);
    picture.value = made;
    return () => {
      ended.abort();
      leave();
      made.dispose();
      picture.value = null;
    };
  }, [store, actions, pair, cache]);

  const { plain } = lookOf(store);
  const more = extra.value;
  return (
    <div class="wl-picture">
      {caption}
      <div class="wl-stage" style={{ background: css(plain.background) }}>
        <div
          ref={stage}
          class={`wl-heatmap wl-tool-${store.tool.value}`}
          data-wl={part}
          role="application"
          // biome-ignore lint/a11y/noNoninteractiveTabindex: arrows move a cell cursor in it
          tabIndex={0}
        />
        <ReadOut store={store} picture={picture.value} second={part !== "heatmap"} />
        <Face store={store} picture={picture.value} />
        {more && <more.OverPicture store={store} picture={picture.value} />}
      </div>
      {/* Its room stands empty until the second script is here: nothing jumps. */}
      {more ? (
        <more.ColourScale store={store} actions={actions} height={picture.value?.stage.height.value ?? 0} />
      ) : (
        <div class="wl-scale" aria-busy="true" />
      )}
    </div>
  );
}

/** Its own component: it changes with every move of the mouse, and nothing around it does. */
function ReadOut({ store, picture, second }: { store: Store; picture: Picture | null; second: boolean }) {
  const shown = picture?.shown.value;
  const legend = picture?.legend.value ?? "";
  const twin = picture?.twin.value;
  const theirs = twin?.shown.value.text.split(" = ");
  return (
    <div class="wl-foot">
      <div class={shown?.text ? "wl-read" : "wl-read wl-read-empty"}>
        <span data-wl={second ? "readout-beside" : "readout"}>{shown?.text ?? ""}</span>
        {theirs?.[1] && shown?.text.startsWith(`${theirs[0]} = `) && (
          <span class="wl-read-more">
            {twin?.session?.shows} {theirs[1]}
          </span>
        )}
        {shown?.was && <span class="wl-read-more">{shown.was}</span>}
        {shown?.bin && <span class="wl-read-more">{shown.bin}</span>}
      </div>
      {legend && (
        <div class="wl-legend">
          {legend}
          {/* One choice for both. */}
          {second && ` ${REDUCTIONS.find(([key]) => key === store.reduction.value)?.[1]}`}
          <select
            hidden={second}
            aria-label="Cells in one point"
            title={`How several cells in one point are drawn. ${REDUCTIONS.find(([key]) => key === store.reduction.value)?.[2]}`}
            value={store.reduction.value}
            onChange={(event) => {
              store.reduction.value = event.currentTarget.value as Reduction;
            }}
          >
            {REDUCTIONS.map(([key, words]) => (
              <option key={key} value={key}>
                {words}
              </option>
            ))}
          </select>
        </div>
      )}
    </div>
  );
}

/** What stands in the stage when there is no picture. */
function Face({ store, picture }: { store: Store; picture: Picture | null }) {
  const text = useComputed(() => {
    const open = store.open.value;
    if (!open) return store.hello.value ? "Choose a parameter in the tree." : "";
    if (!open.layout) {
      return store.missing.value || (store.opening.value ? `Opening ${open.name} …` : `${open.name} did not open.`);
    }
    if (open.layout.shape.includes(0)) return `${open.name} ${indexText(open.layout.shape)} has no cells.`;
    return "";
  });
  const error = picture?.error.value ?? "";
  if (error) {
    return (
      <div class="wl-face" {...(picture?.session?.loader.cancelled ? {} : { role: "alert" })}>
        <p>{error}</p>
        <button
          type="button"
          onClick={() => {
            picture?.session?.loader.retry();
            picture?.redraw();
          }}
        >
          Try again
        </button>
      </div>
    );
  }
  return text.value ? <div class="wl-face">{text.value}</div> : null;
}
