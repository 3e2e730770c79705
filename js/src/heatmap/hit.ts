/** What lies under a point of the picture: a cell, a label, the frame of a block, or nothing. Pure. */
import { type Axis, cellAt, extent } from "./axis";
import { blockRegion, columnAt, facetRegion, type Label, labelAt, type Named, rowAt } from "./labels";
import { isBlank, type Sheet } from "./layout";
import type { Point, Target } from "./tools";
import type { View } from "./viewport";

interface Along {
  /** The nearest cell on screen; in a gap that of the block before it, whose frame the gap is. */
  cell: number;
  gap: boolean;
  inside: boolean;
}

function along(axis: Axis, origin: number, at: number, room: number): Along {
  const on_screen = Math.max(0, Math.min(room - 0.01, at));
  const { at: found, gap } = cellAt(axis, on_screen - origin);
  const cell = gap ? Math.ceil(found) - 1 : Math.floor(found);
  return {
    cell: Math.max(0, Math.min(axis.cells - 1, cell)),
    gap,
    inside: at >= 0 && at < room && at - origin < extent(axis),
  };
}

/** In the margins every row, column and facet can be pointed at, whether its number is printed or not. */
function namedAt(sheet: Sheet, view: View, labels: Label[], x: number, y: number, at: Record<"row" | "column", Along>) {
  if (x < 0) return at.row.inside ? rowAt(sheet, view, at.row.cell) : null;
  const band = labels.find(({ kind, box }) => kind !== "row" && y >= box.y0 && y < box.y1);
  if (!band || !at.column.inside) return null;
  const below = along(view.rows, view.y, band.box.y1 + 1, view.area.height).cell;
  return columnAt(sheet, view, at.column.cell, Math.floor(below / sheet.block_rows));
}

function targetAt(sheet: Sheet, label: Label | null, named: Named | null, row: Along, column: Along): Target {
  if (named && !(named.thin && label)) return { kind: "region", region: named.region, text: named.text };
  if (label) return { kind: "region", region: label.region, text: label.text };
  if (!row.inside || !column.inside || isBlank(sheet, row.cell, column.cell)) return { kind: "nothing" };
  if (!row.gap && !column.gap) return { kind: "cell", cell: { row: row.cell, column: column.cell } };
  if (sheet.facets === 1) {
    return { kind: "region", region: blockRegion(sheet, row.cell, column.cell, row.gap ? "rows" : "columns") };
  }
  const line = Math.floor(row.cell / sheet.block_rows);
  return {
    kind: "region",
    region: facetRegion(sheet, line * sheet.wrap + Math.floor(column.cell / sheet.block_columns)),
  };
}

/** `x` and `y` from the corner of the area, CSS pixels. */
export function hit(sheet: Sheet, view: View, labels: Label[], x: number, y: number): Point {
  const row = along(view.rows, view.y, y, view.area.height);
  const column = along(view.columns, view.x, x, view.area.width);
  const nearest = { row: row.cell, column: column.cell };
  const named = namedAt(sheet, view, labels, x, y, { row, column });
  const inside = row.inside && column.inside && !isBlank(sheet, row.cell, column.cell);
  return { x, y, nearest, inside, target: targetAt(sheet, labelAt(labels, x, y), named, row, column) };
}
