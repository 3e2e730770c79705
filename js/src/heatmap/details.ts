/** What the second script draws into the picture: numbers in large cells, profiles along the edges. */
import type { Actions } from "../state/actions";
import type { Store } from "../state/store";
import { drawNumbers } from "./cell-numbers";
import { colours, limitOf } from "./colormap";
import { drawEdge, edgeAxis, profilesOf } from "./edges";
import { type Cell, indexOf } from "./layout";
import { short } from "./numbers";
import type { Session } from "./session";
import type { Stage } from "./stage";
import type { View, Wanted } from "./viewport";

const SIDES = ["rows", "columns"] as const;

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
  const theme = stage.theme();
  const dpr = devicePixelRatio;
  context.setTransform(dpr, 0, 0, dpr, margins.left * dpr, margins.top * dpr);
  drawNumbers(context, {
    sheet,
    view,
    wanted,
    cache,
    dtype,
    exact: open.exact_text,
    colours: colours(store.dark.peek()),
    limit: limitOf(store.range.peek(), open.summary),
    mono: theme.mono,
  });
  const stat = store.profile.peek();
  if (!stat) return;
  for (const side of SIDES) {
    const axis = edgeAxis(sheet, side, stat);
    const values =
      axis === null ? null : profilesOf(session, actions.profile, redraw).of(axis, stat, store.revision.peek());
    if (axis !== null && values) drawEdge(context, { sheet, view, side, axis, values, stat, theme });
  }
}

/** "out 3: norm 1.23 · in 0: norm 0.4" of the row and column of a cell. */
export function edgeText({ store, actions, session, redraw }: Omit<Detail, "stage" | "view" | "wanted">, cell: Cell) {
  const stat = store.profile.peek();
  const index = stat && indexOf(session.sheet, cell.row, cell.column);
  if (!stat || !index) return "";
  const parts = SIDES.flatMap((side) => {
    const axis = edgeAxis(session.sheet, side, stat);
    if (axis === null) return [];
    const values = profilesOf(session, actions.profile, redraw).of(axis, stat, store.revision.peek());
    const at = index[axis] ?? 0;
    const value = values?.[at];
    const name = session.sheet.layout.labels[axis] || `axis ${axis}`;
    return value === undefined ? [] : [`${name} ${at}: ${stat === "largest" ? "max |w|" : stat} ${short(value)}`];
  });
  return parts.join(" · ");
}
