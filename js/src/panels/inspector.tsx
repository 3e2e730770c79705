/** The title over the picture: which tensor, and its numbers. */
import type { Summary, TensorColumns } from "../kernel/protocol";
import { canPeek } from "../state/store";
import type { Page } from "../state/view";
import { Axes } from "./axes";
import { count, labelledShape, number } from "./format";
import { viewsOf, viewWords } from "./views";

export function Inspector(page: Page) {
  const { store } = page;
  const open = store.open.value;
  const tensors = store.hello.value?.tensors;
  if (!open || !tensors) return null;
  const at = tensors.name.indexOf(open.name);
  return (
    <>
      <div class="wl-title">
        <span class="wl-heading">
          <h3 title={open.name}>
            <bdi dir="ltr">{open.name}</bdi>
          </h3>
          <span class="wl-num wl-dim">{labelledShape(tensors.shape[at] ?? [], open.layout?.labels ?? [])}</span>
          <span class="wl-num wl-dim">{place(tensors, at)}</span>
          {open.about && <span class="wl-dim wl-about">{open.about}</span>}
        </span>
        <span class="wl-num wl-dim wl-stats">
          {open.summary ? <Statistics summary={open.summary} /> : store.missing.value ? "no values" : "reading…"}
        </span>
        <Look {...page} />
        <Beside {...page} />
      </div>
      <Axes {...page} />
    </>
  );
}

/** What stands beside the picture. */
function Beside({ view: { details } }: Page) {
  return (
    <span class="wl-beside">
      {(["cells", "spectrum"] as const).map((what) => (
        <button
          key={what}
          type="button"
          class="wl-ghost"
          aria-pressed={details.value === what}
          title={what === "cells" ? "Exact values, and search" : "Singular values and ranks"}
          onClick={() => {
            details.value = details.value === what ? null : what;
          }}
        >
          {what === "cells" ? "Cells" : "Spectrum"}
        </button>
      ))}
    </span>
  );
}

/** What of the tensor is shown, and a look back. */
function Look({ store, actions, view: { second } }: Page) {
  const open = store.open.value;
  const views = viewsOf(store);
  const back = canPeek(store);
  return (
    <span class="wl-look">
      <button
        type="button"
        class="wl-ghost"
        aria-pressed={store.peek.value}
        disabled={!back}
        title="The tensor as it was before its last change (hold O)"
        onClick={() => {
          store.peek.value = !store.peek.value;
        }}
      >
        Before
      </button>
      <select
        aria-label="View"
        title={open?.about ? `What of the tensor is shown: ${open.about}` : "What of the tensor is shown"}
        value={open?.view}
        onChange={async (event) => {
          const select = event.currentTarget;
          await actions.showView(select.value);
          // Refused: the choice goes back to what is shown.
          select.value = store.open.value?.view ?? "value";
        }}
      >
        {views.map((view) => (
          <option key={view} value={view}>
            {viewWords(view)}
          </option>
        ))}
      </select>
      <select
        aria-label="Beside"
        title="Another view of the tensor in a second picture, seen from the same place"
        value={second.value ?? ""}
        onChange={(event) => {
          second.value = event.currentTarget.value || null;
        }}
      >
        <option value="">{second.value === null ? "beside…" : "nothing beside"}</option>
        {[...new Set([...views, ...(second.value === null ? [] : [second.value])])].map((view) => (
          <option key={view} value={view}>
            {view === second.value ? `beside: ${viewWords(view)}` : viewWords(view)}
          </option>
        ))}
      </select>
    </span>
  );
}

function place(tensors: TensorColumns, at: number): string {
  const words = [tensors.dtype[at] ?? "", tensors.device[at] ?? ""];
  const kind = tensors.kind[at];
  if (kind !== "parameter" && kind !== undefined) words.unshift(kind);
  else if (tensors.requires_grad[at] === false) words.unshift("frozen");
  return words.join(" · ");
}

function Statistics({ summary }: { summary: Summary }) {
  const { min, max } = summary;
  const largest = min === null || max === null ? null : Math.max(Math.abs(min), Math.abs(max));
  const parts = [`mean ${number(summary.mean)}`, `std ${number(summary.std)}`, `max |w| ${number(largest)}`];
  const about = summary.exact ? "" : "about ";
  if (summary.zero > 0) parts.push(`${about}${count(summary.zero)} ${summary.zero === 1 ? "zero" : "zeros"}`);
  return (
    <>
      {/* First: at the end of the line they would be cut. */}
      {summary.nan > 0 && <b class="wl-bad">{count(summary.nan)} NaN · </b>}
      {summary.inf > 0 && <b class="wl-bad">{count(summary.inf)} inf · </b>}
      <span title={parts.join(" · ")}>{parts.join(" · ")}</span>
      {!summary.exact && (
        <span class="wl-sampled" title={`From ${count(summary.sampled)} of ${count(summary.count)} cells`}>
          sampled
        </span>
      )}
    </>
  );
}
