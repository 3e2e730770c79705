/** The right side: gradients, and what is kept of the past. A tab under the picture where the page is narrow. */
import { useEffect } from "preact/hooks";
import { checkFirst } from "../state/first-check";
import type { Page } from "../state/view";
import { Gradients } from "./gradients";
import { History } from "./history";
import { Holds, Snapshots } from "./keepsakes";

export function Verdict(page: Page) {
  const { store, actions, view } = page;
  useEffect(() => checkFirst(store, actions), [store, actions]);
  const wide = view.width.value === "wide";
  // Under the edit bar stands the window that is open: it gets its room.
  const open = wide || view.verdict.value || view.dialog.value !== null;
  return (
    <aside class={`wl-side wl-right${open ? "" : " wl-folded"}`} aria-label="Gradients and history">
      {!wide && (
        <button
          type="button"
          class="wl-tab"
          aria-expanded={open}
          onClick={() => {
            view.verdict.value = !view.verdict.value;
          }}
        >
          <svg class={`wl-fold${open ? " wl-open" : ""}`} viewBox="0 0 12 12" aria-hidden="true">
            <path d="M4.5 3 8 6l-3.5 3z" fill="currentColor" />
          </svg>
          Gradients and history
        </button>
      )}
      {open && <Gradients {...page} />}
      {open && (
        <div class="wl-past">
          <History {...page} />
          <Holds {...page} />
          <Snapshots {...page} />
        </div>
      )}
    </aside>
  );
}
