/** The verdict: what the last backward pass gave each parameter, what is wrong with the model, and where the signal goes. */
import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";
import type { Gradients as Report, Status } from "../kernel/protocol";
import { doctorOf } from "../state/checkup";
import type { Page } from "../state/view";
import { Findings } from "./findings";
import { Flow } from "./flow";
import { count, number } from "./format";
import { GradientList } from "./gradient-list";
import { tally } from "./gradient-rows";
import { LastChange } from "./last-change";
import { SeveritySign, StatusSign, statusWords } from "./sign";

export function Gradients(page: Page) {
  const report = page.store.gradients.value;
  const tab = page.view.tab.value;
  // Under the picture every line counts.
  const wide = page.view.width.value === "wide";
  const loss = report && report.error === null && <Loss report={report} />;
  return (
    <section class="wl-section wl-gradients" data-wl="gradients" aria-label="Gradients">
      {wide && (
        <h4>
          Gradients
          <span class="wl-grow" />
          {loss}
        </h4>
      )}
      <Tabs page={page}>{!wide && loss}</Tabs>
      {tab === "rows" && <Body page={page} report={report} />}
      {tab === "findings" && <Findings {...page} />}
      {tab === "flow" && <Flow {...page} />}
    </section>
  );
}

const TABS = [
  ["rows", "Parameters"],
  ["findings", "Findings"],
  ["flow", "Flow"],
] as const;

function Tabs({ page, children }: { page: Page; children: ComponentChildren }) {
  const { view, store } = page;
  const doctor = doctorOf(page);
  const serious = doctor.diagnosis.value?.findings.filter((each) => each.severity !== "info") ?? [];
  const worst = serious[0]?.severity;
  const ready = store.hello.value !== null && store.kernel.value !== "restarted";
  const move = (event: KeyboardEvent): void => {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (step === 0) return;
    event.preventDefault();
    const at = TABS.findIndex(([tab]) => tab === view.tab.value);
    view.tab.value = (TABS[(at + step + TABS.length) % TABS.length] as (typeof TABS)[number])[0];
    const list = event.currentTarget as HTMLElement;
    queueMicrotask(() => list.querySelector<HTMLElement>('[aria-selected="true"]')?.focus());
  };
  return (
    <div class="wl-tabs">
      <div class="wl-tab-list" role="tablist" aria-label="Gradients" onKeyDown={move}>
        {TABS.map(([tab, label]) => (
          <button
            key={tab}
            type="button"
            role="tab"
            aria-selected={view.tab.value === tab}
            tabIndex={view.tab.value === tab ? 0 : -1}
            onClick={() => {
              view.tab.value = tab;
            }}
          >
            {label}
            {tab === "findings" && worst && (
              <span class="wl-tab-count">
                <SeveritySign severity={worst} />
                <span class="wl-num">{serious.length}</span>
              </span>
            )}
          </button>
        ))}
      </div>
      <span class="wl-grow" />
      {children}
      <button
        type="button"
        class="wl-small"
        disabled={!ready || doctor.doing.value !== "" || doctor.waits.value}
        title="What is wrong with the model, why, and how to mend it; changes nothing"
        onClick={() => {
          view.tab.value = "findings";
          void doctor.diagnose();
        }}
      >
        Diagnose
      </button>
    </div>
  );
}

function Loss({ report }: { report: Report }) {
  const now = report.loss === null ? report.loss_text : number(report.loss);
  return (
    <span class="wl-loss wl-num" title={`Loss ${report.loss_text || now}`}>
      <span>loss&nbsp;</span>
      {report.loss_before !== null && report.loss_before !== report.loss && (
        <span>{number(report.loss_before)} →&nbsp;</span>
      )}
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
      <LastChange page={page} report={report} />
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
      <GradientList page={page} report={report} rows={shown} />
    </>
  );
}
