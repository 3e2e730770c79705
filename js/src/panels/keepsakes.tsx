/** What is kept beside the history: holds in force, and snapshots to compare with and go back to. */
import { useSignal } from "@preact/signals";
import type { Hold } from "../kernel/protocol";
import type { Actions } from "../state/actions";
import { cellCount } from "../state/region-text";
import type { Page } from "../state/view";
import { count } from "./format";
import { kernelGone } from "./kernel-gone";

export function Holds({ store, actions }: Page) {
  const holds = store.lab.value?.holds ?? [];
  const gone = kernelGone(store);
  if (holds.length === 0) return null;
  return (
    <section class="wl-section wl-kept">
      <h4>
        Holds <span class="wl-num">{holds.length}</span>
      </h4>
      {/* biome-ignore lint/a11y/noRedundantRoles: Safari forgets that a list without bullets is one. */}
      <ul role="list" aria-label="Holds" data-wl="holds">
        {holds.map((hold) => (
          <li key={hold.id} class="wl-kept-row" title={hold.text}>
            <button
              type="button"
              class="wl-plain wl-text"
              aria-label={`Show hold ${hold.id}`}
              disabled={gone !== ""}
              title={gone || hold.text}
              onClick={() => void showHeld({ store, actions }, hold)}
            >
              {hold.text}
            </button>
            <span class="wl-num">{count(hold.cells)}</span>
            <button
              type="button"
              class="wl-ghost"
              aria-label={`Release hold ${hold.id}`}
              disabled={gone !== ""}
              title={gone || "No longer held through optimizer steps; can be undone"}
              onClick={() => void actions.release(hold.id)}
            >
              Release
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** The tensor with what is held in it, and the held cells selected. */
async function showHeld({ store, actions }: Pick<Page, "store" | "actions">, hold: Hold): Promise<void> {
  if (store.open.value?.name === hold.name) await actions.showView("held");
  else await actions.openTensor(hold.name, "held");
  const shown = (): boolean => store.open.value?.name === hold.name;
  if (!shown()) return;
  if (cellCount(hold.axes) === hold.cells) return actions.selectAxes(hold.axes);
  const answer = await actions.ask("reading the hold", () => actions.request("held", { hold: hold.id }));
  if (!answer || !shown()) return;
  await actions.selectText("");
  const { buffer, reply } = answer;
  const cells = Array.from({ length: buffer.byteLength / 8 }, (_, at) => buffer.getFloat64(at * 8, true));
  // Of very many cells only the first are told: the selection would not be the hold.
  if (!reply.truncated) actions.selectCells(Float64Array.from(cells), "add");
}

export function Snapshots({ store, actions }: Page) {
  const label = useSignal("");
  const labels = store.lab.value?.snapshots ?? [];
  const offers = store.lab.value?.offers ?? [];
  const again = labels.includes(label.value.trim());
  const gone = kernelGone(store);
  const ready = label.value.trim() !== "" && store.lab.value !== null && !gone;
  return (
    <section class="wl-section wl-kept">
      <form
        class="wl-head"
        onSubmit={async (event) => {
          event.preventDefault();
          if (ready && (await actions.snapshot(label.value.trim()))) label.value = "";
        }}
      >
        <h4>Snapshots</h4>
        <input
          type="text"
          aria-label="Snapshot label"
          placeholder="label"
          spellcheck={false}
          autocomplete="off"
          value={label.value}
          onInput={(event) => {
            label.value = event.currentTarget.value;
          }}
        />
        <button
          type="submit"
          class="wl-ghost wl-take"
          disabled={!ready}
          title={gone || (again ? "The snapshot of this name is replaced" : "Remember all values under this label")}
        >
          {again ? "Take again" : "Take"}
        </button>
      </form>
      <Kept
        name="Snapshots"
        labels={labels}
        act="Restore"
        means="Every tensor as it was then; can be undone"
        onAct={(label) => void actions.restore(label)}
        gone={gone}
        actions={actions}
      />
      <Kept
        name="Other models"
        labels={offers}
        what="model"
        act="Transfer…"
        means="Copy or average all that fits by name and shape"
        onAct={(label) => void actions.transfer(label, "", true)}
        gone={gone}
        actions={actions}
      />
    </section>
  );
}

interface KeptProps {
  name: string;
  labels: string[];
  what?: string;
  act: string;
  means: string;
  onAct: (label: string) => void;
  /** Why nothing can be asked; empty while the kernel is there. */
  gone: string;
  actions: Actions;
}

/** Labels to compare the model with, each with the one thing that can be done with it besides. */
function Kept({ name, labels, what, act, means, onAct, gone, actions }: KeptProps) {
  if (labels.length === 0) return null;
  return (
    // biome-ignore lint/a11y/noRedundantRoles: Safari forgets that a list without bullets is one.
    <ul role="list" aria-label={name}>
      {labels.map((label) => (
        <li key={label} class="wl-kept-row">
          <span class="wl-text" title={what ? `${label}: another model, offered by lab.offer` : label}>
            {label} {what && <span class="wl-dim">{what}</span>}
          </span>
          {[
            { text: "Compare", title: "Tensor by tensor", run: () => void actions.compare(label) },
            { text: act, title: means, run: () => onAct(label) },
            { text: "✕", title: "", name: `Drop ${label}`, run: () => void actions.drop(label) },
          ].map(({ text, title, name, run }) => (
            <button
              key={text}
              type="button"
              class="wl-ghost"
              {...(name ? { "aria-label": name } : {})}
              disabled={gone !== ""}
              title={gone || title}
              onClick={run}
            >
              {text}
            </button>
          ))}
        </li>
      ))}
    </ul>
  );
}
