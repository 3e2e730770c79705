/** A chart over places in order: a cursor that follows the pointer and the arrow keys, and says what stands there. */
import { type Signal, useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { chartMove, type LogScale, placeAt, placeX } from "./flow-scale";

/** Room for the numbers of the axis. */
export const GUTTER = 40;
const EDGE = 6;

interface Props {
  name: string;
  count: number;
  /** Of everything that is drawn. */
  height: number;
  /** Where the cursor rests; -1: nowhere. */
  cursor: Signal<number>;
  /** Place in words, for those who hear the page. */
  words(at: number): string;
  /** Two lines above the chart. */
  read(at: number): ComponentChildren;
  pick(at: number): void;
  children(width: number): ComponentChildren;
}

export function Chart({ name, count, height, cursor, words, read, pick, children }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const width = useSignal(0);
  const hover = useSignal(-1);
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const look = (): void => {
      width.value = Math.max(0, element.clientWidth - GUTTER - EDGE);
    };
    const observer = new ResizeObserver(look);
    observer.observe(element);
    look();
    return () => observer.disconnect();
  }, []);
  const inner = width.value;
  const resting = Math.min(cursor.value, count - 1);
  const shown = hover.value >= 0 ? Math.min(hover.value, count - 1) : resting;
  const under = (event: MouseEvent): number => {
    const left = box.current?.getBoundingClientRect().left ?? 0;
    return placeAt(event.clientX - left - GUTTER, count, inner);
  };
  return (
    <div class="wl-chart">
      <div class="wl-chart-read">{read(shown)}</div>
      <div
        ref={box}
        class="wl-chart-box"
        role="slider"
        tabIndex={0}
        aria-label={name}
        aria-orientation="horizontal"
        aria-valuemin={1}
        aria-valuemax={Math.max(1, count)}
        aria-valuenow={Math.max(0, resting) + 1}
        aria-valuetext={resting < 0 ? `${count} places` : words(resting)}
        onPointerMove={(event) => {
          hover.value = under(event);
        }}
        onPointerLeave={() => {
          hover.value = -1;
        }}
        onClick={(event) => {
          cursor.value = under(event);
          pick(cursor.value);
        }}
        onKeyDown={(event) => {
          if (event.ctrlKey || event.metaKey || event.altKey || count === 0) return;
          const next = chartMove(event.key, resting, count);
          if (next !== null) cursor.value = next;
          else if ((event.key === "Enter" || event.key === " ") && resting >= 0) pick(resting);
          else return;
          event.preventDefault();
        }}
      >
        {inner > 0 && (
          <svg
            aria-hidden="true"
            width={inner + GUTTER + EDGE}
            height={height}
            viewBox={`${-GUTTER} 0 ${inner + GUTTER + EDGE} ${height}`}
          >
            {shown >= 0 && (
              <rect
                class="wl-chart-cursor"
                x={placeX(shown, count, inner) - Math.max(2, inner / count) / 2}
                y={0}
                width={Math.max(2, inner / count)}
                height={height}
              />
            )}
            {children(inner)}
          </svg>
        )}
      </div>
    </div>
  );
}

/** Grid and labels of one axis, from `top` on. */
export function Axis({ scale, top, height, width }: { scale: LogScale; top: number; height: number; width: number }) {
  return (
    <g transform={`translate(0 ${top})`}>
      {scale.ticks.map((tick) => {
        const y = Math.round(scale.y(tick) ?? 0) + 0.5;
        return (
          <g key={tick}>
            <path class="wl-chart-grid" d={`M0 ${y}H${width}`} />
            <text x={-6} y={Math.min(height - 1, Math.max(7, y + 3.5))} text-anchor="end">
              {tickText(tick)}
            </text>
          </g>
        );
      })}
      <path class="wl-chart-axis" d={`M.5 0V${height - 0.5}H${width}`} />
    </g>
  );
}

/** Powers of ten. */
const tickText = (tick: number): string =>
  tick > 0.005 && tick < 2000 ? String(Number(tick.toPrecision(1))) : `1e${Math.round(Math.log10(tick))}`;
