/** What a key does in a tree (WAI-ARIA practices). Pure: says what, does nothing. */
import type { Row } from "./tree-model";

export type Move =
  | { do: "go"; to: number }
  | { do: "unfold"; row: Row }
  | { do: "fold"; row: Row }
  | { do: "unfold-siblings"; row: Row }
  | { do: "activate"; row: Row };

const PAGE = 12;

export function treeMove(key: string, rows: readonly Row[], active: number): Move | null {
  const row = rows[active];
  if (!row) return rows.length > 0 ? { do: "go", to: 0 } : null;
  const clamp = (to: number): Move => ({ do: "go", to: Math.max(0, Math.min(rows.length - 1, to)) });
  switch (key) {
    case "ArrowDown":
      return clamp(active + 1);
    case "ArrowUp":
      return clamp(active - 1);
    case "Home":
      return clamp(0);
    case "End":
      return clamp(rows.length - 1);
    case "PageDown":
      return clamp(active + PAGE);
    case "PageUp":
      return clamp(active - PAGE);
    case "ArrowRight":
      if (row.node.children.length === 0) return null;
      return row.expanded ? clamp(active + 1) : { do: "unfold", row };
    case "ArrowLeft": {
      if (row.expanded) return { do: "fold", row };
      const parent = rows.findIndex((other) => other.node === row.node.parent);
      return parent < 0 ? null : { do: "go", to: parent };
    }
    case "*":
      return { do: "unfold-siblings", row };
    case "Enter":
    case " ":
      return { do: "activate", row };
    default:
      return null;
  }
}

/** The next row, from the active one on, whose label begins with what was typed. A single letter moves on to the next such row. */
export function typeAhead(typed: string, rows: readonly Row[], active: number): number {
  const text = typed.toLowerCase();
  const from = text.length === 1 ? active + 1 : Math.max(0, active);
  for (let step = 0; step < rows.length; step += 1) {
    const at = (from + step) % rows.length;
    if (rows[at]?.node.label.toLowerCase().startsWith(text)) return at;
  }
  return -1;
}
