/**
 * What the page knows, as signals. Panels read them and call the actions of state/actions.ts; the settings of the picture (tool,
 * brush, reduction, range) are set by the toolbar, `dark` by the view, and nobody else writes to them.
 * Big arrays (tiles) stay in the tile cache; the store has only what is small.
 */
import { computed, type Signal, signal } from "@preact/signals";
import type { BarAxis } from "../heatmap/bar";
import type { ColourMap } from "../heatmap/colormap";
import type {
  DiffRow,
  EditCall,
  Gradients,
  Hello,
  HoldCall,
  LabState,
  Layout,
  LayoutCall,
  Moments,
  Preview,
  ProgressPush,
  RegionInfo,
  Statistic,
  Summary,
  Target,
  TileHead,
  TransferRow,
  ViewInfo,
  Where,
} from "../kernel/protocol";

export type Tool = "pan" | "select" | "brush";
/** What painting does: to the cells, or with "select" to what is selected. */
export type BrushMode = "set" | "add" | "scale" | "hold" | "select";
/** How a bin of several cells is drawn: its value of largest magnitude, its mean, or its root mean square. */
export type Reduction = "extreme" | "mean" | "rms";
/** Colour range: around 0 to the largest magnitude, from the smallest to the largest value, to the 99.5th percentile, that of all parameters, or typed. */
export type Range = { kind: "symmetric" | "full" | "robust" | "shared" } | { kind: "typed"; low: number; high: number };
/** How values turn into steps of colour; log is that of |w|. */
export type Curve = "linear" | "symlog" | "log";
export type KernelState = "connecting" | "ready" | "busy" | "restarted";

/** The tensor in the picture; `layout` and `summary` are null until the kernel has answered. */
export interface OpenTensor extends ViewInfo {
  name: string;
  /** What of it is shown: "value", "gradient", "held", "diff:<label>". */
  view: string;
  layout: Layout | null;
  summary: Summary | null;
  exact_text: boolean;
  /** How its axes were asked to lie; absent: as the layer suggests. */
  call?: LayoutCall;
  /** For each of the layout's orders the index at each place. */
  orders?: Int32Array[];
  /** Tiles that came along, so that the first picture waits for one answer only. */
  first?: { tiles: TileHead[]; buffer: DataView; revision: number };
}

/** A selection is a region, or painted cells as flat row-major indices. */
export interface Selection {
  region: RegionInfo;
  /** Flat row-major indices, where the cells are no region that can be written. */
  cells?: Float64Array;
  /** Where the region's text lists indices: the boxes that they make, to draw them. */
  parts?: [number, number, number][][];
  /** Where the cells are all others than those of a region: that region. */
  rest?: [number, number, number][];
}

/** A zeroed filter whose norm layer still speaks for it. */
export interface Behind {
  /** The entry that zeroed it: the offer holds while that is the last one. */
  entry: number;
  norm: string;
  target: Target;
  /** The cells of that target, where it lists them. */
  buffers: ArrayBufferView[];
}

export interface Transferred {
  label: string;
  rows: TransferRow[];
  /** False: what would be copied; nothing has changed yet. */
  done: boolean;
}

export interface Alert {
  message: string;
  /** For a conflict: what to do if the user insists. */
  retry?: "undo" | "redo" | "jump";
  /** Where a jump was to go. */
  entry?: number;
  /** The file that was to be saved, where one of its name is there. */
  replace?: string;
}

/** What an edit that is being written in a dialog would do; `cells` are flat indices of picked cells. */
export interface Previewed extends Preview {
  picked: DataView;
}

/** How many cells a condition picks, the first of them as flat indices, or what is wrong with its number. */
export interface Picked {
  cells: number | null;
  marks: DataView | null;
  error: string;
}

export interface Comparison {
  label: string;
  rows: DiffRow[];
  equal: number;
}

export interface Store {
  hello: Signal<Hello | null>;
  lab: Signal<LabState | null>;
  revision: Signal<number>;
  kernel: Signal<KernelState>;
  queued: Signal<number>;
  /** What is being waited for, in words; empty when nothing is. */
  working: Signal<string>;
  /** How far a request is that takes longer, and can be cancelled. */
  progress: Signal<ProgressPush | null>;
  /** Why the open tensor has no picture, where that is nothing wrong: its values are on the meta device. */
  missing: Signal<string>;
  alert: Signal<Alert | null>;
  /** A region text that does not fit and still stands in its box: nothing may be edited meanwhile. Empty: there is none. */
  refused: Signal<string>;
  /** The revision that the picture shows whole; the check after an edit waits for it. */
  painted: Signal<number>;
  /** An outcome that is no error, such as "No cell changed." */
  notice: Signal<string>;
  open: Signal<OpenTensor | null>;
  /** Name of the tensor that was asked for and has not come; empty when none is. */
  opening: Signal<string>;
  selection: Signal<Selection | null>;
  /** The selection that a text made last: a picture that shows none of it goes there. */
  typed: Signal<Selection | null>;
  /** Which cells of the selection an edit means; null: all of them. */
  where: Signal<Where | null>;
  /** What that condition picks, once the kernel has told. */
  picked: Signal<Picked | null>;
  /** The last edit or hold, to be repeated elsewhere. */
  last: Signal<EditCall | HoldCall | null>;
  preview: Signal<Previewed | null>;
  comparison: Signal<Comparison | null>;
  transfer: Signal<Transferred | null>;
  behind: Signal<Behind | null>;
  /** What an edit does to the optimizer's moments; empty: zero where it made a cell 0. */
  moments: Signal<Moments | "">;
  /** Listed cells of holds, as flat indices, by the hold's id; asked for once. */
  held: Signal<ReadonlyMap<number, DataView>>;
  /** Whether the picture shows the tensor as it was before the last edit. */
  peek: Signal<boolean>;
  /** A cell of the open tensor that the picture goes to, by its index; what a search found. */
  go: Signal<number[] | null>;
  tool: Signal<Tool>;
  brush_size: Signal<number>;
  brush_value: Signal<string>;
  brush_mode: Signal<BrushMode>;
  reduction: Signal<Reduction>;
  /** Device pixels that a picture has for its cells; null until there is one. */
  room: Signal<{ rows: number; columns: number } | null>;
  /** What stands along the edges of the picture for each row and column; null: nothing. */
  profile: Signal<Statistic | null>;
  /** Whether three inputs of a convolution are drawn as red, green and blue, where their axis is fixed. */
  rgb: Signal<boolean>;
  range: Signal<Range>;
  curve: Signal<Curve>;
  /** The colour bar's axis while an end of the range is dragged: or it would run away from the pointer. */
  held_axis: Signal<BarAxis | null>;
  /** Name of a colour map; "auto" takes the one that fits the view. */
  map: Signal<string>;
  /** The kernel's colour maps, once they have come. */
  maps: Signal<ColourMap[]>;
  /** Smallest and largest value of all parameters, once a range asked for it. */
  extent: Signal<[number, number] | null>;
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
    progress: signal(null),
    missing: signal(""),
    alert: signal(null),
    refused: signal(""),
    painted: signal(0),
    notice: signal(""),
    open: signal(null),
    opening: signal(""),
    selection: signal(null),
    typed: signal(null),
    where: signal(null),
    picked: signal(null),
    last: signal(null),
    preview: signal(null),
    comparison: signal(null),
    transfer: signal(null),
    behind: signal(null),
    moments: signal(""),
    held: signal(new Map()),
    peek: signal(false),
    go: signal(null),
    tool: signal("select"),
    brush_size: signal(1),
    brush_value: signal("0"),
    brush_mode: signal("set"),
    reduction: signal("extreme"),
    room: signal(null),
    profile: signal(null),
    rgb: signal(false),
    range: signal({ kind: "symmetric" }),
    curve: signal("linear"),
    held_axis: signal(null),
    map: signal("auto"),
    maps: signal([]),
    extent: signal(null),
    dark: signal(false),
    gradients: computed(() => lab.value?.gradients ?? null) as Signal<Gradients | null>,
  };
}

/** The field `view` of a request: absent for the values themselves. */
export const viewed = (view: string | undefined): { view?: string } => (view && view !== "value" ? { view } : {});

/** Number in the history of the last entry in force that changed cells of the open tensor: its "before" is before that; or 0. */
export function lastChange(store: Store): number {
  const name = store.open.value?.name;
  const history = store.lab.value?.history;
  const inForce = history?.entries.slice(0, history.position) ?? [];
  return inForce.findLastIndex((entry) => entry.cells > 0 && entry.changed.some(([which]) => which === name)) + 1;
}

export const canPeek = (store: Store): boolean => lastChange(store) > 0;
