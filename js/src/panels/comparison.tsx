/** How the model differs from a snapshot, tensor by tensor; a click shows where. */
import { useRef } from "preact/hooks";
import type { Comparison } from "../state/store";
import type { Page } from "../state/view";
import { count, number, plural } from "./format";
import { kernelGone } from "./kernel-gone";
import { useDialog } from "./use-dialog";

export function ComparisonTable({ page, of }: { page: Page; of: Comparison }) {
  const { store, actions } = page;
  const box = useRef<HTMLDivElement>(null);
  const close = (): void => {
    store.comparison.value = null;
  };
  const onKey = useDialog(box, close);
  const kept = store.lab.value?.snapshots.includes(of.label) ?? false;
  const show = (name: string): void => {
    close();
    // The tensor that is open keeps its selection.
    const view = `diff:${of.label}`;
    void (store.open.value?.name === name ? actions.showView(view) : actions.openTensor(name, view));
  };
  return (
    <div
      ref={box}
      class="wl-help wl-comparison"
      role="dialog"
      aria-label={`Compared with ${of.label}`}
      tabIndex={-1}
      onKeyDown={onKey}
    >
      <header>
        <b>{kept ? `Since ${of.label}` : `Beside ${of.label}`}</b>
        <span class="wl-grow" />
        <span class="wl-dim">{plural(of.equal, "tensor")} alike</span>
        <button type="button" class="wl-ghost" aria-label="Close the comparison" onClick={close}>
          ✕
        </button>
      </header>
      {of.rows.length === 0 ? (
        <p class="wl-hint">Nothing differs.</p>
      ) : (
        <table>
          <thead>
            <tr>
              {["tensor", "cells", "max |Δ|", "mean |Δ|", "rel. l2", "cosine"].map((head) => (
                <th key={head} scope="col">
                  {head}
                </th>
              ))}
              {kept && <th aria-label="Restore" />}
            </tr>
          </thead>
          <tbody>
            {of.rows.map((row) => (
              <tr key={row.name} title={row.note} onClick={() => show(row.name)}>
                <th scope="row">
                  <button type="button" class="wl-plain" title={`Show where ${row.name} differs`}>
                    {row.name}
                  </button>
                </th>
                <td>{row.cells === null ? row.note || "–" : count(row.cells)}</td>
                {[row.max, row.mean, row.relative_l2, row.cosine].map((value, at) => (
                  <td key={at}>{number(value, 3)}</td>
                ))}
                {kept && (
                  <td>
                    {row.cells !== null && row.cells > 0 && (
                      <button
                        type="button"
                        class="wl-ghost"
                        aria-label={`Restore ${row.name}`}
                        disabled={kernelGone(store) !== ""}
                        title={kernelGone(store) || "This tensor as it was then; can be undone"}
                        onClick={async (event) => {
                          event.stopPropagation();
                          await actions.restore(of.label, row.name);
                          await actions.compare(of.label);
                        }}
                      >
                        Restore
                      </button>
                    )}
                  </td>
                )}
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </div>
  );
}
