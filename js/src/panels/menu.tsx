/** A button that opens a short list of actions. Arrows move in it, Escape and any other place close it. */
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

export interface Item {
  label: string;
  title?: string;
  off?: boolean;
  run(): void;
}

interface Props {
  text: string;
  /** Where the text is only a sign. */
  name?: string;
  title: string;
  off?: boolean;
  /** Opens upwards, as in a bar at the bottom. */
  up?: boolean;
  /** Its left edge is the button's. */
  left?: boolean;
  kind?: string;
  items: readonly Item[];
}

export function Menu({ text, name, title, off = false, up = false, left = false, kind = "", items }: Props) {
  const open = useSignal(false);
  const root = useRef<HTMLSpanElement>(null);
  const all = (): HTMLElement[] => [...(root.current?.querySelectorAll<HTMLElement>('[role="menuitem"]') ?? [])];
  const back = (): void => {
    open.value = false;
    root.current?.querySelector("button")?.focus();
  };
  useEffect(() => {
    if (open.value) all()[0]?.focus();
  }, [open.value]);
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the keys of the button and of the list in it.
    <span
      ref={root}
      class={`wl-menu${up ? " wl-up" : ""}${left ? " wl-at-left" : ""}`}
      onFocusOut={(event) => {
        if (!(event.relatedTarget instanceof Node && root.current?.contains(event.relatedTarget))) open.value = false;
      }}
      onKeyDown={(event) => {
        if (!open.value) return;
        if (event.key === "Escape") {
          event.preventDefault();
          event.stopPropagation();
          back();
        } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
          event.preventDefault();
          const list = all();
          const at = list.indexOf(event.target as HTMLElement) + (event.key === "ArrowDown" ? 1 : -1);
          list[(at + list.length) % list.length]?.focus();
        }
      }}
    >
      <button
        type="button"
        class={kind}
        disabled={off}
        title={title}
        {...(name === undefined ? {} : { "aria-label": name })}
        aria-haspopup="menu"
        aria-expanded={open.value}
        onClick={() => {
          open.value = !open.value;
        }}
      >
        {text}
      </button>
      {open.value && !off && (
        <div role="menu" aria-label={name ?? text} class="wl-items">
          {items.map((item) => (
            <div
              key={item.label}
              role="menuitem"
              tabIndex={-1}
              title={item.title}
              aria-disabled={item.off ?? false}
              onClick={() => {
                if (item.off) return;
                back();
                item.run();
              }}
              onKeyDown={(event) => {
                if (event.key !== "Enter" && event.key !== " ") return;
                event.preventDefault();
                event.currentTarget.click();
              }}
            >
              {item.label}
            </div>
          ))}
        </div>
      )}
    </span>
  );
}
