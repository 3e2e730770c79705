/** What belongs to one view of the widget and not to the model: two views of one Lab may be folded and sized differently. */
import { type Signal, signal } from "@preact/signals";
import type { Actions } from "./actions";
import type { Store } from "./store";

/** The forms of the edit bar. */
export type FormName =
  | "fill"
  | "row"
  | "clamp"
  | "scale"
  | "init"
  | "add"
  | "subtract"
  | "divide"
  | "negate"
  | "absolute"
  | "round"
  | "sign"
  | "normal"
  | "uniform"
  | "prune"
  | "permute"
  | "quantize"
  | "train"
  | "copy-from"
  | "average"
  | "hold-rule"
  | "hold"
  | "hold-clamp"
  | "hold-sign";
/** wide: three columns. narrow: the verdict goes under the picture. slim: the tree becomes a drawer. */
export type Width = "wide" | "narrow" | "slim";

/** What the middle column has: ample: one row of tools. tight: two. cramped: two, without what can be done without. */
export type Room = "ample" | "fair" | "tight" | "cramped";

export interface View {
  /** Prefix of element ids: several views share one document. */
  id: string;
  width: Signal<Width>;
  room: Signal<Room>;
  /** The window that is open: a form, or what is taken out of the page. */
  dialog: Signal<FormName | "save" | "script" | null>;
  drawer: Signal<boolean>;
  /** Whether gradients and history are unfolded where they lie under the picture. */
  verdict: Signal<boolean>;
  /** What the gradient panel shows: rows of parameters, findings of the diagnosis, or the signal through the layers. */
  tab: Signal<"rows" | "findings" | "flow">;
  help: Signal<boolean>;
  /** Whether the widget fills the window. */
  full: Signal<boolean>;
  /** The picture of one tensor, the map of all, or the charts of depth in large. */
  stage: Signal<"picture" | "map" | "flow">;
  /** Another view of the tensor, in a second picture beside the first; null: there is none. */
  second: Signal<string | null>;
  /** What stands beside the picture. */
  details: Signal<"cells" | "spectrum" | null>;
  /** Tensors in another order than the model's, and the number that each is sorted by. */
  order: Signal<{ places: readonly number[]; text(at: number): string } | null>;
  /** Widths of the tree and of the verdict, height of the table of cells, where the user set them. */
  sizes: { tree: Signal<number | null>; verdict: Signal<number | null>; cells: Signal<number | null> };
}

/** What every panel is given. */
export interface Page {
  store: Store;
  actions: Actions;
  view: View;
}

let views = 0;

export function createView(): View {
  views += 1;
  return {
    id: `wl${views}`,
    width: signal("wide"),
    room: signal("ample"),
    dialog: signal(null),
    drawer: signal(false),
    verdict: signal(true),
    tab: signal("rows"),
    help: signal(false),
    full: signal(false),
    stage: signal("picture"),
    second: signal(null),
    details: signal(null),
    order: signal(null),
    sizes: { tree: signal(null), verdict: signal(null), cells: signal(null) },
  };
}

export function widthOf(pixels: number): Width {
  return pixels < 600 ? "slim" : pixels < 900 ? "narrow" : "wide";
}

export function roomOf(pixels: number): Room {
  return pixels < 440 ? "cramped" : pixels < 636 ? "tight" : pixels < 760 ? "fair" : "ample";
}
