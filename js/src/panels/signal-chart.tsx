/** The signal through the layers: activations forward and gradients backward as bands, beside what is expected. */
import { useSignal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import type { Diagnosis, Severity } from "../kernel/checkup";
import type { SignalRow } from "../state/checkup";
import { Axis, Chart } from "./chart";
import { aboveZero, barsPath, type LogScale, linePath, logScale, marksOf, placeX } from "./flow-scale";
import { number } from "./format";
import { SEVERITY_WORDS } from "./sign";

const GAP = 20;
/** Two lines: what the bands are, and where the signal dies. */
const TOP = 28;
/** Room for the words of a mark. */
const WORDS = 120;

const root = (value: number | null): number | null => (value === null ? null : Math.sqrt(value));
const title = (row: SignalRow): string => `${row.name} ${row.op}`.trim();

/** The worst finding that lies at a row, above a note. */
export function originsAt(rows: readonly SignalRow[], diagnosis: Diagnosis): (Severity | null)[] {
  const serious = diagnosis.findings.filter((each) => each.severity !== "info");
  return rows.map((row) => {
    const here = serious.filter(
      ({ name, at }) =>
        (row.weight !== null && (name === row.weight || at === row.weight)) ||
        (row.name !== "" && (at === row.name || name === row.name)),
    );
    return here[0]?.severity ?? null;
  });
}

/** From what is typical: a few cells near zero would take the room of all others. */
function scaleOf(
  height: number,
  rows: readonly SignalRow[],
  of: (row: SignalRow) => [number[] | null, number | null, number | null],
): LogScale {
  return logScale(
    rows.flatMap((row) => {
      const [five, square, expected] = of(row);
      return [five?.[3] ?? null, five?.[4] ?? null, root(square), root(expected)];
    }),
    height,
  );
}

interface Props {
  rows: readonly SignalRow[];
  diagnosis: Diagnosis;
  large: boolean;
  open(name: string): void;
}

export function SignalChart({ rows, diagnosis, large, open }: Props) {
  const band = large ? 100 : 88;
  const cursor = useSignal(-1);
  const forward = useMemo(
    () => scaleOf(band, rows, (row) => [row.activation, row.variance, row.expected]),
    [band, rows],
  );
  const backward = useMemo(
    () => scaleOf(band, rows, (row) => [row.gradient, row.gradient_variance, row.expected_gradient]),
    [band, rows],
  );
  const origins = useMemo(() => originsAt(rows, diagnosis), [rows, diagnosis]);
  const says = (at: number): string => {
    const row = rows[at];
    if (!row) return "";
    const expected = row.expected === null ? "" : ` (expected ${number(root(row.expected), 2)})`;
    return `|x| ${number(root(row.variance), 2)}${expected} · |g| ${number(root(row.gradient_variance), 2)}`;
  };
  const wrong = (at: number): string => {
    const origin = origins[at];
    return rows[at]?.note || (origin ? `${SEVERITY_WORDS[origin]} here` : "");
  };
  return (
    <section class="wl-flow-part" aria-label="Signal through the layers">
      <div class="wl-flow-head">
        <h5>Signal through the layers</h5>
        <span class="wl-key">
          <svg width="14" height="10" viewBox="0 0 14 10" aria-hidden="true">
            <path class="wl-expected" d="M2 5h10" />
          </svg>
          expected
        </span>
      </div>
      <Chart
        name="Signal through the layers"
        count={rows.length}
        height={TOP + band + GAP + band + 16}
        cursor={cursor}
        words={(at) => [rows[at] ? title(rows[at]) : "", says(at), wrong(at)].filter(Boolean).join(", ")}
        read={(at) => {
          const row = rows[at];
          if (!row) return <span class="wl-dim">Bars: 50 and 90 % of the cells; line: root mean square.</span>;
          return (
            <>
              <span class="wl-chart-name">
                <bdi dir="ltr">{title(row)}</bdi>
                {wrong(at) && <b class="wl-bad"> {wrong(at)}</b>}
              </span>
              <span class="wl-num wl-dim">{says(at)}</span>
            </>
          );
        }}
        pick={(at) => {
          const weight = rows[at]?.weight;
          if (weight) open(weight);
        }}
      >
        {(width) => (
          <>
            <Bands
              scale={forward}
              top={TOP}
              height={band}
              width={width}
              kind="forward"
              label="|activation| →"
              quantiles={rows.map((row) => row.activation)}
              size={rows.map((row) => root(row.variance))}
              expected={rows.map((row) => root(row.expected))}
              shift={0}
            />
            <Bands
              scale={backward}
              top={TOP + band + GAP}
              height={band}
              width={width}
              kind="backward"
              label="← |gradient|"
              quantiles={rows.map((row) => row.gradient)}
              size={rows.map((row) => root(row.gradient_variance))}
              expected={rows.map((row) => root(row.expected_gradient))}
              // What is expected is that at the layer's input: between it and the one before.
              shift={-0.5}
            />
            {marksOf(
              rows.map((row) => row.note),
              width,
              WORDS,
            ).map(({ at, text }) => {
              const x = placeX(at, rows.length, width);
              const right = x > width * 0.6;
              return (
                <g key={at} class="wl-died">
                  <path class="wl-died-line" d={`M${x} ${TOP}V${TOP + 2 * band + GAP}`} />
                  <path class="wl-died-cross" d={`M${x - 3} ${TOP - 9}l6 6m0-6l-6 6`} />
                  {text && (
                    <text x={right ? x - 7 : x + 7} y={TOP - 3} text-anchor={right ? "end" : "start"}>
                      {text}
                    </text>
                  )}
                </g>
              );
            })}
            {origins.map((severity, at) => {
              const x = placeX(at, rows.length, width);
              const y = TOP + 2 * band + GAP + 2;
              return (
                severity && (
                  <path key={`${at} ${severity}`} class={`wl-origin wl-of-${severity}`} d={`M${x} ${y}l5 9h-10z`}>
                    <title>{`${SEVERITY_WORDS[severity]}: ${rows[at] ? title(rows[at]) : ""}`}</title>
                  </path>
                )
              );
            })}
            <text class="wl-chart-label" x={-6} y={TOP + 2 * band + GAP + 13} text-anchor="end">
              input
            </text>
            <text class="wl-chart-label" x={width} y={TOP + 2 * band + GAP + 13} text-anchor="end">
              loss
            </text>
          </>
        )}
      </Chart>
    </section>
  );
}

interface BandsProps {
  scale: LogScale;
  top: number;
  height: number;
  width: number;
  kind: "forward" | "backward";
  label: string;
  quantiles: (number[] | null)[];
  /** Root mean square, which is what the expected one is compared with. */
  size: (number | null)[];
  expected: (number | null)[];
  /** In places. */
  shift: number;
}

function Bands({ scale, top, height, width, kind, label, quantiles, size, expected, shift }: BandsProps) {
  const of = (k: number): (number | null)[] => quantiles.map((five) => scale.y(five?.[k] ?? null));
  const ys = size.map((value) => scale.y(aboveZero(value)));
  const slot = width / Math.max(1, quantiles.length);
  const half = Math.min(8, Math.max(2, slot * 0.4));
  const ticks = expected
    .map((value, at) => {
      const y = scale.y(value);
      const x = Math.max(half, placeX(at, expected.length, width) + shift * slot);
      return y === null ? "" : `M${(x - half).toFixed(1)} ${y.toFixed(1)}h${(2 * half).toFixed(1)}`;
    })
    .join("");
  return (
    <>
      <Axis scale={scale} top={top} height={height} width={width} />
      <g class={`wl-bands wl-${kind}`} transform={`translate(0 ${top})`}>
        <path class="wl-band-90" d={barsPath(of(4), of(0), width, 0.72)} />
        <path class="wl-band-50" d={barsPath(of(3), of(1), width, 0.72)} />
        <path class="wl-band-line" d={linePath(ys, width)} />
        {size.length <= 40 &&
          ys.map(
            (y, at) =>
              y !== null && <circle key={at} class="wl-band-dot" cx={placeX(at, size.length, width)} cy={y} r="1.75" />,
          )}
        <path class="wl-expected" d={ticks} />
        <text class="wl-chart-label" x={width} y={top === TOP ? -TOP + 10 : -5} text-anchor="end">
          {label}
        </text>
      </g>
    </>
  );
}
