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

/** Which item a key goes to; null: it is no key of a list. A letter goes to the next item that begins with it. */
export function itemFor(key: string, labels: readonly string[], at: number): number | null {
  const { length } = labels;
  if (length === 0) return null;
  switch (key) {
    case "ArrowDown":
      return (at + 1) % length;
    case "ArrowUp":
      return (Math.max(at, 0) - 1 + length) % length;
    case "Home":
    case "PageUp":
      return 0;
    case "End":
    case "PageDown":
      return length - 1;
    default: {
      if (key.length !== 1 || key === " ") return null;
      const order = labels.map((_, by) => (at + 1 + by) % length);
      return order.find((one) => labels[one]?.toLowerCase().startsWith(key.toLowerCase())) ?? null;
    }
  }
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
          return;
        }
        const list = all();
        const to = itemFor(
          event.key,
          list.map((item) => item.textContent ?? ""),
          list.indexOf(event.target as HTMLElement),
        );
        // The notebook scrolls by Home and End, and the page's own letters choose tools.
        if (to !== null || event.key.length === 1) {
          event.preventDefault();
          event.stopPropagation();
        }
        if (to !== null) list[to]?.focus();
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
