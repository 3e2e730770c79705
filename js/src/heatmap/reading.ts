/** The texts about a cell, a bin and a screen of bins. Pure. */
import type { TileKey } from "../kernel/protocol";
import type { Cell, Sheet } from "./layout";
import { indexText, short } from "./numbers";
import type { Reading } from "./readout";
import type { CachedTile, TileCache } from "./tile-cache";
import { TILE, type Wanted } from "./viewport";

/** "[3, 0, 1, 2] = -0.0412" */
export const line = ({ index, text }: Reading): string => `${indexText(index)} = ${text ?? "…"}`;

/** The tile of the wanted level that holds a cell. */
export const keyAt = ({ row_level, column_level }: Wanted, row: number, column: number): TileKey => [
  row_level,
  column_level,
  Math.floor(row / (TILE * 2 ** row_level)),
  Math.floor(column / (TILE * 2 ** column_level)),
];

export function binOf(tile: CachedTile, row: number, column: number): number {
  const [row_level, column_level, r, c] = tile.key;
  return (
    (Math.floor(row / 2 ** row_level) - r * TILE) * tile.columns + Math.floor(column / 2 ** column_level) - c * TILE
  );
}

/** The value of a cell, where a fresh float32 tile holds it. */
export function exactValue(cache: TileCache, { row, column }: Cell): number | null {
  const tile = cache.get([0, 0, Math.floor(row / TILE), Math.floor(column / TILE)]);
  if (!tile || tile.stale || tile.encoding !== "f32") return null;
  return tile.planes.value?.[binOf(tile, row, column)] ?? null;
}

/** `range`: of the cells in the bin, where it is known. */
export function binText(sheet: Sheet, wanted: Wanted, { row, column }: Cell, range: [number, number] | null): string {
  const height = 2 ** wanted.row_level;
  const width = 2 ** wanted.column_level;
  if (!range || height * width === 1) return "";
  const [low, high] = range;
  const rows = Math.min(height, sheet.rows - Math.floor(row / height) * height);
  const columns = Math.min(width, sheet.columns - Math.floor(column / width) * width);
  return rows * columns > 1 ? `1 of ${rows * columns} cells, ${short(low)} … ${short(high)}` : "";
}

export function legendOf({ row_level, column_level }: Wanted, sheet: Sheet): string {
  const rows = Math.min(2 ** row_level, sheet.rows);
  const columns = Math.min(2 ** column_level, sheet.columns);
  if (rows * columns <= 1) return "";
  return `each pixel: ${rows} × ${columns} cells,`;
}
