/** The scale beside the picture: colours, histogram of the values, round numbers, and what has a mark of its own. */
import type { ComponentChildren } from "preact";
import { type BarAxis, type Bars, barTicks, valueAt } from "../heatmap/bar";
import { type Colours, css, rgb } from "../heatmap/colormap";
import { grouped, short } from "../heatmap/numbers";
import { ABOVE_ENTRY, BELOW_ENTRY, entryOf, NAN_ENTRY, POSITIVE_ENTRY, type Scale } from "../heatmap/scale";
import type { Summary } from "../kernel/protocol";
import type { Seen } from "./seen-counts";

const STOPS = 127;
const NONE: Bars = { bars: [], above: 0, below: 0, least: { above: false, below: false } };

function gradient(colours: Colours, axis: BarAxis, scale: Scale): string {
  const stops: string[] = [];
  for (let i = 0; i <= STOPS; i++) stops.push(css(rgb(colours, entryOf(valueAt(i / STOPS, axis), scale))));
  return `linear-gradient(${stops.join(",")})`;
}

interface Props {
  summary: Summary | null;
  /** Its histogram on the bar. */
  seen: Seen | null;
  axis: BarAxis;
  scale: Scale;
  /** As drawn on the cells: what is not picked is faded. */
  colours: Colours;
  /** For the chips, which do not fade. */
  plain: Colours;
  height: number;
  /** Lies over the bar: handles. */
  over?: ComponentChildren;
  /** Stands below the scale. */
  children?: ComponentChildren;
}

export function ColourBar({ summary, seen: counted, axis, scale, colours, plain, height, over, children }: Props) {
  const seen = counted?.bars ?? NONE;
  const how = (side: "above" | "below") => (seen.least[side] ? "at least " : counted?.exact === false ? "about " : "");
  // The chips stand below and take their room from the bar.
  const chips = [
    {
      many: seen.above,
      text: `${how("above")}${grouped(Math.round(seen.above))} above`,
      entry: ABOVE_ENTRY,
      mark: "◥",
    },
    {
      many: seen.below,
      text: `${how("below")}${grouped(Math.round(seen.below))} below`,
      entry: BELOW_ENTRY,
      mark: "◢",
    },
    { many: summary?.nan ?? 0, text: `${grouped(summary?.nan ?? 0)} NaN`, entry: NAN_ENTRY, mark: "×" },
    { many: summary?.inf ?? 0, text: `${grouped(summary?.inf ?? 0)} inf`, entry: POSITIVE_ENTRY, mark: "▲" },
    { many: summary?.exact === false || counted?.sampled ? 1 : 0, text: "sampled", entry: -1, mark: "" },
  ].filter(({ many }) => many >= 1);
  const room = Math.max(1, height - chips.length * 22 - 80);
  return (
    <div class="wl-scale">
      <div
        class="wl-scale-bar"
        role="group"
        aria-label={`Colours from ${short(scale.low)} to ${short(scale.high)}`}
        data-low={scale.low}
        data-high={scale.high}
      >
        <div class="wl-scale-colours" style={{ background: gradient(colours, axis, scale) }} />
        <svg class="wl-scale-histogram" viewBox="0 0 100 1000" preserveAspectRatio="none" aria-hidden="true">
          {seen.bars.map(({ y, height: h, share }) => (
            <rect key={y} x="0" y={y * 1000} width={Math.max(2, share * 100)} height={Math.max(1, h * 1000 - 1)} />
          ))}
        </svg>
        {barTicks(axis, scale, room).map(({ value, share, end }) => (
          <span
            key={`${value}${end}`}
            class={end ? "wl-tick wl-tick-end" : "wl-tick"}
            style={{ top: `${share * 100}%`, transform: `translateY(${-share * 100}%)` }}
          >
            {short(value)}
          </span>
        ))}
        {over}
      </div>
      {chips.map(({ text, entry, mark }) => (
        <span key={text} class="wl-chip" title={text}>
          {entry >= 0 && (
            <i
              class={entry >= ABOVE_ENTRY ? "wl-cut" : ""}
              style={{
                background: css(rgb(plain, entry)),
                color: css(entry < ABOVE_ENTRY ? plain.mark : plain.background),
              }}
              aria-hidden="true"
            >
              {mark}
            </i>
          )}
          {text}
        </span>
      ))}
      {children}
    </div>
  );
}
