/** What the user can do. Each action asks the kernel where needed and writes the outcome into the store. */
import type { Bounds, EditCall, RegionInfo, TileHead, TileKey } from "../kernel/protocol";

export interface Actions {
  /** Show a tensor: ask `open`, clear the selection. */
  openTensor(name: string): Promise<void>;
  /** Text of the region box. Asks `region`, sets the selection or the alert. Resolves to null when it does not fit. */
  selectText(text: string): Promise<RegionInfo | null>;
  /** A selection by mouse or keyboard, already known to fit: one [start, stop, step] per axis. */
  selectAxes(axes: [number, number, number][]): void;
  /** Apply an operation to the selection (the whole tensor when there is none). Resolves to true when it was applied. */
  edit(call: EditCall): Promise<boolean>;
  /** Apply to painted cells: flat row-major indices. */
  editCells(call: EditCall, cells: Float64Array): Promise<boolean>;
  undo(force?: boolean): Promise<void>;
  redo(force?: boolean): Promise<void>;
  check(): Promise<void>;
  setAutoCheck(on: boolean): Promise<void>;
  refresh(): Promise<void>;
  /** Exact texts of cells, from the kernel. */
  read(name: string, cells: number[][]): Promise<string[]>;
  /** Tiles of the open tensor. Rejects only when the kernel refuses; waits while the kernel is busy. */
  tiles(
    name: string,
    tiles: TileKey[],
    encoding: "f32" | "q8",
    signal: AbortSignal,
  ): Promise<{ tiles: TileHead[]; left: TileKey[]; buffer: DataView; revision: number }>;
  /** Called when cells changed, by anyone: the heatmap marks its tiles stale. Returns the unsubscribe function. */
  onChanged(callback: (changed: [string, Bounds][] | "everything", revision: number) => void): () => void;
}
