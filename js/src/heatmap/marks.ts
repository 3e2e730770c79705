/** Marks on cells that the colours alone would not tell: not finite, or outside the range. Smaller cells are hatched instead. */
import { type Colours, css } from "./colormap";
import type { Sheet } from "./layout";
import { MARKED } from "./look";
import { box } from "./overlay";
import { ABOVE_ENTRY, entryOf, type Scale } from "./scale";
import type { CachedTile, TileCache } from "./tile-cache";
import { tileRect, type View, type Wanted } from "./viewport";

interface Marked {
  view: View;
  dpr: number;
  sheet: Sheet;
  colours: Colours;
  scale: Scale;
  tiles: CachedTile[];
}

/** Tiles with cells that are not finite or outside the range, where each cell is drawn by itself. */
export function oddTiles(cache: TileCache, wanted: Wanted, { low, high, curve }: Scale): CachedTile[] {
  if (wanted.row_level + wanted.column_level > 0) return [];
  return wanted.keys.flatMap((key) => {
    const tile = cache.get(key);
    if (!tile) return [];
    const [least, most] = endsOf(tile);
    const outside = curve === "log" ? true : least < low || most > high;
    return tile.bad > 0 || outside ? [tile] : [];
  });
}

/** The smallest and largest finite value of a tile of cells; found once. */
function endsOf(tile: CachedTile): [number, number] {
  const known = found.get(tile);
  if (known) return known;
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of tile.planes.value ?? []) {
    if (!Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  found.set(tile, [low, high]);
  return [low, high];
}

const found = new WeakMap<CachedTile, [number, number]>();

/** NaN is crossed out, infinities point up or down, what lies outside the range has a corner: colour is never the only sign. */
export function drawMarks(context: CanvasRenderingContext2D, scene: Marked): void {
  const { view } = scene;
  if (Math.min(view.rows.scale, view.columns.scale) < MARKED) return;
  const ink = css(scene.colours.mark);
  context.save();
  context.beginPath();
  context.rect(0, 0, view.area.width, view.area.height);
  context.clip();
  context.strokeStyle = ink;
  context.lineWidth = 1.25;
  for (const tile of scene.tiles) {
    const plane = tile.planes.value;
    if (!plane) continue;
    const area = tileRect(scene.sheet, tile.key);
    for (let i = 0; i < plane.length; i++) {
      const value = plane[i] as number;
      const finite = Number.isFinite(value);
      const entry = finite ? entryOf(value, scene.scale) : 0;
      if (finite && entry < ABOVE_ENTRY) continue;
      const row = area.row0 + Math.floor(i / tile.columns);
      const column = area.column0 + (i % tile.columns);
      if (row >= scene.sheet.blank.row && column >= scene.sheet.blank.column) continue;
      const { x, y, width, height } = box(scene, { row0: row, row1: row + 1, column0: column, column1: column + 1 });
      if (x > view.area.width || y > view.area.height || x + width < 0 || y + height < 0) continue;
      if (finite) {
        corner(context, scene, { x, y, width, height }, entry === ABOVE_ENTRY);
        continue;
      }
      context.fillStyle = ink;
      const size = Math.min(width, height) * 0.25;
      const cx = x + width / 2;
      const cy = y + height / 2;
      context.beginPath();
      if (Number.isNaN(value)) {
        context.moveTo(cx - size, cy - size);
        context.lineTo(cx + size, cy + size);
        context.moveTo(cx + size, cy - size);
        context.lineTo(cx - size, cy + size);
        context.stroke();
      } else {
        const up = value > 0 ? -size : size;
        context.moveTo(cx, cy + up);
        context.lineTo(cx + size, cy - up);
        context.lineTo(cx - size, cy - up);
        context.fill();
      }
    }
  }
  context.restore();
}

/** Above the range: the upper right corner is cut off in the colour of the stage; below it, the lower right one. */
function corner(
  context: CanvasRenderingContext2D,
  { colours }: Marked,
  { x, y, width, height }: { x: number; y: number; width: number; height: number },
  above: boolean,
): void {
  const size = Math.min(width, height, 24) * 0.36;
  const at = above ? y : y + height;
  context.beginPath();
  context.moveTo(x + width, at);
  context.lineTo(x + width - size, at);
  context.lineTo(x + width, above ? at + size : at - size);
  context.fillStyle = css(colours.background);
  context.fill();
}
