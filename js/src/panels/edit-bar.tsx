/** Below the picture: what can be done to the selected cells, and the way back. */
import { useEffect, useRef } from "preact/hooks";
import type { FormName, Page } from "../state/view";
import { CodeLine, Moments } from "./code-line";
import { Dialog } from "./dialogs";
import { kernelGone } from "./kernel-gone";
import { Menu } from "./menu";
import { oneWindow } from "./windows";

const FORMS: readonly [FormName, string, string][] = [
  ["fill", "Fill…", "Set every selected cell to one value"],
  ["row", "Set row…", "Give a row its values"],
  ["clamp", "Clamp…", "Limit the selected cells to a range"],
  ["scale", "Scale…", "Multiply the selected cells"],
  ["init", "Reinitialize…", "Draw the selected cells anew"],
];
const MORE: readonly [FormName, string][] = [
  ["copy-from", "Copy from…"],
  ["average", "Average with…"],
  ["add", "Add…"],
  ["subtract", "Subtract…"],
  ["divide", "Divide…"],
  ["negate", "Negate…"],
  ["absolute", "Absolute…"],
  ["round", "Round…"],
  ["sign", "Sign…"],
  ["normal", "Normal…"],
  ["uniform", "Uniform…"],
  ["prune", "Prune…"],
  ["quantize", "Quantize…"],
  ["permute", "Permute…"],
  ["train", "Freeze, train…"],
];
const HOLDS: readonly [FormName, string][] = [
  ["hold", "Keep values…"],
  ["hold-clamp", "Inside bounds…"],
  ["hold-sign", "Keep sign…"],
  ["hold-rule", "By a rule…"],
];

export function EditBar(page: Page) {
  const { store, actions, view } = page;
  const bar = useRef<HTMLDivElement>(null);
  useEffect(() => oneWindow(page), [store, view]);
  const tensors = store.hello.value?.tensors;
  const name = store.open.value?.name;
  const at = name !== undefined && tensors ? tensors.name.indexOf(name) : -1;
  const gone = kernelGone(store);
  const refused =
    at >= 0 && tensors && !tensors.editable[at] ? tensors.reason[at] || "This tensor cannot be edited." : "";
  const why = gone || refused;
  const off = at < 0 || why !== "";
  const history = store.lab.value?.history;
  const canUndo = !gone && (history?.position ?? 0) > 0;
  const canRedo = !gone && history ? history.position < history.entries.length : false;
  const shape = tensors?.shape[at] ?? [];
  const start = store.selection.value?.region.axes[0]?.[0] ?? 0;
  const lab = store.lab.value;
  const sources = [...(lab?.offers ?? []), ...(lab?.snapshots ?? [])];
  const context = { shape, row: String(start), sources, tensor: name ?? "" };
  const open_window = view.dialog.value;
  const form = open_window === "save" || open_window === "script" ? null : open_window;
  const open = (dialog: FormName): void => {
    actions.dismiss();
    view.dialog.value = form === dialog ? null : dialog;
  };
  const items = (list: readonly [FormName, string][]) =>
    list.map(([dialog, label]) => ({ label, run: () => open(dialog) }));

  return (
    <div class="wl-edit" ref={bar}>
      {form && !off && <Dialog key={form} page={page} name={form} context={context} />}
      <div class="wl-bar" role="toolbar" aria-label="Edit">
        <button
          type="button"
          class="wl-main"
          disabled={off}
          title={why || "Set the selected cells to zero"}
          onClick={() => void actions.edit({ edit: "zero_", args: {} })}
        >
          Zero
        </button>
        {FORMS.map(([dialog, label, title]) => (
          <button
            key={dialog}
            type="button"
            disabled={off}
            title={why || title}
            aria-haspopup="dialog"
            aria-expanded={form === dialog}
            onClick={() => open(dialog)}
          >
            {label}
          </button>
        ))}
        <span class="wl-back">
          <Menu
            text="Hold"
            title={why || "Protect the selected cells from the optimizer"}
            off={off}
            up
            items={items(HOLDS)}
          />
          <Menu
            text="More…"
            title={why || "Further operations"}
            off={off}
            up
            items={[
              {
                label: "Repeat the last edit (R)",
                off: store.last.value === null,
                run: () => void actions.repeat(),
              },
              ...items(MORE),
            ]}
          />
        </span>
        <span class="wl-grow" />
        {view.room.value === "tight" && <Moments page={page} />}
        <span class="wl-back">
          <button type="button" disabled={!canUndo} title={gone || "Undo (Ctrl+Z)"} onClick={() => void actions.undo()}>
            Undo
          </button>
          <button
            type="button"
            disabled={!canRedo}
            title={gone || "Redo (Ctrl+Shift+Z)"}
            onClick={() => void actions.redo()}
          >
            Redo
          </button>
        </span>
      </div>
      <CodeLine page={page} refused={refused} />
    </div>
  );
}
