/** What the last change did, above the rows: what moved since the check before, and the causes of trouble, new ones first. */
import { useSignal } from "@preact/signals";
import type { Cause, Gradients } from "../kernel/protocol";
import { doctorOf } from "../state/checkup";
import type { Page } from "../state/view";
import { FindingCard, toldCause } from "./finding-card";
import { inForce } from "./finding-words";
import { plural } from "./format";
import { changeWords, movedStatuses, troubles } from "./gradient-rows";
import { Doing, Outcome } from "./outcome";
import { StatusSign } from "./sign";

/** So many causes are told at once; one edit seldom makes more. */
const FEW = 2;

export function LastChange({ page, report }: { page: Page; report: Gradients }) {
  const open = useSignal<ReadonlySet<string>>(new Set());
  const all = useSignal(false);
  const causes = troubles(report);
  const moved = movedStatuses(report.rows);
  const words = changeWords(report);
  const doctor = doctorOf(page);
  const mends = doctor.doing.value === "repairing";
  const mended = inForce(doctor.repaired.value, page.store.lab.value?.history) !== null;
  if (causes.length === 0 && moved.length === 0 && words === "" && !mends && !mended) return null;
  const shown = all.value ? causes : causes.slice(0, FEW);
  const findings = doctor.diagnosis.value?.findings ?? [];
  const key = ({ kind, at }: Cause): string => `${kind} ${at}`;
  return (
    <div class="wl-last-change" role="group" aria-label="What the last change did">
      {mends && <Doing page={page} doctor={doctor} />}
      {mended && <Outcome page={page} doctor={doctor} />}
      {(moved.length > 0 || words !== "") && (
        <p class="wl-moved wl-dim" title="Since the check before">
          {moved.map(({ was, status, many }) => (
            <span key={`${was} ${status}`} class="wl-num">
              {many} {was} → <StatusSign status={status} /> {status}
            </span>
          ))}
          {words !== "" && <span class="wl-num">{words}</span>}
        </p>
      )}
      {shown.map((cause) => (
        <FindingCard
          key={key(cause)}
          page={page}
          told={toldCause(cause, findings)}
          brief
          fold={{
            open: open.value.has(key(cause)),
            toggle() {
              const next = new Set(open.value);
              if (!next.delete(key(cause))) next.add(key(cause));
              open.value = next;
            },
          }}
        />
      ))}
      {causes.length > shown.length && (
        <button
          type="button"
          class="wl-ghost wl-notes"
          onClick={() => {
            all.value = true;
          }}
        >
          {plural(causes.length - shown.length, "more cause")}
        </button>
      )}
    </div>
  );
}
