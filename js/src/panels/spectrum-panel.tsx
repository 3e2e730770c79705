/** Singular values of the open tensor on a log scale, and the ranks that are read off them. */
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { Spectrum } from "../kernel/protocol";
import { viewed } from "../state/store";
import type { Page } from "../state/view";
import { number } from "./format";

const WIDTH = 220;
const HEIGHT = 120;
const AGAIN = 200;
/** Values below this share of the largest are rounding, and no part of the plot. */
const FLOOR = 1e-6;

export function SpectrumPanel({ store, actions }: Page) {
  const found = useSignal<Spectrum | null>(null);
  const share = useSignal(0);
  const error = useSignal("");
  const stopped = useSignal(false);
  const { name = "", view = "value" } = store.open.value ?? {};
  const revision = store.revision.value;

  useEffect(() => {
    if (!name || stopped.value) return;
    const ended = new AbortController();
    const { signal } = ended;
    error.value = "";
    share.value = 0;
    const ask = async (): Promise<void> => {
      while (!signal.aborted) {
        const { reply } = await actions.request("spectrum", { name, ...viewed(view) }, { signal });
        share.value = reply.share;
        if (reply.spectrum) {
          found.value = reply.spectrum;
          return;
        }
        await new Promise((resolve) => setTimeout(resolve, AGAIN));
      }
    };
    ask().catch((reason: Error) => {
      if (reason.name === "AbortError") return;
      found.value = null;
      error.value = reason.message;
    });
    return () => ended.abort();
  }, [name, view, revision, stopped.value]);
  useEffect(() => {
    found.value = null;
    stopped.value = false;
    return () => {
      // Nobody looks any more.
      if (name) actions.request("spectrum", { name, ...viewed(view), stop: true }).catch(() => {});
    };
  }, [name, view]);

  if (error.value) return <p class="wl-hint">{error.value}</p>;
  const seen = found.value;
  if (!seen) {
    return stopped.value ? (
      <p class="wl-hint">
        Stopped.{" "}
        <button
          type="button"
          class="wl-ghost"
          onClick={() => {
            stopped.value = false;
          }}
        >
          Compute
        </button>
      </p>
    ) : (
      <div class="wl-hint wl-computing">
        <progress aria-label="Singular values" max={1} value={share.value} />
        <button
          type="button"
          class="wl-ghost"
          onClick={() => {
            stopped.value = true;
            actions.request("spectrum", { name, ...viewed(view), stop: true }).catch(() => {});
          }}
        >
          Stop
        </button>
      </div>
    );
  }
  const about = seen.exact ? "" : "≈ ";
  return (
    <div class="wl-spectrum">
      <Plot of={seen} />
      <dl>
        <Fact term="effective rank" title="exp of the entropy of the normalised values (Roy and Vetterli 2007)">
          {about}
          {number(seen.effective_rank)}
        </Fact>
        <Fact term="stable rank" title="‖A‖F² / ‖A‖₂²">
          {about}
          {number(seen.stable_rank)}
        </Fact>
        <Fact term="largest">
          {about}
          {number(seen.values[0] ?? null)}
        </Fact>
        <Fact term="above the edge" title="Values larger than those of a random matrix of this size and mean square">
          {seen.above_edge}
        </Fact>
        <Fact term="matrix">{seen.matrix.join(" × ")}</Fact>
      </dl>
      {!seen.exact && (
        <p class="wl-hint">
          <span class="wl-sampled">randomised</span> The largest {seen.values.length} values; ranks are estimates.
        </p>
      )}
    </div>
  );
}

function Fact({ term, title, children }: { term: string; title?: string; children: preact.ComponentChildren }) {
  return (
    <div title={title}>
      <dt>{term}</dt>
      <dd class="wl-num">{children}</dd>
    </div>
  );
}

function Plot({ of }: { of: Spectrum }) {
  const { values, edge } = of;
  const high = Math.max(values[0] ?? 0, edge);
  const shown = values.filter((value) => value > high * FLOOR);
  if (shown.length === 0) return <p class="wl-hint">All values are 0.</p>;
  const low = Math.min(shown.at(-1) as number, edge);
  const [top, bottom] = [Math.log10(high) + 0.05, Math.log10(low) - 0.05];
  const y = (value: number): number => ((top - Math.log10(value)) / (top - bottom)) * HEIGHT;
  const x = (at: number): number => ((at + 0.5) / values.length) * WIDTH;
  const path = shown.map((value, at) => `${at === 0 ? "M" : "L"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const decades: number[] = [];
  for (let power = Math.ceil(bottom); power <= top; power += 1) decades.push(10 ** power);
  // Less than a decade: its ends.
  if (decades.length < 2) decades.splice(0, decades.length, high, low);
  const words = `${values.length} singular values from ${number(values[0] ?? null)} to ${number(values.at(-1) ?? null)}`;
  return (
    <svg class="wl-plot" viewBox={`-34 -6 ${WIDTH + 40} ${HEIGHT + 24}`} role="img" aria-label={words}>
      {decades.map((value) => (
        <g key={value}>
          <path class="wl-plot-grid" d={`M0 ${y(value)}h${WIDTH}`} />
          <text x={-4} y={y(value) + 3} text-anchor="end">
            {number(value, 2)}
          </text>
        </g>
      ))}
      <path class="wl-plot-axis" d={`M0 0V${HEIGHT}H${WIDTH}`} />
      {edge > 0 && (
        <path class="wl-plot-edge" d={`M0 ${y(edge)}h${WIDTH}`}>
          <title>edge of a random matrix: {number(edge)}</title>
        </path>
      )}
      {shown.length === 1 ? (
        <circle class="wl-plot-dot" cx={x(0)} cy={y(high)} r="2.5" />
      ) : (
        <path class="wl-plot-line" d={path} />
      )}
      <text x={0} y={HEIGHT + 14}>
        1
      </text>
      <text x={WIDTH} y={HEIGHT + 14} text-anchor="end">
        {values.length}
      </text>
    </svg>
  );
}
