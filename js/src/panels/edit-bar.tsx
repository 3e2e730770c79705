/** Below the picture: what can be done to the selected cells, and the way back. */
import { useRef } from "preact/hooks";
import type { DialogName, Page } from "../state/view";
import { CodeLine } from "./code-line";
import { Dialog } from "./dialogs";

const FORMS: readonly [DialogName, string, string][] = [
  ["fill", "Fill…", "Set every selected cell to one value"],
  ["row", "Set row…", "Give a row its values"],
  ["clamp", "Clamp…", "Limit the selected cells to a range"],
  ["scale", "Scale…", "Multiply the selected cells"],
  ["init", "Reinitialize…", "Draw the selected cells anew"],
];

export function EditBar(page: Page) {
  const { store, actions, view } = page;
  const bar = useRef<HTMLDivElement>(null);
  const tensors = store.hello.value?.tensors;
  const name = store.open.value?.name;
  const at = name !== undefined && tensors ? tensors.name.indexOf(name) : -1;
  const refused =
    at >= 0 && tensors && !tensors.editable[at] ? tensors.reason[at] || "This tensor cannot be edited." : "";
  const off = at < 0 || refused !== "" || store.kernel.value === "restarted";
  const history = store.lab.value?.history;
  const canUndo = (history?.position ?? 0) > 0;
  const canRedo = history ? history.position < history.entries.length : false;
  const shape = tensors?.shape[at] ?? [];
  const start = store.selection.value?.region.axes[0]?.[0] ?? 0;

  return (
    <div class="wl-edit" ref={bar}>
      {view.dialog.value && !off && (
        <Dialog key={view.dialog.value} page={page} name={view.dialog.value} shape={shape} row={String(start)} />
      )}
      <div class="wl-bar" role="toolbar" aria-label="Edit">
        <button
          type="button"
          class="wl-main"
          disabled={off}
          title={refused || "Set the selected cells to zero"}
          onClick={() => void actions.edit({ edit: "zero_", args: {} })}
        >
          Zero
        </button>
        {FORMS.map(([form, label, title]) => (
          <button
            key={form}
            type="button"
            disabled={off}
            title={refused || title}
            aria-haspopup="dialog"
            aria-expanded={view.dialog.value === form}
            onClick={() => {
              actions.dismiss();
              view.dialog.value = view.dialog.value === form ? null : form;
            }}
          >
            {label}
          </button>
        ))}
        <span class="wl-grow" />
        <span class="wl-back">
          <button type="button" disabled={!canUndo} title="Undo (Ctrl+Z)" onClick={() => void actions.undo()}>
            Undo
          </button>
          <button type="button" disabled={!canRedo} title="Redo (Ctrl+Shift+Z)" onClick={() => void actions.redo()}>
            Redo
          </button>
        </span>
      </div>
      <CodeLine page={page} refused={refused} />
    </div>
  );
}
