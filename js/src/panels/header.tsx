/** Which model this is, and the check. */
import type { ModelInfo } from "../kernel/protocol";
import type { Page } from "../state/view";
import { plural } from "./format";
import { kernelGone } from "./kernel-gone";

const STAGES = [
  ["picture", "Picture", "One tensor (M)"],
  ["map", "Map", "Every tensor as a small tile (M)"],
  ["flow", "Flow", "Norms by depth, and the signal through the layers"],
] as const;

export function Header({ store, actions, view }: Page) {
  const model = store.hello.value?.model;
  const gone = kernelGone(store);
  const ready = model !== undefined && !gone;
  const slim = view.width.value === "slim";
  return (
    <header class="wl-header">
      {slim && (
        <button
          type="button"
          class="wl-icon"
          aria-label="Model tree"
          aria-expanded={view.drawer.value}
          onClick={() => {
            view.drawer.value = !view.drawer.value;
          }}
        >
          ☰
        </button>
      )}
      <b>WeightLab</b>
      {model && <span class="wl-model">{model.title}</span>}
      {model && (
        <span class="wl-meta wl-num wl-dim" title={facts(model).join(" · ")}>
          {facts(model).map((fact, at) => (
            <span key={fact}>
              {at > 0 && "· "}
              {fact}
            </span>
          ))}
        </span>
      )}
      <span class="wl-grow" />
      <span class="wl-group" role="group" aria-label="Stage">
        {STAGES.map(([stage, label, title]) => (
          <button
            key={stage}
            type="button"
            disabled={!model}
            aria-pressed={view.stage.value === stage}
            title={title}
            onClick={() => {
              view.stage.value = stage;
            }}
          >
            {label}
          </button>
        ))}
      </span>
      <label class="wl-check" title={gone || "Check the gradients after each edit"}>
        <input
          type="checkbox"
          disabled={!ready}
          checked={store.lab.value?.auto_check ?? false}
          onChange={(event) => void actions.setAutoCheck(event.currentTarget.checked)}
        />
        <span>check after each edit</span>
      </label>
      <button
        type="button"
        disabled={!ready}
        title={
          gone ||
          (model?.batch === false
            ? "No batch was given: a made-up input is used"
            : "One backward pass; leaves no trace")
        }
        onClick={() => {
          view.tab.value = "rows";
          void actions.check();
        }}
      >
        Check gradients
      </button>
      <button
        type="button"
        class="wl-icon"
        aria-label="Fill the window"
        title={view.full.value ? "Back to the notebook (Esc)" : "Fill the window (W)"}
        aria-pressed={view.full.value}
        onClick={() => {
          view.full.value = !view.full.value;
        }}
      >
        <svg class="wl-sign" viewBox="0 0 12 12" aria-hidden="true">
          <path d="M1 4.5V1h3.5M7.5 1H11v3.5M11 7.5V11H7.5M4.5 11H1V7.5" fill="none" stroke="currentColor" />
        </svg>
      </button>
      <button
        type="button"
        class="wl-icon"
        aria-label="Help"
        title="Keys (?)"
        aria-expanded={view.help.value}
        onClick={() => {
          view.help.value = !view.help.value;
        }}
      >
        ?
      </button>
    </header>
  );
}

function facts(model: ModelInfo): string[] {
  return [
    plural(model.parameters, "parameter"),
    plural(model.tensors, "tensor"),
    model.devices.join(", "),
    model.dtypes.join(", "),
    model.training ? "train mode" : "eval mode",
  ].filter((fact) => fact !== "");
}
