/** What the second script draws into the picture: numbers and marks in large cells, profiles along the edges. */
import { untracked } from "@preact/signals";
import type { Layout } from "../kernel/protocol";
import type { Actions } from "../state/actions";
import type { Store } from "../state/store";
import { drawNumbers } from "./cell-numbers";
import { drawEdge, drawFacetBars, edgeAxis, profilesOf } from "./edges";
import { type AxisRange, type Cell, indexOf } from "./layout";
import { lookOf } from "./look";
import { drawMarks, oddTiles } from "./marks";
import { short } from "./numbers";
import { Channels, colourAxis, paintColours } from "./rgb";
import type { Session } from "./session";
import type { Stage } from "./stage";
import type { View, Wanted } from "./viewport";

const SIDES = ["rows", "columns", "facets"] as const;

/** The canvas of a stage for colours, and the tiles behind it. */
const colouring = new WeakMap<Stage, { canvas: HTMLCanvasElement; session: Session; channels: Channels }>();

/** The axis that is drawn as red, green and blue now; null: none. */
function shownAsColours(store: Store): number | null {
  const layout = store.open.peek()?.layout;
  const axis = layout && store.rgb.peek() ? colourAxis(layout) : null;
  return axis !== null && layout?.fixed.some(([still]) => still === axis) ? axis : null;
}

/** Boxes picked in a coloured picture: all three inputs, as they are seen. */
export function withColours(store: Store, boxes: AxisRange[][]): AxisRange[][] {
  const axis = shownAsColours(store);
  return axis === null ? boxes : boxes.map((box) => box.map((range, at) => (at === axis ? [0, 3, 1] : range)));
}

/** The same for painted cells, as flat indices in ascending order. */
export function cellsWithColours(store: Store, cells: Float64Array): Float64Array {
  const axis = shownAsColours(store);
  const layout = store.open.peek()?.layout;
  if (axis === null || !layout) return cells;
  const stride = layout.shape.slice(axis + 1).reduce((a, b) => a * b, 1);
  const still = layout.fixed.find(([each]) => each === axis)?.[1] ?? 0;
  return Float64Array.from([...cells].flatMap((cell) => [0, 1, 2].map((k) => cell + (k - still) * stride))).sort();
}

function drawColours({ stage, store, actions, session, view, wanted, redraw }: Detail): void {
  const axis = shownAsColours(store);
  let now = colouring.get(stage);
  if (now && (axis === null || now.session !== session)) {
    endDetails(stage);
    now = undefined;
  }
  if (axis === null) return;
  if (!now) {
    const canvas = stage.host.ownerDocument.createElement("canvas");
    canvas.className = "wl-colours";
    stage.host.insertBefore(canvas, stage.overlay);
    now = { canvas, session, channels: new Channels(session, axis, actions, redraw) };
    colouring.set(stage, now);
  }
  const { canvas, channels } = now;
  channels.need(wanted);
  const out = session.sheet.layout.labels.indexOf("out");
  const limits = profilesOf(session, actions.profile, redraw).of(out, "largest", store.revision.peek());
  const { width, height } = stage.pixels;
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  if (!limits || !context || width * height === 0) return;
  const image = context.createImageData(width, height);
  paintColours(image.data, { stage, session, view, wanted, channels, out, limits });
  context.putImageData(image, 0, 0);
}

/** With the picture: what it listened for would keep it. */
export function endDetails(stage: Stage): void {
  const now = colouring.get(stage);
  now?.channels.dispose();
  now?.canvas.remove();
  colouring.delete(stage);
}

interface Detail {
  stage: Stage;
  store: Store;
  actions: Actions;
  session: Session;
  view: View;
  wanted: Wanted;
  redraw(): void;
}

/** Over the overlay, after it was drawn. */
export function drawDetails({ stage, store, actions, session, view, wanted, redraw }: Detail): void {
  const context = stage.overlay.getContext("2d");
  const open = store.open.peek();
  const { sheet, margins, cache, dtype } = session;
  if (!context || !open || sheet.cells === 0) return;
  drawColours({ stage, store, actions, session, view, wanted, redraw });
  const theme = stage.theme();
  const dpr = devicePixelRatio;
  context.setTransform(dpr, 0, 0, dpr, margins.left * dpr, margins.top * dpr);
  if (shownAsColours(store) === null) {
    const { plain, colours, scale } = untracked(() => lookOf(store));
    drawMarks(context, { view, dpr, sheet, colours: plain, scale, tiles: oddTiles(cache, wanted, scale) });
    drawNumbers(context, {
      sheet,
      view,
      wanted,
      cache,
      dtype,
      exact: open.exact_text,
      colours,
      scale,
      mono: theme.mono,
    });
  }
  const stat = store.profile.peek();
  if (!stat) return;
  for (const side of SIDES) {
    const axis = edgeAxis(sheet, side, stat);
    const values =
      axis === null ? null : profilesOf(session, actions.profile, redraw).of(axis, stat, store.revision.peek());
    if (axis === null || !values) continue;
    if (side === "facets") drawFacetBars(context, { sheet, view, axis, values, theme });
    else drawEdge(context, { sheet, view, side, axis, values, stat, theme });
  }
}

/** Which groups a cell lies in, and the numbers on the edges for it: "gate f · out 3: norm 1.23 · in 0: norm 0.4". */
export function edgeText({ store, actions, session, redraw }: Omit<Detail, "stage" | "view" | "wanted">, cell: Cell) {
  const stat = store.profile.peek();
  const index = indexOf(session.sheet, cell.row, cell.column);
  if (!index) return "";
  const { layout } = session.sheet;
  const numbers = SIDES.flatMap((side) => {
    const axis = stat && edgeAxis(session.sheet, side, stat);
    if (!stat || axis === null) return [];
    const values = profilesOf(session, actions.profile, redraw).of(axis, stat, store.revision.peek());
    const at = index[axis] ?? 0;
    const value = values?.[at];
    const name = layout.labels[axis] || `axis ${axis}`;
    return value === undefined ? [] : [`${name} ${at}: ${stat === "largest" ? "max |w|" : stat} ${short(value)}`];
  });
  return [...groupsAt(layout, index), ...numbers].join(" · ");
}

/** The innermost group of each axis that a cell lies in; those of heads in a packed projection say the part, too. */
export function groupsAt(layout: Layout, index: number[]): string[] {
  return layout.shape.flatMap((_, axis) => {
    const group = layout.groups.findLast((each) => each.axis === axis);
    if (!group) return [];
    const at = group.starts.findLastIndex((start) => start <= (index[axis] ?? 0));
    return [`${group.name} ${group.labels[at] ?? ""}`.trim()];
  });
}
