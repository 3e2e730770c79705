/** One sign per status: its shape says as much as its colour (P7). */
import type { Severity } from "../kernel/checkup";
import type { Kind, Status } from "../kernel/protocol";
import { assertNever } from "../state/assert-never";

export function statusWords(status: Status): string {
  switch (status) {
    case "flowing":
      return "gradient flows";
    case "weak":
      return "gradient is weak";
    case "partial":
      return "some units get exactly zero";
    case "zero":
      return "gradient is zero";
    case "unreached":
      return "the loss does not reach it";
    case "frozen":
      return "frozen: requires_grad is False";
    case "nonfinite":
      return "gradient is not finite";
    default:
      return assertNever(status);
  }
}

export function StatusSign({ status }: { status: Status }) {
  return (
    <svg class={`wl-sign wl-${status}`} viewBox="0 0 12 12" aria-hidden="true">
      {statusShape(status)}
    </svg>
  );
}

/** In a square of 12, for charts, too. */
export function statusShape(status: Status) {
  switch (status) {
    case "flowing":
      return <circle cx="6" cy="6" r="5" fill="currentColor" />;
    case "weak":
      return <circle cx="6" cy="6" r="2.5" fill="currentColor" />;
    case "partial":
      return (
        <>
          <circle cx="6" cy="6" r="4.25" fill="none" stroke="currentColor" stroke-width="1.5" />
          <path d="M6 1.75a4.25 4.25 0 0 0 0 8.5z" fill="currentColor" />
        </>
      );
    case "zero":
      return <circle cx="6" cy="6" r="4.25" fill="none" stroke="currentColor" stroke-width="1.5" />;
    case "unreached":
      return (
        <>
          <circle cx="6" cy="6" r="4.25" fill="none" stroke="currentColor" stroke-width="1.5" />
          <path d="M3 9 9 3" stroke="currentColor" stroke-width="1.5" />
        </>
      );
    case "frozen":
      return <path d="M6 1 11 6 6 11 1 6z" fill="currentColor" />;
    case "nonfinite":
      return (
        <>
          <path d="M6 .75 11.5 11H.5z" fill="currentColor" />
          <path d="M6 4.25v3.25M6 8.75v1" stroke="var(--wl-bg)" stroke-width="1.25" />
        </>
      );
    default:
      return assertNever(status);
  }
}

/** Before a check, and for tensors that have no gradient. */
export function KindSign({ kind }: { kind: Kind }) {
  return (
    <svg class="wl-sign wl-kind" viewBox="0 0 12 12" aria-hidden="true">
      {kind === "parameter" && <circle cx="6" cy="6" r="1.75" fill="currentColor" />}
      {kind === "buffer" && <path d="M2.5 2.5h7v7h-7z" fill="none" stroke="currentColor" />}
      {kind === "computed" && (
        <path
          d="M8.5 2.2C6.6 1.4 6.2 2.8 6 4.4L5.2 9c-.2 1.3-.9 1.7-2 1.2M3.6 5.2h4.4"
          fill="none"
          stroke="currentColor"
        />
      )}
    </svg>
  );
}

export const SEVERITY_WORDS: Record<Severity, string> = { error: "error", warning: "warning", info: "note" };

/** An octagon, a triangle, a disc. */
export function SeveritySign({ severity }: { severity: Severity }) {
  return (
    <svg class={`wl-sign wl-of-${severity}`} viewBox="0 0 12 12" aria-hidden="true">
      {severity === "error" && <path d="M3.6.5h4.8l3.1 3.1v4.8l-3.1 3.1H3.6L.5 8.4V3.6z" fill="currentColor" />}
      {severity === "warning" && <path d="M6 .75 11.5 11H.5z" fill="currentColor" />}
      {severity === "info" && <circle cx="6" cy="6" r="5.25" fill="currentColor" />}
      {severity === "info" ? (
        <path d="M6 5.25v3.5M6 3v1.25" stroke="var(--wl-bg)" stroke-width="1.4" />
      ) : (
        <path d="M6 3.75v3M6 8.25v1.25" stroke="var(--wl-bg)" stroke-width="1.4" />
      )}
    </svg>
  );
}

/** A tick for what helped, a cross for what did not. */
export function OutcomeSign({ good }: { good: boolean }) {
  return (
    <svg class={`wl-sign ${good ? "wl-flowing" : "wl-zero"}`} viewBox="0 0 12 12" aria-hidden="true">
      <path
        d={good ? "M2 6.5 4.75 9.25 10 3" : "M3 3l6 6M9 3 3 9"}
        fill="none"
        stroke="currentColor"
        stroke-width="1.75"
      />
    </svg>
  );
}
