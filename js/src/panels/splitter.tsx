/** The edge between two parts: dragged by mouse or touch, moved by arrows; a double click gives the first size back. */
import type { Signal } from "@preact/signals";
import { useLayoutEffect } from "preact/hooks";
import { remember, remembered } from "../state/sizes";
import type { Page } from "../state/view";

const STEP = 16;

interface Props {
  name: string;
  /** Key of the remembered size. */
  part: string;
  /** In pixels; null: the size of the style sheet. */
  size: Signal<number | null>;
  first: number;
  least: number;
  most: number;
  /** Which side of the edge has that size. */
  side: "before" | "behind";
  lies?: "vertical" | "horizontal";
}

/** Between tree, stage and verdict, where they lie side by side. */
export function Splitters({ view }: Page) {
  const width = view.width.value;
  const { tree, verdict } = view.sizes;
  useLayoutEffect(() => {
    const sizes = remembered();
    for (const part of ["tree", "verdict", "cells"] as const) view.sizes[part].value = sizes[part] ?? null;
  }, [view]);
  if (width === "slim") return null;
  return (
    <>
      <Splitter
        name="Width of the tree"
        part="tree"
        size={tree}
        first={width === "wide" ? 252 : 220}
        least={140}
        most={560}
        side="before"
      />
      {width === "wide" && (
        <Splitter
          name="Width of the verdict"
          part="verdict"
          size={verdict}
          first={308}
          least={220}
          most={640}
          side="behind"
        />
      )}
    </>
  );
}

export function Splitter({ name, part, size, first, least, most, side, lies = "vertical" }: Props) {
  const sign = side === "before" ? 1 : -1;
  const along = (event: PointerEvent): number => (lies === "vertical" ? event.clientX : event.clientY);
  const set = (pixels: number): void => {
    size.value = Math.max(least, Math.min(most, pixels));
  };
  const now = size.value ?? first;
  return (
    <div
      class={`wl-splitter wl-${lies} wl-edge-${part}`}
      role="separator"
      aria-label={name}
      aria-orientation={lies}
      aria-valuenow={Math.round(now)}
      aria-valuemin={least}
      aria-valuemax={most}
      tabIndex={0}
      title="Drag, or arrow keys; double click for the first size"
      onPointerDown={(event) => {
        event.preventDefault();
        const bar = event.currentTarget;
        bar.focus();
        bar.setPointerCapture(event.pointerId);
        const from = along(event) - sign * now;
        const ended = new AbortController();
        const { signal } = ended;
        bar.addEventListener("pointermove", (moved) => set(sign * (along(moved) - from)), { signal });
        const end = (): void => {
          ended.abort();
          remember(part, size.peek());
        };
        bar.addEventListener("pointerup", end, { signal });
        bar.addEventListener("lostpointercapture", end, { signal });
      }}
      onDblClick={() => {
        size.value = null;
        remember(part, null);
      }}
      onKeyDown={(event) => {
        const [less, more] = lies === "vertical" ? ["ArrowLeft", "ArrowRight"] : ["ArrowUp", "ArrowDown"];
        if (event.key === less || event.key === more) set(now + (event.key === more ? STEP : -STEP) * sign);
        else if (event.key === "Home") set(least);
        else if (event.key === "End") set(most);
        else return;
        event.preventDefault();
        remember(part, size.peek());
      }}
    />
  );
}
