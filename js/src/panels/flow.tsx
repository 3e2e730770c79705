/** Charts of depth: norms of every parameter, and the signal through the layers once the model was diagnosed. */
import { useEffect } from "preact/hooks";
import { doctorOf } from "../state/checkup";
import type { Page } from "../state/view";
import { DepthChart } from "./depth-chart";
import { SignalChart } from "./signal-chart";

export function Flow(page: Page) {
  return (
    <div class="wl-flow wl-scroll" role="tabpanel" aria-label="Flow" data-wl="flow">
      <Charts page={page} large={false} />
    </div>
  );
}

/** The same over the picture, with room for hundreds of layers. */
export function FlowStage(page: Page) {
  return (
    <div class="wl-map wl-flow wl-scroll" role="region" aria-label="Flow">
      <Charts page={page} large />
    </div>
  );
}

function Charts({ page, large }: { page: Page; large: boolean }) {
  const doctor = doctorOf(page);
  useEffect(() => doctor.watch(), [doctor]);
  const report = page.store.gradients.value;
  const found = doctor.diagnosis.value;
  const rows = doctor.rows.value;
  const old = found !== null && found.revision < page.store.revision.value && doctor.doing.value === "";
  const open = (name: string): void => {
    page.view.stage.value = "picture";
    if (name !== page.store.open.value?.name) void page.actions.openTensor(name);
  };
  return (
    <>
      {report && report.rows.length > 0 ? (
        <DepthChart rows={report.rows} large={large} open={open} />
      ) : (
        <p class="wl-hint">
          {report?.error ? report.error.message : "No check yet. Check gradients to see norms by depth."}
        </p>
      )}
      {found && rows.length > 0 ? (
        <SignalChart rows={rows} diagnosis={found} large={large} open={open} />
      ) : (
        <p class="wl-hint">
          {found?.failure
            ? `No signal: ${found.failure}`
            : "The signal through the layers is measured by a diagnosis, which runs the model once forward and backward."}
        </p>
      )}
      {old && (
        <p class="wl-hint wl-late">The signal is that of revision {found.revision}; the model has changed since.</p>
      )}
    </>
  );
}
