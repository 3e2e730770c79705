/** Norms by depth: of each parameter, of its gradient, and how far a step moves it, on logarithmic axes. */
import { useSignal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import type { GradientRow } from "../kernel/protocol";
import { Axis, Chart } from "./chart";
import { aboveZero, linePath, logScale, placeX } from "./flow-scale";
import { number } from "./format";
import { normText } from "./gradient-rows";
import { StatusSign, statusShape, statusWords } from "./sign";

const GAP = 20;
/** From here on signs would lie on one another: only those of gradients that do not flow are drawn. */
const SIGNS = 80;

/** How far a step moves a parameter, as a share of it; without a known optimizer the gradient's share. */
export function ratios(rows: readonly GradientRow[]): {
  label: string;
  short: string;
  values: (number | null)[];
} {
  const steps = rows.some((row) => row.step !== null);
  const of = (row: GradientRow): number | null => {
    const above = steps ? row.step : row.norm;
    return above === null || !row.weight ? null : above / row.weight;
  };
  return {
    label: steps ? "update / weight" : "gradient / weight",
    short: steps ? "|Δw|/|w|" : "|g|/|w|",
    values: rows.map(of),
  };
}

interface Props {
  rows: readonly GradientRow[];
  large: boolean;
  open(name: string): void;
}

export function DepthChart({ rows, large, open }: Props) {
  const tall = large ? 124 : 116;
  const low = large ? 44 : 48;
  const cursor = useSignal(-1);
  const ratio = useMemo(() => ratios(rows), [rows]);
  const norms = useMemo(
    () => logScale([...rows.map((row) => row.norm), ...rows.map((row) => row.weight)], tall),
    [rows, tall],
  );
  const shares = useMemo(() => logScale(ratio.values, low), [ratio, low]);
  const says = (at: number): string => {
    const row = rows[at];
    if (!row) return "";
    return `|w| ${number(row.weight, 3)} · |g| ${normText(row)} · ${ratio.short} ${number(ratio.values[at] ?? null, 2)}`;
  };
  return (
    <section class="wl-flow-part" aria-label="Norms by depth">
      <div class="wl-flow-head">
        <h5>Norms by depth</h5>
        <Key kind="weight" />
        <Key kind="gradient" />
      </div>
      <Chart
        name="Norms by depth"
        count={rows.length}
        height={tall + GAP + low}
        cursor={cursor}
        words={(at) => `${rows[at]?.name}: ${says(at)}, ${rows[at] ? statusWords(rows[at].status) : ""}`}
        read={(at) => {
          const row = rows[at];
          if (!row) return <span class="wl-dim">Point at a parameter; a click opens it.</span>;
          return (
            <>
              <span class="wl-chart-name">
                <StatusSign status={row.status} />
                <bdi dir="ltr">{row.name}</bdi>
              </span>
              <span class="wl-num wl-dim">{says(at)}</span>
            </>
          );
        }}
        pick={(at) => {
          const name = rows[at]?.name;
          if (name !== undefined) open(name);
        }}
      >
        {(width) => (
          <>
            <Axis scale={norms} top={0} height={tall} width={width} />
            <path
              class="wl-line-weight"
              d={linePath(
                rows.map((row) => norms.y(aboveZero(row.weight))),
                width,
              )}
            />
            {rows.length <= SIGNS &&
              rows.map((row, at) => {
                const y = norms.y(row.weight);
                const x = placeX(at, rows.length, width);
                return y !== null && <path key={row.name} class="wl-dot-weight" d={`M${x - 2} ${y - 2}h4v4h-4z`} />;
              })}
            <path
              class="wl-line-gradient"
              d={linePath(
                rows.map((row) => norms.y(aboveZero(row.norm))),
                width,
              )}
            />
            {rows.map((row, at) => {
              if (rows.length > SIGNS && row.status === "flowing") return null;
              // No gradient at all: on the floor, where its sign says why.
              const y = norms.y(row.norm) ?? tall;
              return (
                <g
                  key={row.name}
                  class={`wl-dot wl-${row.status}`}
                  transform={`translate(${placeX(at, rows.length, width) - 4.5} ${y - 4.5}) scale(.75)`}
                >
                  {statusShape(row.status)}
                </g>
              );
            })}
            <g transform={`translate(0 ${tall + GAP})`}>
              <Axis scale={shares} top={0} height={low} width={width} />
              {ratio.values.map((value, at) => {
                const y = shares.y(value);
                const x = placeX(at, rows.length, width);
                const name = rows[at]?.name ?? "";
                return y !== null && <path key={name} class="wl-dot-ratio" d={`M${x} ${y - 3}l3 3l-3 3l-3-3z`} />;
              })}
              <text class="wl-chart-label" x={width} y={-4} text-anchor="end">
                {ratio.label}
              </text>
            </g>
          </>
        )}
      </Chart>
    </section>
  );
}

function Key({ kind }: { kind: "weight" | "gradient" }) {
  return (
    <span class="wl-key">
      <svg width="14" height="10" viewBox="0 0 14 10" aria-hidden="true">
        <path class={`wl-line-${kind}`} d="M0 5h14" />
        {kind === "weight" ? (
          <path class="wl-dot-weight" d="M5 3h4v4h-4z" />
        ) : (
          <circle class="wl-dot wl-flowing" cx="7" cy="5" r="3" fill="currentColor" />
        )}
      </svg>
      {kind}
    </span>
  );
}
