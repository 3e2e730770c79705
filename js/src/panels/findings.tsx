/** The diagnosis: every state it can be in, and its findings as cards. */
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { type Doctor, doctorOf } from "../state/checkup";
import type { Page } from "../state/view";
import { FindingCard, toldFinding } from "./finding-card";
import { inForce, severityTally } from "./finding-words";
import { Doing, Outcome } from "./outcome";
import { OutcomeSign } from "./sign";

const FEW_NOTES = 3;

export function Findings(page: Page) {
  const doctor = doctorOf(page);
  useEffect(() => doctor.watch(), [doctor]);
  const found = doctor.diagnosis.value;
  const serious = found?.findings.filter((each) => each.severity !== "info") ?? [];
  const mendable = serious.filter((each) => each.repair !== null).length;
  return (
    <div
      class="wl-findings wl-scroll"
      role="tabpanel"
      aria-label="Findings"
      data-wl="findings"
      onClickCapture={(event) => {
        // What is repaired gives its place to the next card: the second click of a double click is not meant for that one.
        if (event.detail > 1) event.stopPropagation();
      }}
    >
      {serious.length > 0 && (
        <div class="wl-findings-head">
          <span class="wl-num wl-dim" aria-live="polite">
            {severityTally(serious)}
          </span>
          <span class="wl-grow" />
          {mendable > 0 && (
            <button
              type="button"
              disabled={doctor.doing.value !== ""}
              title={`Every repair there is, as one entry in the history (${mendable})`}
              onClick={() => void doctor.repairAll()}
            >
              Repair all
            </button>
          )}
        </div>
      )}
      <Doing page={page} doctor={doctor} />
      <Outcome page={page} doctor={doctor} />
      <State page={page} doctor={doctor} />
      <Cards page={page} doctor={doctor} />
    </div>
  );
}

interface Part {
  page: Page;
  doctor: Doctor;
}

/** Why there are no cards, or how far they can be trusted. */
function State({ page, doctor }: Part) {
  const found = doctor.diagnosis.value;
  const { store } = page;
  if (doctor.trouble.value) {
    return (
      <div class="wl-card wl-error" role="note">
        <b>The diagnosis could not run</b>
        <p>{doctor.trouble.value.message}</p>
      </div>
    );
  }
  if (!found) {
    if (doctor.doing.value || doctor.waits.value) return null;
    return (
      <p class="wl-hint">
        No diagnosis yet. It looks at gradients, initialisation, structure and the optimizer, names each origin once
        with what follows from it, and changes nothing.
      </p>
    );
  }
  const serious = found.findings.some((each) => each.severity !== "info");
  // While a repair is being made its check is still to come.
  const old = found.revision < store.revision.value && doctor.doing.value === "";
  return (
    <>
      {old && (
        <p class="wl-hint wl-late">
          Seen at revision {found.revision}; the model has changed since.{" "}
          <button
            type="button"
            class="wl-ghost"
            disabled={doctor.doing.value !== ""}
            onClick={() => void doctor.diagnose()}
          >
            Diagnose again
          </button>
        </p>
      )}
      {found.failure && (
        <div class="wl-card wl-error" role="note">
          <b>The model could not be run</b>
          <p>{found.failure}</p>
          <p class="wl-dim">
            {found.findings.length > 0
              ? "What follows was read from structure and weights alone."
              : "Structure and weights alone show nothing wrong. Mend what was raised, then diagnose again."}
          </p>
        </div>
      )}
      {!found.failure && found.synthetic !== null && (
        <p class="wl-hint wl-synthetic">
          {found.synthetic}. Give Lab(model, batch=(x, y), loss=…) to diagnose with your own data.
        </p>
      )}
      {!serious && !found.failure && (
        <div class={`wl-card wl-healthy${old ? " wl-old" : ""}`} role="note">
          <OutcomeSign good />
          <div>
            <b>{old ? `Healthy at revision ${found.revision}` : "Healthy"}</b>
            <p>
              Nothing above a note was found: signal, gradients, initialisation and structure are as they should be.
            </p>
          </div>
        </div>
      )}
    </>
  );
}

function Cards({ page, doctor }: Part) {
  const findings = doctor.diagnosis.value?.findings ?? [];
  const key = (at: number): string => {
    const { kind, name, at: place, title } = findings[at] as (typeof findings)[number];
    return `${kind} ${name} ${place} ${title}`;
  };
  const open = useSignal<ReadonlySet<string>>(new Set());
  /** Whether notes are listed; null: as they are wanted. */
  const wanted = useSignal<boolean | null>(null);
  const number = doctor.diagnosis.value?.number;
  const serious = findings.filter((each) => each.severity !== "info").length;
  // Where nothing is wrong a few notes are the answer: why a row is weak, or gets nothing.
  const alone = serious === 0 && findings.length > 0 && findings.length <= FEW_NOTES;
  const notes = wanted.value ?? alone;
  const mended = inForce(doctor.repaired.value, page.store.lab.value?.history) !== null;
  const first = serious > 0 || (alone && !mended) ? key(0) : null;
  // The worst one is what one came for; what the user opened stays open.
  useEffect(() => {
    if (first && ![...open.value].some((each) => findings.some((_, at) => key(at) === each)))
      open.value = new Set([first]);
  }, [number]);
  const shown = notes ? findings.length : serious;
  return (
    <>
      {findings.slice(0, shown).map((finding, at) => (
        <FindingCard
          key={key(at)}
          page={page}
          told={toldFinding(finding)}
          fold={{
            open: open.value.has(key(at)),
            toggle() {
              const next = new Set(open.value);
              if (!next.delete(key(at))) next.add(key(at));
              open.value = next;
            },
          }}
        />
      ))}
      {findings.length > serious && (
        <button
          type="button"
          class="wl-ghost wl-notes"
          aria-expanded={notes}
          onClick={() => {
            wanted.value = !notes;
          }}
        >
          {notes ? "Hide notes" : `${findings.length - serious} ${findings.length - serious === 1 ? "note" : "notes"}`}
        </button>
      )}
      {(doctor.diagnosis.value?.left ?? 0) > 0 && (
        <p class="wl-hint">{doctor.diagnosis.value?.left} more findings: lab.diagnose() lists them.</p>
      )}
    </>
  );
}
