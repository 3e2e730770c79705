/** The verdict: what the last backward pass gave each parameter, and why. */
import { useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useMemo, useRef } from "preact/hooks";
import type { Cause, GradientRow, Gradients as Report, Status } from "../kernel/protocol";
import type { Page } from "../state/view";
import { count, nameTail, number } from "./format";
import { barScale, causesOf, normText, ratioText, rowText, tally } from "./gradient-rows";
import { StatusSign, statusWords } from "./sign";
import { useSight } from "./use-window";

const ROW = 24;
/** Up to here every row is in the page; beyond, those in sight. */
const ALL = 300;

export function Gradients(page: Page) {
  const report = page.store.gradients.value;
  return (
    <section class="wl-section wl-gradients" data-wl="gradients" aria-label="Gradients">
      <h4>
        Gradients
        <span class="wl-grow" />
        {report && report.error === null && <Loss report={report} />}
      </h4>
      <Body page={page} report={report} />
    </section>
  );
}

function Loss({ report }: { report: Report }) {
  const now = report.loss === null ? report.loss_text : number(report.loss);
  return (
    <span class="wl-loss wl-num" title={`Loss ${report.loss_text || now}`}>
      loss {report.loss_before !== null && report.loss_before !== report.loss && `${number(report.loss_before)} → `}
      <b>{now}</b>
    </span>
  );
}

function Body({ page, report }: { page: Page; report: Report | null }) {
  const only = useSignal<Status | null>(null);
  const rows = report?.rows ?? [];
  const counts = useMemo(() => tally(rows), [rows]);
  // A status that the new report lacks must not leave an empty list.
  const filter = counts.some(([status]) => status === only.value) ? only.value : null;
  const shown = useMemo(() => (filter ? rows.filter((row) => row.status === filter) : rows), [rows, filter]);

  if (!report) {
    return (
      <p class="wl-hint">
        No check yet. It runs one backward pass and says what each parameter gets; it leaves no trace in the model.
      </p>
    );
  }
  if (report.error) {
    return (
      <div class="wl-card wl-error" role="note">
        <b>The check could not run</b>
        <p>{report.error.message}</p>
      </div>
    );
  }
  return (
    <>
      {report.revision < page.store.revision.value && (
        <p class="wl-hint wl-synthetic">
          {page.store.working.value.startsWith("checking")
            ? "Checking what the last change did …"
            : `Seen at revision ${report.revision}; the model has changed since.`}
        </p>
      )}
      {report.synthetic !== null && (
        <p class="wl-hint wl-synthetic">{report.synthetic || "Checked with a made-up input."}</p>
      )}
      {counts.length > 1 && (
        <div class="wl-tally">
          {counts.map(([status, many]) => (
            // A checkbox and not a button: it narrows the list, it does nothing to the model.
            <span
              key={status}
              class="wl-tick-chip"
              role="checkbox"
              tabIndex={0}
              aria-checked={filter === status}
              aria-label={`only ${status}: ${many}`}
              title={`Only these: ${statusWords(status)}`}
              onClick={() => {
                only.value = filter === status ? null : status;
              }}
              onKeyDown={(event) => {
                if (event.key !== " " && event.key !== "Enter") return;
                event.preventDefault();
                only.value = filter === status ? null : status;
              }}
            >
              <StatusSign status={status} />
              {count(many)} {status}
            </span>
          ))}
        </div>
      )}
      <Rows page={page} report={report} rows={shown} />
    </>
  );
}

function Rows({ page, report, rows }: { page: Page; report: Report; rows: GradientRow[] }) {
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
  // A cause that opens below the fold would look as if the click did nothing.
  useEffect(() => {
    const list = box.current;
    if (!list || !card.current) return;
    // Not scrollIntoView: it would move the notebook, too.
    const below = card.current.getBoundingClientRect().bottom - list.getBoundingClientRect().bottom;
    if (below > 0) list.scrollTop += Math.min(below, card.current.offsetTop - list.offsetTop - list.scrollTop - ROW);
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
            Show
          </button>
        </p>
      </div>
    );
  }
  return causes.map((cause) => <CauseCard key={`${cause.kind} ${cause.at}`} cause={cause} page={page} />);
}

function CauseCard({ cause, page }: { cause: Cause; page: Page }) {
  const { name, region } = cause;
  async function show(tensor: string): Promise<void> {
    await page.actions.openTensor(tensor);
    if (region !== null) await page.actions.selectText(region);
  }
  return (
    <div class={`wl-card wl-${cause.severity}`} data-kind={cause.kind}>
      <b>{cause.title}</b>
      <p>{cause.text}</p>
      {cause.evidence.length > 0 && (
        <ul class="wl-evidence">
          {cause.evidence.map((line) => (
            <li key={line}>{line}</li>
          ))}
        </ul>
      )}
      {name !== null && (
        <p>
          <button type="button" class="wl-ghost" title={`${name}${region ?? ""}`} onClick={() => void show(name)}>
            Show
          </button>
          <code class="wl-num">
            {name}
            {region ?? ""}
          </code>
        </p>
      )}
    </div>
  );
}
