/** What fits another model by name and shape: the table first, then the copy or the average as one entry. */
import { useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";
import type { TransferRow } from "../kernel/protocol";
import type { Transferred } from "../state/store";
import type { Page } from "../state/view";
import { plural } from "./format";
import { kernelGone } from "./kernel-gone";
import { useDialog } from "./use-dialog";

export function TransferTable({ page, of }: { page: Page; of: Transferred }) {
  const { store, actions } = page;
  const box = useRef<HTMLDivElement>(null);
  const weight = useSignal("1");
  const busy = useSignal(false);
  /** The weight that the kernel refused. */
  const refused = useSignal<string | null>(null);
  const gone = kernelGone(store);
  const close = (): void => {
    store.transfer.value = null;
  };
  const onKey = useDialog(box, close);
  const many = of.rows.filter((row) => row.status === "copied").length;
  const left = of.rows.filter((row) => row.status === "left").length;
  const averages = Number(weight.value) !== 1;
  const error = store.alert.value?.message;

  async function apply(): Promise<void> {
    if (busy.value) return;
    busy.value = true;
    await actions.transfer(of.label, weight.value.trim(), false);
    busy.value = false;
  }

  return (
    <div
      ref={box}
      class="wl-help wl-comparison"
      role="dialog"
      aria-label={`Transfer from ${of.label}`}
      tabIndex={-1}
      onKeyDown={onKey}
    >
      <header>
        <b>Transfer from {of.label}</b>
        <span class="wl-grow" />
        <span class="wl-dim" aria-live="polite">
          {plural(many, "tensor")} {of.done ? (averages ? "averaged" : "copied") : many === 1 ? "fits" : "fit"}, {left}{" "}
          left
        </span>
        <button type="button" class="wl-ghost" aria-label="Close the transfer" onClick={close}>
          ✕
        </button>
      </header>
      <table>
        <thead>
          <tr>
            <th scope="col">tensor</th>
            <th scope="col">what happens</th>
          </tr>
        </thead>
        <tbody>
          {of.rows.map((row) => (
            <tr
              key={row.name}
              onClick={() => {
                close();
                if (store.open.value?.name !== row.name) void actions.openTensor(row.name);
              }}
            >
              <th scope="row">
                <button type="button" class="wl-plain" title={`Open ${row.name}`}>
                  {row.name}
                </button>
              </th>
              <td class={row.status === "left" ? "wl-unfit" : ""}>{words(row, of.done, averages)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {error && (
        <p class="wl-dialog-error" role="alert">
          {error}
        </p>
      )}
      <form
        class="wl-go"
        novalidate
        onSubmit={(event) => {
          event.preventDefault();
          void apply();
        }}
      >
        <label class="wl-field" title="1 copies the other values; 0.5 gives the average of both models">
          <span>Weight</span>
          <input
            class="wl-num wl-short"
            type="text"
            aria-label="Weight"
            spellcheck={false}
            autocomplete="off"
            value={weight.value}
            onInput={(event) => {
              weight.value = event.currentTarget.value;
            }}
            onChange={async () => {
              const typed = weight.value;
              refused.value = (await actions.transfer(of.label, typed.trim(), true)) ? null : typed;
            }}
          />
        </label>
        <span class="wl-dim">1 copies, 0.5 averages</span>
        <span class="wl-grow" />
        <button type="button" onClick={close}>
          {of.done ? "Close" : "Cancel"}
        </button>
        <button
          type="submit"
          class="wl-main"
          disabled={weight.value.trim() === "" || weight.value === refused.value || gone !== ""}
          title={gone}
        >
          Apply
        </button>
      </form>
    </div>
  );
}

function words({ name, source, status, note }: TransferRow, done: boolean, averages: boolean): string {
  if (status === "left") return `left: ${note}`;
  if (status === "equal") return "equal already";
  const what = averages ? (done ? "averaged" : "average") : done ? "copied" : "copy";
  return source === name ? what : `${what}, from ${source}`;
}
