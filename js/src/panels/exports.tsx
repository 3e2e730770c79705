/** The history taken out of the page: as a script, as a recipe, as a file of weights. Nothing leaves the machine. */
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Page } from "../state/view";
import { bytes } from "./format";
import { kernelGone } from "./kernel-gone";
import { Menu } from "./menu";
import { useDialog } from "./use-dialog";

export function Exports({ page, empty }: { page: Page; empty: boolean }) {
  const { actions, view } = page;
  const script = useSignal("");
  const copied = useSignal(false);
  const gone = kernelGone(page.store);
  const close = (): void => {
    actions.dismiss();
    view.dialog.value = null;
  };

  async function copy(): Promise<void> {
    const text = await actions.export("python");
    if (text === null) return;
    try {
      // Missing on plain http; refused without permission.
      await navigator.clipboard.writeText(text);
      copied.value = true;
      setTimeout(() => {
        copied.value = false;
      }, 1200);
    } catch {
      script.value = text;
      view.dialog.value = "script";
    }
  }

  async function download(): Promise<void> {
    const text = await actions.export("recipe");
    if (text === null) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = "recipe.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  return (
    <>
      <button
        type="button"
        class="wl-ghost"
        disabled={empty || gone !== ""}
        title={gone || "The history as a plain PyTorch script"}
        onClick={() => void copy()}
      >
        <span aria-live="polite">{copied.value ? "Copied" : "Copy as Python"}</span>
      </button>
      <Menu
        text="⋯"
        name="Export"
        title={gone || "Recipe and file"}
        kind="wl-ghost"
        off={page.store.hello.value === null || gone !== ""}
        items={[
          { label: "Download recipe", off: empty, run: () => void download() },
          {
            label: "Save safetensors…",
            run: () => {
              actions.dismiss();
              view.dialog.value = "save";
            },
          },
        ]}
      />
      {view.dialog.value === "script" && <Text text={script.value} close={close} />}
      {view.dialog.value === "save" && <Save page={page} close={close} />}
    </>
  );
}

function Text({ text, close }: { text: string; close(): void }) {
  const box = useRef<HTMLDivElement>(null);
  const onKey = useDialog(box, close);
  useEffect(() => box.current?.querySelector("textarea")?.select(), []);
  return (
    <div ref={box} class="wl-dialog" role="dialog" tabIndex={-1} aria-label="History as Python" onKeyDown={onKey}>
      <header>
        <b>History as Python</b>
        <span class="wl-dim">Ctrl+C copies</span>
      </header>
      <div class="wl-fields">
        <textarea class="wl-num" aria-label="Script" rows={10} readonly value={text} />
      </div>
      <footer>
        <button type="button" onClick={close}>
          Close
        </button>
      </footer>
    </div>
  );
}

function Save({ page, close }: { page: Page; close(): void }) {
  const { store, actions } = page;
  const box = useRef<HTMLDivElement>(null);
  const file = useSignal("edited.safetensors");
  const busy = useSignal(false);
  const done = useSignal("");
  const onKey = useDialog(box, close);
  const name = file.value.trim();
  const alert = store.alert.value;
  // That file is there: the same button, pressed again, replaces it.
  const replace = alert?.replace === name;
  const progress = store.progress.value;
  return (
    <div ref={box} class="wl-dialog" role="dialog" tabIndex={-1} aria-label="Save safetensors" onKeyDown={onKey}>
      <form
        novalidate
        onSubmit={async (event) => {
          event.preventDefault();
          if (busy.value) return;
          busy.value = true;
          done.value = "";
          const saved = await actions.save(name, replace);
          busy.value = false;
          if (saved) done.value = `Saved ${saved.file}, ${bytes(saved.bytes)}`;
        }}
      >
        <header>
          <b>Save safetensors</b>
          <span class="wl-dim">beside the notebook</span>
        </header>
        <div class="wl-fields">
          <label>
            <span>File</span>
            <input
              class="wl-num"
              type="text"
              aria-label="File"
              spellcheck={false}
              autocomplete="off"
              value={file.value}
              onInput={(event) => {
                file.value = event.currentTarget.value;
                if (alert?.replace !== undefined) actions.dismiss();
              }}
            />
          </label>
        </div>
        {alert ? (
          <p class={`wl-dialog-error${replace ? " wl-asks" : ""}`} role="alert">
            {alert.message}
          </p>
        ) : (
          <p class="wl-dim wl-preview" aria-live="polite">
            {busy.value ? (
              <progress aria-label="Saving" {...(progress && { value: progress.done, max: progress.total })} />
            ) : (
              done.value
            )}
          </p>
        )}
        <footer>
          <button type="button" onClick={close}>
            Close
          </button>
          <button
            type="submit"
            class="wl-main"
            aria-disabled={busy.value}
            disabled={name === "" || kernelGone(store) !== ""}
          >
            {replace ? "Replace" : "Save"}
          </button>
        </footer>
      </form>
    </div>
  );
}
