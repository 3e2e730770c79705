/** Search in the open tensor: the largest cell and the next after it, NaN, the one nearest to a value; and cells as text. */
import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import type { FindWhat } from "../kernel/protocol";
import { viewed } from "../state/store";
import type { Page } from "../state/view";
import { plural } from "./format";

const WHATS: readonly [FindWhat, string][] = [
  ["largest", "largest"],
  ["smallest", "smallest"],
  ["magnitude", "largest |w|"],
  ["nan", "NaN"],
  ["inf", "inf"],
  ["nearest", "nearest to"],
];

export function FindBar({ page, children }: { page: Page; children: ComponentChildren }) {
  const { store, actions } = page;
  const what = useSignal<FindWhat>("largest");
  const value = useSignal("0");
  const said = useSignal("");
  /** The search that `store.go` is the answer of: another one begins anew. */
  const search = useSignal("");

  async function find(back: boolean): Promise<void> {
    const open = store.open.value;
    if (!open) return;
    const asked = [open.name, open.view, what.value, what.value === "nearest" ? value.value : ""].join("\n");
    const after = search.value === asked ? store.go.value : null;
    const fields = {
      name: open.name,
      what: what.value,
      ...viewed(open.view),
      ...(what.value === "nearest" ? { value: value.value } : {}),
      ...(after ? { after } : {}),
      ...(back ? { back } : {}),
    };
    const answer = await actions.ask("searching", () => actions.request("find", fields));
    if (!answer || store.open.value?.name !== open.name) return;
    const { cell, text } = answer.reply;
    search.value = asked;
    if (!cell) {
      said.value = after ? "no further cell" : "there is none";
      return;
    }
    said.value = `[${cell.join(", ")}] = ${text}`;
    actions.selectAxes(cell.map((at) => [at, at + 1, 1]));
    store.go.value = cell;
  }

  async function copy(form: "tsv" | "torch"): Promise<void> {
    const open = store.open.value;
    if (!open) return;
    const { selection, where, refused } = store;
    if (refused.value) {
      // What does not fit must not become "the whole tensor".
      const message = `Region ${refused.value} does not fit this tensor. Correct it or clear it, then copy.`;
      store.alert.value = { message };
      return;
    }
    const { name } = open;
    const listed = selection.value?.cells;
    const region = selection.value?.region.text ?? "[...]";
    const target = listed
      ? { name, cells: true as const }
      : { name, region, ...(where.value && { where: where.value }) };
    const fields = { ...target, form, ...viewed(open.view) };
    const answer = await actions.ask("copying", () =>
      actions.request("values", fields, { buffers: listed ? [listed] : [] }),
    );
    if (!answer) return;
    try {
      await navigator.clipboard.writeText(answer.reply.text);
      said.value = `${plural(answer.reply.cells, "cell")} copied`;
    } catch {
      store.alert.value = { message: "The browser does not let this page copy. Use lab[...].value in a cell instead." };
    }
  }

  return (
    <div class="wl-find">
      <select
        aria-label="Find"
        value={what.value}
        onChange={(event) => {
          what.value = event.currentTarget.value as FindWhat;
        }}
      >
        {WHATS.map(([key, words]) => (
          <option key={key} value={key}>
            {words}
          </option>
        ))}
      </select>
      {what.value === "nearest" && (
        <input
          type="text"
          class="wl-num"
          aria-label="Value to find"
          value={value.value}
          onInput={(event) => {
            value.value = event.currentTarget.value;
          }}
          onKeyDown={(event) => event.key === "Enter" && void find(event.shiftKey)}
        />
      )}
      <span class="wl-group">
        <button type="button" aria-label="Previous cell" title="The cell before" onClick={() => void find(true)}>
          ‹
        </button>
        <button
          type="button"
          aria-label="Next cell"
          title="The first, then the next cell"
          onClick={() => void find(false)}
        >
          ›
        </button>
      </span>
      <span class="wl-num wl-found" role="status" aria-label="Found cell">
        {said.value}
      </span>
      <span class="wl-grow" />
      <button
        type="button"
        class="wl-ghost"
        title="The selected cells, for a spreadsheet"
        onClick={() => void copy("tsv")}
      >
        Copy TSV
      </button>
      <button
        type="button"
        class="wl-ghost"
        title="The selected cells as a torch expression"
        onClick={() => void copy("torch")}
      >
        Copy torch
      </button>
      {children}
    </div>
  );
}
