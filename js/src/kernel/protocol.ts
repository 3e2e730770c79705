/** The messages of docs/protocol.md. Field names are the wire's: snake_case on both sides. */

export const VERSION = 1;

export type Kind = "parameter" | "buffer" | "computed";
export type Status = "flowing" | "weak" | "partial" | "zero" | "unreached" | "frozen" | "nonfinite";
/** One `[start, stop]` per axis. */
export type Bounds = [number, number][];
/** `[row_level, column_level, row, column]`. */
export type TileKey = [number, number, number, number];

export interface ModelInfo {
  title: string;
  parameters: number;
  tensors: number;
  devices: string[];
  dtypes: string[];
  training: boolean;
  batch: boolean;
}

export interface TensorColumns {
  name: string[];
  kind: Kind[];
  shape: number[][];
  dtype: string[];
  device: string[];
  requires_grad: boolean[];
  aliases: string[][];
  editable: boolean[];
  reason: string[];
}

export interface ModuleColumns {
  name: string[];
  type: string[];
}

export interface Entry {
  id: number;
  text: string;
  code: string;
  cells: number;
  names: string[];
  rounded: number;
  requested: string[];
  stored: string[];
  changed: [string, Bounds][];
  notes: string[];
}

export interface History {
  entries: Entry[];
  position: number;
}

export interface GradientRow {
  name: string;
  status: Status;
  norm: number | null;
  ratio: number | null;
  was: Status | null;
  zero_units: number;
  units: number;
}

export interface Cause {
  kind: string;
  at: string;
  affects: string[];
  severity: "error" | "warning" | "info";
  title: string;
  text: string;
  evidence: string[];
  name: string | null;
  region: string | null;
}

export interface WireError {
  kind: string;
  message: string;
}

export interface Gradients {
  loss: number | null;
  loss_text: string;
  loss_before: number | null;
  synthetic: string | null;
  rows: GradientRow[];
  causes: Cause[];
  revision: number;
  error: WireError | null;
}

export interface LabState {
  auto_check: boolean;
  history: History;
  gradients: Gradients | null;
  undo_bytes: number;
  undo_limit: number;
}

export interface Layout {
  rows: number[];
  columns: number[];
  facets: number[];
  wrap: number;
  labels: string[];
  shape: number[];
}

export interface Histogram {
  low: number;
  high: number;
  counts: number[];
}

export interface Summary {
  count: number;
  nan: number;
  inf: number;
  zero: number;
  min: number | null;
  max: number | null;
  mean: number | null;
  std: number | null;
  l2: number | null;
  quantiles: [number, number][];
  histogram: Histogram;
  exact: boolean;
  sampled: number;
}

export interface RegionInfo {
  text: string;
  numel: number;
  axes: [number, number, number][];
}

export interface TileHead {
  at: TileKey;
  rows: number;
  columns: number;
  encoding: "f32" | "q8";
  planes: string[];
  scale?: [number, number][];
  offset: number;
  nan: number;
  inf: number;
}

/** A number as JSON, or the text that the user typed. */
export type NumberText = number | string;

export type EditCall =
  | { edit: "zero_"; args: Record<string, never> }
  | { edit: "fill_"; args: { value: NumberText } }
  | { edit: "copy_"; args: { values: NumberText[] } }
  | { edit: "clamp_"; args: { min: NumberText | null; max: NumberText | null } }
  | { edit: "mul_"; args: { value: NumberText } }
  | { edit: "init_"; args: { method: string } };

export interface Hello {
  model: ModelInfo;
  tensors: TensorColumns;
  modules: ModuleColumns;
  state: LabState;
}

/** Fields and reply of each operation; `v`, `id`, `op` and `ok` are added by the client. */
export interface Operations {
  hello: { request: Record<string, never>; reply: Hello };
  refresh: { request: Record<string, never>; reply: Hello };
  open: {
    request: { name: string };
    reply: { name: string; layout: Layout; summary: Summary; cell_bytes: number; exact_text: boolean };
  };
  summary: { request: { name: string }; reply: { name: string; summary: Summary } };
  tiles: {
    request: { name: string; tiles: TileKey[]; encoding: "f32" | "q8" };
    reply: { name: string; tiles: TileHead[]; left: TileKey[] };
  };
  read: { request: { name: string; cells: number[][] }; reply: { name: string; texts: string[] } };
  region: { request: { name: string; text: string }; reply: { name: string; region: RegionInfo } };
  edit: {
    request: { name: string } & ({ region: string } | { cells: true }) & EditCall;
    reply: { entry: Entry | null; state: LabState };
  };
  undo: { request: { force?: boolean }; reply: { entry: Entry | null; state: LabState } };
  redo: { request: { force?: boolean }; reply: { entry: Entry | null; state: LabState } };
  check: { request: Record<string, never>; reply: { state: LabState } };
  set: { request: { auto_check: boolean }; reply: { state: LabState } };
}

export type Op = keyof Operations;

export type Push =
  | { v: 1; push: "changed"; revision: number; changed: [string, Bounds][]; state: LabState }
  | { v: 1; push: "status"; queued: number };
