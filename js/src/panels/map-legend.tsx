/** What the colours of the map mean. */
import type { GradientRow, Status } from "../kernel/protocol";
import { count } from "./format";
import { shade } from "./map-draw";
import type { MapColour } from "./model-map";
import { StatusSign } from "./sign";
import { type Statistic, statisticText } from "./statistics";

const ORDER: readonly Status[] = ["flowing", "weak", "partial", "zero", "unreached", "frozen", "nonfinite"];

interface Props {
  by: MapColour;
  scale: { low: number; high: number; known: number };
  dark: boolean;
  rows: readonly GradientRow[];
}

export function MapLegend({ by, scale, dark, rows }: Props) {
  return (
    <div class="wl-map-legend wl-dim">
      {by === "picture" ? (
        "Each tile in its own range: blue below zero, red above. 0: all zero. Lines: no values."
      ) : by === "status" ? (
        <Statuses rows={rows} />
      ) : (
        <Ramp by={by} scale={scale} dark={dark} rows={rows} />
      )}
    </div>
  );
}

function Statuses({ rows }: { rows: readonly GradientRow[] }) {
  if (rows.length === 0) return <>Check the gradients first: there is no status yet.</>;
  return (
    <>
      {ORDER.map((status) => {
        const found = rows.filter((row) => row.status === status).length;
        return found === 0 ? null : (
          <span key={status} class="wl-map-key">
            <StatusSign status={status} /> {status} <span class="wl-num">{count(found)}</span>
          </span>
        );
      })}
    </>
  );
}

function Ramp({ by, scale, dark, rows }: Props & { by: Statistic }) {
  if (scale.known === 0) {
    const checked = rows.length > 0;
    if (by === "update" && checked) return <>No step is known: give the Lab an SGD, Adam or AdamW with optimizer=.</>;
    const asks = (by === "gradient" || by === "ratio" || by === "update") && !checked;
    return <>{asks ? "Check the gradients first: there are no norms yet." : "reading…"}</>;
  }
  const stops = [0, 0.25, 0.5, 0.75, 1].map((at) => `rgb(${shade(at, dark).join(" ")})`);
  return (
    <>
      <span class="wl-num">{statisticText(by, scale.low)}</span>
      <span class="wl-ramp" style={{ background: `linear-gradient(to right, ${stops.join(", ")})` }} />
      <span class="wl-num">{statisticText(by, scale.high)}</span>
      <span>{by === "zeros" || by === "mean" ? "" : "log scale. "}Lines: no number.</span>
    </>
  );
}
