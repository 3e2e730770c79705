/** From a view to what a renderer draws: the cell under each pixel, and the tiles with what stands in for missing ones. */
import type { Reduction } from "../state/store";
import { type Axis, pixelCells, position } from "./axis";
import type { Rect } from "./layout";
import type { Margins } from "./overlay";
import type { DrawTile } from "./renderer";
import { type CachedTile, shownPlane, type TileCache } from "./tile-cache";
import { standIns, TILE, tileRect, type View, type Wanted } from "./viewport";

/** The cell under each device pixel; none in the margins, where a panned sheet lies under the labels. */
export function tableOf(
  axis: Axis,
  origin: number,
  margin: number,
  room: number,
  dpr: number,
  pixels: number,
): Int32Array {
  const cells = pixelCells(axis, margin + origin, dpr, pixels);
  cells.fill(-1, 0, Math.round(margin * dpr));
  cells.fill(-1, Math.round((margin + room) * dpr));
  return cells;
}

/** Stand-ins first, so that what has arrived covers them. */
export function drawTiles(
  cache: TileCache,
  view: View,
  wanted: Wanted,
  margins: Margins,
  dpr: number,
  reduction: Reduction,
): DrawTile[] {
  const { sheet } = cache;
  const x = (cell: number) => Math.round((margins.left + view.x + position(view.columns, cell)) * dpr);
  const y = (cell: number) => Math.round((margins.top + view.y + position(view.rows, cell)) * dpr);
  const part = (tile: CachedTile, clip: Rect): DrawTile => {
    const [row_level, column_level, row, column] = tile.key;
    return {
      plane: shownPlane(tile, reduction),
      rows: tile.rows,
      columns: tile.columns,
      row_level,
      column_level,
      row: row * TILE,
      column: column * TILE,
      clip,
      x0: x(clip.column0),
      x1: x(clip.column1),
      y0: y(clip.row0),
      y1: y(clip.row1),
    };
  };
  const under: DrawTile[] = [];
  const own: DrawTile[] = [];
  for (const key of wanted.keys) {
    const tile = cache.get(key);
    if (tile) own.push(part(tile, tileRect(sheet, key)));
    else {
      const coarse = standIns(sheet, key).find((each) => cache.has(each));
      const found = coarse && cache.get(coarse);
      if (found) under.push(part(found, tileRect(sheet, key)));
    }
  }
  return [...under, ...own];
}
