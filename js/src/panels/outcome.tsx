/** What a diagnosis or a repair is doing, and what the last repair did: shown wherever a repair can be pressed. */
import { useEffect, useRef } from "preact/hooks";
import type { Repaired } from "../kernel/checkup";
import type { Doctor } from "../state/checkup";
import type { Page } from "../state/view";
import { headline, inForce, outcomeWords } from "./finding-words";
import { reveal } from "./reveal";
import { OutcomeSign } from "./sign";

interface Part {
  page: Page;
  doctor: Doctor;
}

/** How far it is, and the way out. */
export function Doing({ page, doctor }: Part) {
  const { store } = page;
  const progress = store.progress.value;
  if (doctor.waits.value) {
    return (
      <div class="wl-card wl-doing-card" role="status">
        <p>Waits for the end of a training step, then the diagnosis runs.</p>
        <button type="button" class="wl-ghost" onClick={() => void doctor.stop()}>
          Cancel
        </button>
      </div>
    );
  }
  if (!doctor.doing.value) return null;
  const share = progress && progress.total > 0 ? Math.floor((100 * progress.done) / progress.total) : 0;
  return (
    <div class="wl-card wl-doing-card wl-late" role="status">
      <p>
        {progress?.words ?? `${doctor.doing.value} …`} <span class="wl-num">{share} %</span>
      </p>
      <progress aria-label={doctor.doing.value} max={100} value={share} />
      <button type="button" class="wl-ghost" disabled={doctor.ending.value} onClick={() => void doctor.cancel()}>
        {doctor.ending.value ? "Cancelling …" : "Cancel"}
      </button>
    </div>
  );
}

/** What the last repair did, while it is in force. */
export function Outcome({ page, doctor }: Part) {
  const card = useRef<HTMLDivElement>(null);
  const repaired = doctor.repaired.value;
  const entry = inForce(repaired, page.store.lab.value?.history);
  // The button may have been pressed far below.
  useEffect(() => {
    if (card.current) reveal(card.current);
  }, [entry?.id]);
  if (!repaired || !entry) return null;
  const last = page.store.lab.value?.history;
  const isLast = last?.entries[last.position - 1]?.id === entry.id;
  return (
    <div
      ref={card}
      class={`wl-card wl-mended${repaired.helped ? " wl-good" : " wl-warning"}`}
      role="status"
      data-helped={repaired.helped}
    >
      <div class="wl-mended-head">
        <OutcomeSign good={repaired.helped} />
        <b>{outcomeWords(repaired)}</b>
        <span class="wl-grow" />
        <button
          type="button"
          class="wl-ghost wl-icon"
          aria-label="Close the outcome"
          onClick={() => doctor.forgetRepair()}
        >
          ✕
        </button>
      </div>
      <OutcomeList repaired={repaired} />
      {isLast && (
        <div class="wl-finding-acts">
          <button type="button" class="wl-ghost" title={entry.text} onClick={() => void page.actions.undo()}>
            Undo the repair
          </button>
        </div>
      )}
    </div>
  );
}

function OutcomeList({ repaired }: { repaired: Repaired }) {
  return (
    <ul class="wl-mended-list">
      {repaired.findings.map((each) => (
        <li key={`${each.kind} ${each.name} ${each.title}`}>
          <OutcomeSign good={!each.left} />
          <span>
            {headline(each)}
            <span class="wl-dim"> {each.left ? "still found" : each.repair}</span>
          </span>
        </li>
      ))}
    </ul>
  );
}
