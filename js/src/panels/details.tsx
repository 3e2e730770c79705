/** What can stand beside the picture: exact cells below it, or the spectrum at its side. */
import type { Page } from "../state/view";
import { CellTable } from "./cell-table";
import { FindBar } from "./find-bar";
import { SpectrumPanel } from "./spectrum-panel";
import { Splitter } from "./splitter";

const FIRST_HEIGHT = 220;

export function Details(page: Page) {
  const { view } = page;
  const close = (
    <button
      type="button"
      class="wl-ghost wl-icon"
      aria-label="Close the details"
      onClick={() => {
        view.details.value = null;
      }}
    >
      ✕
    </button>
  );
  if (view.details.value === "spectrum") {
    return (
      <section class="wl-details wl-section" aria-label="Spectrum">
        <h4>
          Spectrum <span class="wl-grow" />
          {close}
        </h4>
        <SpectrumPanel {...page} />
      </section>
    );
  }
  const { cells } = view.sizes;
  return (
    <section class="wl-details wl-section" aria-label="Cells" style={{ height: `${cells.value ?? FIRST_HEIGHT}px` }}>
      <Splitter
        name="Height of the cells"
        part="cells"
        size={cells}
        first={FIRST_HEIGHT}
        least={110}
        most={640}
        side="behind"
        lies="horizontal"
      />
      <FindBar page={page}>{close}</FindBar>
      <CellTable {...page} />
    </section>
  );
}
