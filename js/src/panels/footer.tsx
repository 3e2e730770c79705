/** State of the kernel in words (P9), and what undo costs. */
import type { ProgressPush } from "../kernel/protocol";
import { assertNever } from "../state/assert-never";
import type { KernelState } from "../state/store";
import type { Page } from "../state/view";
import { bytes, plural } from "./format";

export function Footer({ store, actions }: Page) {
  const state = store.kernel.value;
  const queued = store.queued.value;
  const lab = store.lab.value;
  const working = store.working.value;
  const progress = state === "restarted" ? null : store.progress.value;
  const sign = queued > 0 && state !== "restarted" ? "queued" : state;
  return (
    <footer class="wl-footer">
      <span class={`wl-state wl-is-${sign}`}>
        <svg class="wl-sign" viewBox="0 0 12 12" aria-hidden="true">
          {sign === "ready" && <circle cx="6" cy="6" r="4" fill="currentColor" />}
          {(sign === "busy" || sign === "connecting") && (
            <circle
              cx="6"
              cy="6"
              r="3.5"
              fill="none"
              stroke="currentColor"
              stroke-width="1.5"
              stroke-dasharray="5 2.3"
            />
          )}
          {sign === "queued" && <path d="M2.5 3h7M2.5 6h7M2.5 9h4" stroke="currentColor" stroke-width="1.5" />}
          {sign === "restarted" && <path d="m3 3 6 6m0-6-6 6" stroke="currentColor" stroke-width="1.5" />}
        </svg>
        <span data-wl="status" role="status">
          {kernelWords(state, queued)}
        </span>
      </span>
      <span class="wl-num">revision {store.revision.value}</span>
      {progress ? (
        <ProgressBar progress={progress} onCancel={() => void actions.cancel()} />
      ) : (
        working && <span class="wl-working">{working}…</span>
      )}
      <span class="wl-grow" />
      {lab && (
        <span class="wl-num wl-undo-size" title="Memory that undo may use before old entries move to a file">
          undo {bytes(lab.undo_bytes)} of {bytes(lab.undo_limit)}
        </span>
      )}
      <button
        type="button"
        class="wl-ghost"
        disabled={!lab || state === "restarted"}
        title="Read the model again: after code changed its layers"
        onClick={() => void actions.refresh()}
      >
        Refresh
      </button>
    </footer>
  );
}

/** How far a long request is; said in words too, since a bar that moves is no text. */
function ProgressBar({ progress, onCancel }: { progress: ProgressPush; onCancel: () => void }) {
  const { done, total, words } = progress;
  const share = total > 0 ? Math.min(100, Math.floor((100 * done) / total)) : 0;
  return (
    <span class="wl-progress">
      <span
        class="wl-track"
        role="progressbar"
        aria-label={words}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={share}
      >
        <i style={{ width: `${share}%` }} />
      </span>
      <span class="wl-doing">{words}</span>
      <span class="wl-num">{share} %</span>
      <button type="button" class="wl-ghost" aria-label={`Cancel ${words}`} onClick={onCancel}>
        Cancel
      </button>
    </span>
  );
}

export function kernelWords(state: KernelState, queued: number): string {
  if (state !== "restarted" && queued > 0) return `${plural(queued, "edit")} queued`;
  switch (state) {
    case "connecting":
      return "connecting to the kernel";
    case "ready":
      return "kernel ready";
    case "busy":
      return "kernel busy";
    case "restarted":
      return "kernel restarted: run the cell again";
    default:
      return assertNever(state);
  }
}
