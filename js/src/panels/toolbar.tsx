/** Above the picture: what the pointer does, which cells are meant, how they are drawn. */
import { useSignal, useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { BrushMode, Tool } from "../state/store";
import type { Page } from "../state/view";
import { numel } from "./format";
import { Menu } from "./menu";
import { meantCells, TargetChoice } from "./target";
import { watchTarget } from "./watch-target";

const TOOLS: readonly [Tool, string, string][] = [
  ["pan", "Pan", "Drag moves the picture (P)"],
  ["select", "Select", "Drag selects a region (S)"],
  ["brush", "Brush", "Drag paints cells (B)"],
];

export function Toolbar(page: Page) {
  const { store } = page;
  const open = store.open.value;
  useEffect(() => watchTarget(page), [store, page.actions]);
  const brush = store.tool.value === "brush";
  const roomy = brush ? store.brush_mode.value === "select" : store.where.value !== null;
  // Where there is no room for one row, the second is the region's: whatever the tool, so that the picture does not jump.
  const room = page.view.room.value;
  const told = page.view.dialog.value === null;
  const below = room === "tight" || room === "cramped";
  return (
    <div
      class={`wl-bar wl-toolbar wl-with-${store.tool.value}${roomy ? " wl-roomy" : ""}`}
      role="toolbar"
      aria-label="Picture"
    >
      <div class="wl-group">
        {TOOLS.map(([tool, name, title]) => (
          <button
            key={tool}
            type="button"
            title={title}
            disabled={!open}
            aria-pressed={store.tool.value === tool}
            onClick={() => {
              store.tool.value = tool;
            }}
          >
            {name}
          </button>
        ))}
      </div>
      {brush && <Brush {...page} />}
      {!brush && below && <TargetChoice store={store} told={told} />}
      <RegionBox {...page} />
      {!brush && !below && <TargetChoice store={store} told={told} />}
      <span class="wl-grow" />
      <Menu
        text="⋯"
        name="Other cells"
        title="The whole tensor, the rest, one further"
        kind="wl-icon"
        off={!open}
        items={[
          { label: "Whole tensor (Esc)", run: () => void page.actions.selectText("") },
          { label: "Invert (I)", run: () => void page.actions.reselect("invert") },
          { label: "Wider by one (G)", run: () => void page.actions.reselect("grow") },
        ]}
      />
    </div>
  );
}

function Brush({ store }: Page) {
  return (
    <>
      <label class="wl-field" title="Cells along each side">
        <span>size</span>
        <input
          class="wl-num wl-short"
          type="number"
          aria-label="Brush size"
          min={1}
          max={64}
          step={1}
          value={store.brush_size.value}
          onInput={(event) => {
            const size = Math.floor(Number(event.currentTarget.value));
            if (size >= 1) store.brush_size.value = Math.min(size, 64);
          }}
          // What is no size goes back to the one in force.
          onBlur={(event) => {
            event.currentTarget.value = String(store.brush_size.value);
          }}
        />
      </label>
      <select
        aria-label="Brush mode"
        title="What painting does to a cell; select adds it to the selection, with Alt or Shift takes it away"
        value={store.brush_mode.value}
        onChange={(event) => {
          store.brush_mode.value = event.currentTarget.value as BrushMode;
        }}
      >
        {["set", "add", "scale", "hold", "select"].map((mode) => (
          <option key={mode}>{mode}</option>
        ))}
      </select>
      {store.brush_mode.value !== "select" && (
        <input
          class="wl-num wl-brush-value"
          type="text"
          aria-label="Brush value"
          title="The value that it sets, adds or multiplies by"
          disabled={store.brush_mode.value === "hold"}
          spellcheck={false}
          autocomplete="off"
          value={store.brush_value.value}
          onInput={(event) => {
            store.brush_value.value = event.currentTarget.value;
          }}
        />
      )}
    </>
  );
}

function RegionBox({ store, actions }: Page) {
  const box = useRef<HTMLInputElement>(null);
  /** Null: the box shows the selection. */
  const draft = useSignal<string | null>(null);
  const wrong = useSignal(false);
  const open = store.open.value;
  const selection = store.selection.value;
  const hello = store.hello.value;
  const shape = open && hello ? (hello.tensors.shape[hello.tensors.name.indexOf(open.name)] ?? []) : [];

  const meant = useRef<unknown[]>([]);
  useSignalEffect(() => {
    // A selection by mouse, or another tensor, replaces what was typed; its summary arriving does not.
    const now = [store.selection.value, store.open.value?.name];
    if (now.every((each, at) => each === meant.current[at])) return;
    meant.current = now;
    draft.value = null;
    wrong.value = false;
  });

  async function commit(): Promise<void> {
    if (draft.value === null) return;
    const text = draft.value;
    wrong.value = false;
    const region = await actions.selectText(text);
    if (draft.value !== text && draft.value !== null) return;
    if (region) draft.value = null;
    else wrong.value = true;
  }

  return (
    <label class="wl-field wl-region">
      <span>Region</span>
      <input
        ref={box}
        class="wl-num"
        type="text"
        aria-label="Region"
        aria-invalid={wrong.value}
        placeholder="[...] all"
        spellcheck={false}
        autocomplete="off"
        disabled={!open}
        value={draft.value ?? selection?.region.text ?? ""}
        title="Cells as Python indexes them: [3, :, 1:2]. Enter applies, empty is the whole tensor."
        onInput={(event) => {
          draft.value = event.currentTarget.value;
          wrong.value = false;
        }}
        onKeyDown={(event) => {
          if (event.key === "Enter") {
            event.preventDefault();
            draft.value ??= event.currentTarget.value;
            void commit();
          } else if (event.key === "Escape" && draft.value !== null) {
            draft.value = null;
            wrong.value = false;
            store.refused.value = "";
          }
        }}
        // What was typed is what the next edit means, Enter or not; a refused text is not asked for twice.
        onBlur={() => {
          if (!wrong.value) void commit();
        }}
      />
      {open && <Count text={meantCells(store, numel(shape))} />}
    </label>
  );
}

function Count({ text }: { text: string }) {
  const [unit] = /[a-z]+$/.exec(text) ?? [""];
  return (
    <span class="wl-count wl-num" title={text}>
      {text.slice(0, text.length - unit.length).trimEnd()}
      <span> {unit}</span>
    </span>
  );
}
