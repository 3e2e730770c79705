/** Which key does what, and where the cursor goes. Pure. */
import { type Cell, isBlank, type Sheet } from "./layout";

export type Command =
  | { kind: "move"; rows: number; columns: number; block: boolean; extend: boolean }
  | { kind: "end"; to: "start" | "stop"; axis: "row" | "sheet"; extend: boolean }
  | { kind: "page"; rows: -1 | 1; extend: boolean }
  | { kind: "select" }
  | { kind: "cancel" }
  | { kind: "reselect"; how: "all" | "invert" | "grow" }
  | { kind: "zoom"; factor: number }
  | { kind: "fit" };

const ARROWS: Record<string, [rows: number, columns: number]> = {
  ArrowUp: [-1, 0],
  ArrowDown: [1, 0],
  ArrowLeft: [0, -1],
  ArrowRight: [0, 1],
};

export interface Key {
  key: string;
  shiftKey: boolean;
  ctrlKey: boolean;
  metaKey: boolean;
  altKey: boolean;
}

export function commandOf({ key, shiftKey, ctrlKey, metaKey, altKey }: Key): Command | null {
  if (altKey) return null;
  const arrow = ARROWS[key];
  const held = ctrlKey || metaKey;
  if (arrow) return { kind: "move", rows: arrow[0], columns: arrow[1], block: held, extend: shiftKey };
  if (key === "Home" || key === "End") {
    return { kind: "end", to: key === "Home" ? "start" : "stop", axis: held ? "sheet" : "row", extend: shiftKey };
  }
  if (held && key === "a") return { kind: "reselect", how: "all" };
  // With Ctrl the rest belongs to the browser and the notebook.
  if (held) return null;
  switch (key) {
    case "PageUp":
      return { kind: "page", rows: -1, extend: shiftKey };
    case "PageDown":
      return { kind: "page", rows: 1, extend: shiftKey };
    case "Enter":
    case " ":
      return { kind: "select" };
    case "Escape":
      return { kind: "cancel" };
    case "+":
    case "=":
      return { kind: "zoom", factor: 1.5 };
    case "-":
    case "_":
      return { kind: "zoom", factor: 1 / 1.5 };
    case "i":
      return { kind: "reselect", how: "invert" };
    case "g":
      return { kind: "reselect", how: "grow" };
    case "0":
    case "f":
      return { kind: "fit" };
    default:
      return null;
  }
}

/** The next start of a block in a direction; the edge of the sheet when there is none. */
function jump(at: number, by: number, blocks: number[], cells: number): number {
  const every = blocks[0] ?? cells;
  const to = by > 0 ? (Math.floor(at / every) + 1) * every : (Math.ceil(at / every) - 1) * every;
  return to >= cells ? cells - 1 : Math.max(0, to);
}

/** Where a command takes the cursor; it stays on cells that exist. `page` is the number of rows on screen. */
export function moveCursor(sheet: Sheet, cursor: Cell, command: Command, page: number): Cell {
  let { row, column } = cursor;
  switch (command.kind) {
    case "move":
      if (command.block) {
        if (command.rows !== 0) row = jump(row, command.rows, sheet.row_blocks, sheet.rows);
        if (command.columns !== 0) column = jump(column, command.columns, sheet.column_blocks, sheet.columns);
      } else {
        row += command.rows;
        column += command.columns;
      }
      break;
    case "end":
      if (command.axis === "sheet") row = command.to === "start" ? 0 : sheet.rows - 1;
      column = command.to === "start" ? 0 : sheet.columns - 1;
      break;
    case "page":
      row += command.rows * Math.max(1, page - 1);
      break;
    case "select":
    case "cancel":
    case "reselect":
    case "zoom":
    case "fit":
      break;
  }
  row = Math.max(0, Math.min(sheet.rows - 1, row));
  column = Math.max(0, Math.min(sheet.columns - 1, column));
  if (!isBlank(sheet, row, column)) return { row, column };
  // The blank corner: along the row back to its last cell, down only as far as there are cells.
  return row !== cursor.row && column === cursor.column
    ? { row: sheet.blank.row - 1, column }
    : { row, column: sheet.blank.column - 1 };
}
