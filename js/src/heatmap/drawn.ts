/** What is drawn for a cell, read back from the screen: the hook by which a test knows that the picture is right. */
import type { Store } from "../state/store";
import { position } from "./axis";
import type { Rgb } from "./colormap";
import { cellOf, isShown } from "./layout";
import { binOf, keyAt } from "./reading";
import type { Session } from "./session";
import type { Stage } from "./stage";
import { shownPlane } from "./tile-cache";
import { wantedTiles } from "./viewport";

export interface Drawn {
  value: number;
  color: Rgb;
  x: number;
  y: number;
}

/**
 * What is drawn for a tensor index: the value of its bin, the colour of the pixel at the cell's middle as the renderer
 * drew it, and that place in client coordinates. null when the cell is not on screen or its tile has not come.
 */
export function drawnAt(stage: Stage, store: Store, session: Session | null, index: number[]): Drawn | null {
  const view = session?.view;
  if (!session || !view || index.length !== session.sheet.layout.shape.length || session.sheet.cells === 0) return null;
  if (!isShown(session.sheet, index)) return null;
  const { row, column } = cellOf(session.sheet, index);
  const x = view.x + position(view.columns, column) + Math.max(0.25, view.columns.scale / 2 - 0.5);
  const y = view.y + position(view.rows, row) + Math.max(0.25, view.rows.scale / 2 - 0.5);
  if (x < 0 || y < 0 || x >= view.area.width || y >= view.area.height) return null;
  const dpr = devicePixelRatio;
  const wanted = wantedTiles(session.sheet, view, dpr);
  const tile = session.cache.get(keyAt(wanted, row, column));
  if (!tile) return null;
  const value = shownPlane(tile, store.reduction.peek())[binOf(tile, row, column)] ?? Number.NaN;
  const left = session.margins.left + x;
  const top = session.margins.top + y;
  const { host } = stage;
  const box = host.getBoundingClientRect();
  return {
    value,
    color: stage.renderer.readPixel(Math.floor(left * dpr), Math.floor(top * dpr)),
    x: box.left + host.clientLeft + left,
    y: box.top + host.clientTop + top,
  };
}
