/**
 * The small forms over the edit bar. They check for emptiness only: the kernel has the one parser, and its answer stays in the
 * form so that a slip can be mended.
 */
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { EditCall } from "../kernel/protocol";
import { assertNever } from "../state/assert-never";
import type { DialogName, Page } from "../state/view";

interface Field {
  key: string;
  label: string;
  placeholder: string;
  start?: string;
  choices?: readonly string[];
}

interface Form {
  title: string;
  /** What it will do, in one line of PyTorch. */
  hint: string;
  fields: readonly Field[];
  /** Null while something is missing. */
  call(values: Record<string, string>): { call: EditCall; region?: string } | null;
}

const METHODS = [
  "kaiming_normal_",
  "kaiming_uniform_",
  "xavier_normal_",
  "xavier_uniform_",
  "orthogonal_",
  "normal_",
  "uniform_",
  "zeros_",
  "ones_",
] as const;

export function formOf(name: DialogName, shape: readonly number[], row: string): Form {
  switch (name) {
    case "fill":
      return {
        title: "Fill",
        hint: "fill_(value)",
        fields: [{ key: "value", label: "Value", placeholder: "0.5, 1e-3, nan" }],
        call: ({ value }) => (value ? { call: { edit: "fill_", args: { value } } } : null),
      };
    case "row": {
      const flat = shape.length < 2;
      const values: Field = {
        key: "values",
        label: "Values",
        placeholder: flat ? "1, 2, 3 or one for all" : "1, 2, 3 or one",
      };
      return {
        title: "Set row",
        hint: flat ? "copy_(values)" : "[row].copy_(values)",
        fields: flat ? [values] : [{ key: "row", label: "Row", placeholder: "0", start: row }, values],
        call: ({ row: at, values: text }) => {
          const list = listOf(text ?? "");
          if (list.length === 0) return null;
          const call: EditCall = { edit: "copy_", args: { values: list } };
          if (flat) return { call };
          return at ? { call, region: `[${at}]` } : null;
        },
      };
    }
    case "clamp":
      return {
        title: "Clamp",
        hint: "clamp_(min, max)",
        fields: [
          { key: "min", label: "Minimum", placeholder: "none" },
          { key: "max", label: "Maximum", placeholder: "none" },
        ],
        call: ({ min, max }) =>
          min || max ? { call: { edit: "clamp_", args: { min: min || null, max: max || null } } } : null,
      };
    case "scale":
      return {
        title: "Scale",
        hint: "mul_(factor)",
        fields: [{ key: "value", label: "Factor", placeholder: "0.5" }],
        call: ({ value }) => (value ? { call: { edit: "mul_", args: { value } } } : null),
      };
    case "init":
      return {
        title: "Reinitialize",
        hint: "torch.nn.init",
        fields: [{ key: "method", label: "Method", placeholder: "", start: METHODS[0], choices: METHODS }],
        call: ({ method }) => (method ? { call: { edit: "init_", args: { method } } } : null),
      };
    default:
      return assertNever(name);
  }
}

/** `1, 2, 3`, brackets allowed, as the user typed each number. */
export function listOf(text: string): string[] {
  const inner = text.trim().replace(/^\[(.*)\]$/s, "$1");
  const parts = inner.split(",").map((part) => part.trim());
  // A comma behind the last number is Python; any other gap is for the kernel to refuse, with its position.
  if (parts.at(-1) === "") parts.pop();
  return parts;
}

interface Props {
  page: Page;
  name: DialogName;
  shape: readonly number[];
  /** Row of the present selection, as the first guess. */
  row: string;
}

export function Dialog({ page, name, shape, row }: Props) {
  const { store, actions, view } = page;
  const form = formOf(name, shape, row);
  const values = useSignal<Record<string, string>>(
    Object.fromEntries(form.fields.map((field) => [field.key, field.start ?? ""])),
  );
  const busy = useSignal(false);
  const box = useRef<HTMLDivElement>(null);
  const ready = form.call(trimmed(values.value));
  const selection = store.selection.value?.region.text ?? "the whole tensor";
  const error = store.alert.value;

  useEffect(() => {
    const before = (box.current?.getRootNode() as Document | ShadowRoot | undefined)?.activeElement;
    const fields = [...(box.current?.querySelectorAll<HTMLElement>("input, select") ?? [])];
    (fields.find((field) => field instanceof HTMLInputElement && field.value === "") ?? fields[0])?.focus();
    return () => {
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);

  function close(): void {
    actions.dismiss();
    view.dialog.value = null;
  }

  async function apply(): Promise<void> {
    if (!ready || busy.value) return;
    busy.value = true;
    const done = await actions.edit(ready.call, ready.region);
    busy.value = false;
    if (done && view.dialog.value === name) view.dialog.value = null;
  }

  function onKey(event: KeyboardEvent): void {
    if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      close();
    } else if (event.key === "Tab") {
      const stops = [...(box.current?.querySelectorAll<HTMLElement>("input, select, button:not(:disabled)") ?? [])];
      const edge = event.shiftKey ? stops[0] : stops.at(-1);
      if (event.target !== edge) return;
      event.preventDefault();
      (event.shiftKey ? stops.at(-1) : stops[0])?.focus();
    }
  }

  return (
    <div ref={box} class="wl-dialog" role="dialog" aria-label={form.title} onKeyDown={onKey}>
      <form
        novalidate
        onSubmit={(event) => {
          event.preventDefault();
          void apply();
        }}
      >
        <header>
          <b>{form.title}</b>
          <code class="wl-num">{form.hint}</code>
        </header>
        {name === "row" && shape.length > 1 ? null : <p class="wl-dim">on {selection}</p>}
        <div class="wl-fields">
          {form.fields.map((field) => {
            const change = (text: string): void => {
              values.value = { ...values.value, [field.key]: text };
            };
            return (
              <label key={field.key}>
                <span>{field.label}</span>
                {field.choices ? (
                  <select
                    aria-label={field.label}
                    value={values.value[field.key]}
                    onChange={(event) => change(event.currentTarget.value)}
                  >
                    {field.choices.map((choice) => (
                      <option key={choice}>{choice}</option>
                    ))}
                  </select>
                ) : (
                  <input
                    class="wl-num"
                    type="text"
                    aria-label={field.label}
                    placeholder={field.placeholder}
                    spellcheck={false}
                    autocomplete="off"
                    value={values.value[field.key]}
                    onInput={(event) => change(event.currentTarget.value)}
                  />
                )}
              </label>
            );
          })}
        </div>
        {error && (
          <p class="wl-dialog-error" role="alert">
            {error.message}
          </p>
        )}
        <footer>
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" class="wl-main" disabled={!ready || busy.value}>
            Apply
          </button>
        </footer>
      </form>
    </div>
  );
}

function trimmed(values: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).map(([key, text]) => [key, text.trim()]));
}
