/**
 * The small forms over the edit bar. They check for emptiness only: the kernel has the one parser, its preview shows what would
 * happen, and its answer stays in the form so that a slip can be mended.
 */
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { FormName, Page } from "../state/view";
import { numel } from "./format";
import { type Context, type Field, formOf, previewOf, previewText, seeded } from "./forms";
import { meantCells, TargetChoice } from "./target";
import { useDialog } from "./use-dialog";

/** A pause in typing: long enough not to ask for every letter. */
const PAUSE = 150;

interface Props {
  page: Page;
  name: FormName;
  context: Context;
}

export function Dialog({ page, name, context }: Props) {
  const { store, actions, view } = page;
  const form = formOf(name, context);
  const region_text = store.selection.value?.region.text ?? "[...]";
  const values = useSignal<Record<string, string>>(
    Object.fromEntries(form.fields.map((field) => [field.key, field.start ?? ""])),
  );
  const busy = useSignal(false);
  const refused = useSignal("");
  const box = useRef<HTMLDivElement>(null);
  const drawn = useRef(String(Math.floor(Math.random() * 2 ** 31)));
  const typed = trimmed(values.value);
  const fields = [...form.fields, ...(form.more?.(typed) ?? [])];
  const plain = form.call(typed);
  const call = plain && seeded(plain, drawn.current);
  const region = form.region?.(typed);
  const asked = call && previewOf(call);
  const error = store.alert.value?.message ?? refused.value;
  const preview = store.preview.value;

  useEffect(() => {
    refused.value = "";
    if (!asked) {
      store.preview.value = null;
      return;
    }
    const ended = new AbortController();
    const timer = setTimeout(() => {
      void actions.preview(asked, region, ended.signal).then((message) => {
        if (!ended.signal.aborted) refused.value = message;
      });
    }, PAUSE);
    return () => {
      clearTimeout(timer);
      ended.abort();
    };
  }, [JSON.stringify([asked, region]), store.where.value, store.selection.value, store.revision.value]);
  /** False once this window is closed: its late answer must not close the next one. */
  const alive = useRef(true);
  useEffect(
    () => () => {
      alive.current = false;
      store.preview.value = null;
    },
    [],
  );

  function close(): void {
    actions.dismiss();
    view.dialog.value = null;
  }
  const onKey = useDialog(box, close);

  /** What stands in the fields. They keep their own text, so that no drawing of the window can take it back. */
  function read(): Record<string, string> {
    const fields = box.current?.querySelectorAll<HTMLInputElement | HTMLSelectElement>("[data-key]") ?? [];
    return Object.fromEntries([...fields].map((field) => [field.dataset["key"] ?? "", field.value]));
  }

  async function apply(): Promise<void> {
    values.value = read();
    const now = trimmed(values.value);
    const asks = form.call(now);
    if (!asks || busy.value || refused.value) return; // why stands in the window already
    busy.value = true;
    const done = await actions.edit(seeded(asks, drawn.current), form.region?.(now));
    busy.value = false;
    // Repeated elsewhere it draws anew: alike filters would stay alike.
    if (done) store.last.value = asks;
    if (done && alive.current && view.dialog.value === name) view.dialog.value = null;
  }

  return (
    <div ref={box} class="wl-dialog" role="dialog" tabIndex={-1} aria-label={form.title} onKeyDown={onKey}>
      <form
        novalidate
        onInput={() => {
          values.value = read();
        }}
        onSubmit={(event) => {
          event.preventDefault();
          void apply();
        }}
      >
        <header>
          <b>{form.title}</b>
          <code class="wl-num">{form.hint}</code>
        </header>
        {form.region === undefined && (
          <p class="wl-dim wl-on">
            <span>
              on <b class="wl-num">{context.tensor}</b> {store.selection.value?.region.text ?? ""}
              {" · "}
              <span class="wl-num">{meantCells(store, numel(context.shape))}</span>
            </span>
            <TargetChoice store={store} />
          </p>
        )}
        {form.code && <pre class="wl-num wl-recipe">{form.code(context.tensor, region_text)}</pre>}
        {fields.length > 0 && (
          <div class="wl-fields">
            {fields.map((field) => (
              // Anew where its meaning is another one: a field keeps its own text.
              <label key={`${field.key} ${field.label} ${field.placeholder}`}>
                <span>{field.label}</span>
                <Input field={field.key === "seed" ? { ...field, placeholder: drawn.current } : field} />
              </label>
            ))}
          </div>
        )}
        {error ? (
          <p class="wl-dialog-error" role="alert">
            {error}
          </p>
        ) : (
          <p class="wl-dim wl-preview wl-num" aria-live="polite">
            {form.note ?? (asked && preview ? previewText(preview) : "")}
          </p>
        )}
        <footer>
          <button type="button" onClick={close}>
            {form.code ? "Close" : "Cancel"}
          </button>
          {!form.code && (
            <button type="submit" class="wl-main" disabled={!call}>
              Apply
            </button>
          )}
        </footer>
      </form>
    </div>
  );
}

function Input({ field }: { field: Field }) {
  if (field.choices) {
    return (
      <select aria-label={field.label} data-key={field.key}>
        {field.choices.map((choice) => (
          <option key={choice} selected={choice === field.start}>
            {choice}
          </option>
        ))}
      </select>
    );
  }
  return (
    <input
      class="wl-num"
      type="text"
      aria-label={field.label}
      placeholder={field.placeholder}
      spellcheck={false}
      autocomplete="off"
      data-key={field.key}
      defaultValue={field.start ?? ""}
    />
  );
}

function trimmed(values: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).map(([key, text]) => [key, text.trim()]));
}
