/**
 * What the page knows, as signals. Panels read them and call the actions of state/actions.ts; the settings of the picture (tool,
 * brush, reduction, range) are set by the toolbar, `dark` by the view, and nobody else writes to them.
 * Big arrays (tiles) stay in the tile cache; the store has only what is small.
 */
import { computed, type Signal, signal } from "@preact/signals";
import type { Gradients, Hello, LabState, Layout, RegionInfo, Summary } from "../kernel/protocol";

export type Tool = "pan" | "select" | "brush";
/** How a bin of several cells is drawn: its mean, or its value of largest magnitude. */
export type Reduction = "mean" | "extreme";
/** Colour range: symmetric to the largest magnitude, to the 99.5th percentile of magnitudes, or typed. */
export type Range = { kind: "symmetric" } | { kind: "robust" } | { kind: "typed"; limit: number };
export type KernelState = "connecting" | "ready" | "busy" | "restarted";

/** The tensor in the picture; `layout` and `summary` are null until the kernel has answered. */
export interface OpenTensor {
  name: string;
  layout: Layout | null;
  summary: Summary | null;
  exact_text: boolean;
}

/** A selection is a region, or painted cells as flat row-major indices. */
export interface Selection {
  region: RegionInfo;
}

export interface Alert {
  message: string;
  /** For an undo conflict: what to do if the user insists. */
  retry?: "undo" | "redo";
}

export interface Store {
  hello: Signal<Hello | null>;
  lab: Signal<LabState | null>;
  revision: Signal<number>;
  kernel: Signal<KernelState>;
  queued: Signal<number>;
  /** What is being waited for, in words; empty when nothing is. */
  working: Signal<string>;
  alert: Signal<Alert | null>;
  /** An outcome that is no error, such as "No cell changed." */
  notice: Signal<string>;
  /** Id of the history entry whose code is shown; null: the last one applied. */
  shown: Signal<number | null>;
  open: Signal<OpenTensor | null>;
  selection: Signal<Selection | null>;
  tool: Signal<Tool>;
  brush_size: Signal<number>;
  brush_value: Signal<string>;
  reduction: Signal<Reduction>;
  range: Signal<Range>;
  dark: Signal<boolean>;
  gradients: Signal<Gradients | null>;
}

export function createStore(): Store {
  const lab = signal<LabState | null>(null);
  return {
    hello: signal(null),
    lab,
    revision: signal(0),
    kernel: signal("connecting"),
    queued: signal(0),
    working: signal(""),
    alert: signal(null),
    notice: signal(""),
    shown: signal(null),
    open: signal(null),
    selection: signal(null),
    tool: signal("select"),
    brush_size: signal(1),
    brush_value: signal("0"),
    reduction: signal("extreme"),
    range: signal({ kind: "symmetric" }),
    dark: signal(false),
    gradients: computed(() => lab.value?.gradients ?? null) as Signal<Gradients | null>,
  };
}
