/** Rows of the gradient panel: one per parameter, those in sight; a click opens the causes of one below it. */
import { useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useMemo, useRef } from "preact/hooks";
import type { GradientRow, Gradients as Report } from "../kernel/protocol";
import { doctorOf } from "../state/checkup";
import type { Page } from "../state/view";
import { FindingCard, toldCause } from "./finding-card";
import { nameTail } from "./format";
import { barScale, causesOf, normText, ratioText, rowText } from "./gradient-rows";
import { reveal } from "./reveal";
import { StatusSign, statusWords } from "./sign";
import { useSight } from "./use-window";

const ROW = 24;
/** Up to here every row is in the page; beyond, those in sight. */
const ALL = 300;

export function GradientList({ page, report, rows }: { page: Page; report: Report; rows: GradientRow[] }) {
  const box = useRef<HTMLDivElement>(null);
  const card = useRef<HTMLDivElement>(null);
  const opened = useSignal<string | null>(null);
  /** The one row that Tab reaches; arrows go on from there. */
  const reached = useSignal<string | null>(null);
  const cardHeight = useSignal(0);
  const sight = useSight(box);
  const scale = useMemo(() => barScale(report.rows), [report]);
  const open = rows.findIndex((row) => row.name === opened.value);

  useLayoutEffect(() => {
    cardHeight.value = card.current?.offsetHeight ?? 0;
  });
  useEffect(() => {
    if (card.current) reveal(card.current, { above: ROW });
  }, [opened.value]);

  let start = 0;
  let end = rows.length;
  if (rows.length > ALL) {
    const row = (y: number): number => {
      const past = open >= 0 && y > (open + 1) * ROW ? Math.min(cardHeight.value, y - (open + 1) * ROW) : 0;
      return Math.floor((y - past) / ROW);
    };
    start = Math.max(0, Math.min(rows.length - 1, row(sight.top) - 10));
    end = Math.min(rows.length, row(sight.top + sight.height) + 12);
  }
  const above = start * ROW + (open >= 0 && open < start ? cardHeight.value : 0);
  const below = (rows.length - end) * ROW + (open >= end ? cardHeight.value : 0);

  function onKey(event: KeyboardEvent): void {
    const target = event.target as HTMLElement;
    if (target.getAttribute("role") !== "row") return;
    const name = target.dataset["name"] ?? "";
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      opened.value = opened.value === name ? null : name;
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      const all = [...(box.current?.querySelectorAll<HTMLElement>('[role="row"]') ?? [])];
      all[all.indexOf(target) + (event.key === "ArrowDown" ? 1 : -1)]?.focus();
    }
  }

  const stop = rows.slice(start, end).find((row) => row.name === reached.value)?.name ?? rows[start]?.name;

  return (
    <div
      ref={box}
      class="wl-scroll"
      role="treegrid"
      aria-label="Gradient of each parameter"
      aria-rowcount={rows.length}
      onKeyDown={onKey}
    >
      <div style={{ height: `${above}px` }} role="presentation" />
      {rows.slice(start, end).map((row, offset) => (
        <RowAndCause
          key={row.name}
          row={row}
          index={start + offset}
          open={row.name === opened.value}
          stop={row.name === stop}
          onReach={() => {
            reached.value = row.name;
          }}
          bar={scale(row.norm)}
          cardRef={card}
          page={page}
          report={report}
          onPick={() => {
            opened.value = opened.value === row.name ? null : row.name;
          }}
        />
      ))}
      <div style={{ height: `${below}px` }} role="presentation" />
    </div>
  );
}

interface RowProps {
  row: GradientRow;
  index: number;
  open: boolean;
  stop: boolean;
  bar: number;
  cardRef: { current: HTMLDivElement | null };
  page: Page;
  report: Report;
  onPick(): void;
  onReach(): void;
}

function RowAndCause({ row, index, open, stop, bar, cardRef, page, report, onPick, onReach }: RowProps) {
  const ratio = ratioText(row);
  const changed = row.was !== null && row.was !== row.status;
  return (
    <>
      <div
        role="row"
        class={`wl-gradient${open ? " wl-open" : ""}${changed ? " wl-changed" : ""}`}
        tabIndex={stop ? 0 : -1}
        onFocus={onReach}
        data-name={row.name}
        data-status={row.status}
        aria-rowindex={index + 1}
        aria-expanded={open}
        title={`${row.name}\n${statusWords(row.status)}${changed ? ` (was ${row.was})` : ""}\n${rowText(row)}`}
        onClick={onPick}
      >
        <span role="gridcell" class="wl-cell-sign" aria-label={row.status}>
          <StatusSign status={row.status} />
        </span>
        <span role="gridcell" class="wl-name">
          <bdi dir="ltr">{nameTail(row.name)}</bdi>
        </span>
        <span role="gridcell" class="wl-norm-bar">
          {ratio ? <span class="wl-ratio wl-num">{ratio}</span> : null}
          <i style={{ width: `${(bar * 100).toFixed(1)}%` }} />
        </span>
        <span role="gridcell" class="wl-norm wl-num">
          {normText(row)}
        </span>
      </div>
      {open && (
        <div ref={cardRef} class="wl-causes">
          <Causes page={page} row={row} report={report} />
        </div>
      )}
    </>
  );
}

function Causes({ page, row, report }: { page: Page; row: GradientRow; report: Report }) {
  const causes = causesOf(report, row.name);
  if (causes.length === 0) {
    return (
      <div class="wl-card wl-info">
        <b>
          {row.name}: {statusWords(row.status)}
        </b>
        <p>{rowText(row)}</p>
        <p>
          <button type="button" class="wl-ghost" onClick={() => void page.actions.openTensor(row.name)}>
            Show me
          </button>
        </p>
      </div>
    );
  }
  const findings = doctorOf(page).diagnosis.value?.findings ?? [];
  return causes.map((cause) => (
    <FindingCard key={`${cause.kind} ${cause.at}`} page={page} told={toldCause(cause, findings)} />
  ));
}
