/** The scale beside the picture: colours, histogram of the values, round numbers, and what the scale does not show. */
import type { ComponentChildren } from "preact";
import type { Summary } from "../kernel/protocol";
import { type Colours, css, entryOf, NAN_ENTRY, POSITIVE_ENTRY, rgb } from "./colormap";
import { grouped, short, ticks } from "./numbers";

/** From the top: share of the height at which a value stands. */
const heightOf = (value: number, limit: number): number => 0.5 - value / limit / 2;

function gradient(colours: Colours, limit: number): string {
  const stops: string[] = [];
  for (let i = 0; i <= 32; i++) stops.push(css(rgb(colours, entryOf(limit * (1 - i / 16), limit))));
  return `linear-gradient(${stops.join(",")})`;
}

/** Bars of the histogram on the scale of the colours, and how many values lie above and below it. */
export function barsOf(
  summary: Summary,
  limit: number,
): { bars: { y: number; height: number; share: number }[]; outside: number } {
  const { low, high, counts } = summary.histogram;
  const bars: { y: number; height: number; share: number }[] = [];
  let outside = 0;
  const most = Math.sqrt(Math.max(1, ...counts));
  const width = (high - low) / Math.max(1, counts.length);
  counts.forEach((count, i) => {
    const from = low + i * width;
    const middle = from + width / 2;
    if (Math.abs(middle) > limit * (1 + 1e-6)) outside += count;
    else if (count > 0) {
      const top = Math.max(0, heightOf(from + width, limit));
      const bottom = Math.min(1, heightOf(from, limit));
      // A histogram without width is a single value: a line that can be seen.
      bars.push({ y: top, height: Math.max(0.006, bottom - top), share: Math.sqrt(count) / most });
    }
  });
  return { bars, outside };
}

interface Tick {
  value: number;
  end: boolean;
}

/** The ends as they are, and between them round numbers that stay clear of the ends. */
function tickList(limit: number, height: number): Tick[] {
  const clear = 26 / Math.max(1, height);
  const inner = ticks(limit, Math.max(2, Math.min(8, Math.floor(height / 48))))
    .filter((value) => heightOf(value, limit) > clear && heightOf(value, limit) < 1 - clear)
    .map((value) => ({ value, end: false }));
  return [{ value: limit, end: true }, ...inner, { value: -limit, end: true }];
}

interface Props {
  summary: Summary | null;
  limit: number;
  colours: Colours;
  height: number;
  /** Stands below the scale. */
  children?: ComponentChildren;
}

export function ColourBar({ summary, limit, colours, height, children }: Props) {
  const { bars, outside } = summary && summary.count > 0 ? barsOf(summary, limit) : { bars: [], outside: 0 };
  const about = summary?.exact === false ? "about " : "";
  // The chips stand below and take their room from the bar.
  const chips = [
    outside > 0 ? { key: "outside", text: `${about}${grouped(outside)} beyond`, entry: -1, mark: "" } : null,
    summary && summary.nan > 0
      ? { key: "nan", text: `${grouped(summary.nan)} NaN`, entry: NAN_ENTRY, mark: "×" }
      : null,
    summary && summary.inf > 0
      ? { key: "inf", text: `${grouped(summary.inf)} inf`, entry: POSITIVE_ENTRY, mark: "▲" }
      : null,
    summary?.exact === false ? { key: "sampled", text: "sampled", entry: -1, mark: "" } : null,
  ].filter((chip) => chip !== null);
  const room = Math.max(1, height - chips.length * 22 - 28);
  return (
    <div class="wl-scale">
      <div class="wl-scale-bar" role="img" aria-label={`Colours from ${short(-limit)} to ${short(limit)}`}>
        <div class="wl-scale-colours" style={{ background: gradient(colours, limit) }} />
        <svg class="wl-scale-histogram" viewBox="0 0 100 1000" preserveAspectRatio="none" aria-hidden="true">
          <title>How many cells have which value; lengths are square roots, so that rare values are seen too</title>
          {bars.map(({ y, height: h, share }) => (
            <rect key={y} x="0" y={y * 1000} width={Math.max(2, share * 100)} height={Math.max(1, h * 1000 - 1)} />
          ))}
        </svg>
        {tickList(limit, room).map(({ value, end }) => (
          <span
            key={value}
            class={end ? "wl-tick wl-tick-end" : "wl-tick"}
            style={{
              top: `${heightOf(value, limit) * 100}%`,
              transform: `translateY(${value === limit ? "0" : value === -limit ? "-100%" : "-50%"})`,
            }}
          >
            {short(value)}
          </span>
        ))}
      </div>
      {chips.map(({ key, text, entry, mark }) => (
        <span key={key} class="wl-chip" title={text}>
          {entry >= 0 && (
            <i style={{ background: css(rgb(colours, entry)), color: css(colours.mark) }} aria-hidden="true">
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
