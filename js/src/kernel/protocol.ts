/** The messages of docs/protocol.md. Field names are the wire's: snake_case on both sides. */
import type {
  BarCounts,
  FindWhat,
  GlanceColumns,
  Layout,
  LayoutCall,
  RegionInfo,
  Screen,
  Spectrum,
  Statistic,
  Summary,
  ThumbnailColumns,
  TileHead,
  TilePlane,
  ViewInfo,
} from "./pictures";

export type * from "./pictures";

import type { CheckupOperations } from "./checkup";

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

/**
 * Columns as they travel, made lists: a long one that repeats itself comes as `{of, at, count}`, where row i is `of[at[i]]`, or
 * `of[0]` where `at` is empty. Rows share its values.
 */
export function unpack(columns: Record<string, unknown>): Record<string, unknown> {
  const made: Record<string, unknown> = {};
  for (const [key, column] of Object.entries(columns)) {
    const { of, at, count } = column as { of: unknown[]; at: number[]; count: number };
    if (Array.isArray(column)) made[key] = column;
    else made[key] = at.length === 0 ? new Array(count).fill(of[0]) : at.map((number) => of[number]);
  }
  return made;
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
  /** Cells that were put under a hold; less than 0: released from one. */
  held: number;
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
  /** Of the parameter itself, and of the optimizer's step, where its rule is known. */
  weight: number | null;
  step: number | null;
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
  advice: string;
  /** Whether a repair is likely. */
  mends: boolean;
  /** The check before did not have it. */
  new: boolean;
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
  /** How far the model's output has moved since the check before; KL where the loss takes it as logits. */
  output: { cosine: number | null; relative_l2: number | null; kl: number | null } | null;
}

export interface Hold {
  id: number;
  name: string;
  kind: "keep" | "clamp" | "sign" | "tie" | "rule";
  text: string;
  cells: number;
  /** Of listed cells their bounds: then `cells` is less than what the ranges hold, and `held` tells which. */
  axes: [number, number, number][];
}

export interface LabState {
  auto_check: boolean;
  holds: Hold[];
  snapshots: string[];
  /** Labels of other models that Python offered to copy from. */
  offers: string[];
  /** Whether the optimizer keeps moments beside the weights by now. */
  moments: boolean;
  history: History;
  gradients: Gradients | null;
  /** Grows whenever the kernel has read the model's structure again. */
  readings: number;
  diagnosed: { number: number; revision: number };
  undo_bytes: number;
  undo_limit: number;
}

/** A number as JSON, or the text that the user typed. */
export type NumberText = number | string;

interface Value {
  value: NumberText;
}
type Nothing = Record<string, never>;
type Seed = NumberText | null;

/** Values of a snapshot or an offered model: of the tensor of the same name and the same cells, unless said otherwise. */
interface Source {
  source: string;
  tensor?: string;
  part?: string;
}

/** Arguments of each operation, named as in Python. */
export interface EditArguments {
  zero_: Nothing;
  fill_: Value;
  add_: Value;
  sub_: Value;
  mul_: Value;
  div_: Value;
  copy_: { values: NumberText[] } | Source;
  lerp_: Source & { weight: NumberText };
  clamp_: { min: NumberText | null; max: NumberText | null };
  neg_: Nothing;
  abs_: Nothing;
  round_: Nothing;
  sign_: Nothing;
  normal_: { mean: NumberText; std: NumberText; seed: Seed };
  uniform_: { a: NumberText; b: NumberText; seed: Seed };
  /** What the function of torch.nn.init takes; what is left out is torch's own. */
  init_: { method: string; seed?: Seed } & Partial<Record<string, NumberText | null>>;
  permute_: { axis: NumberText; order: NumberText[] };
  prune_: { amount: NumberText; by: "magnitude" | "random"; axis?: NumberText; seed?: Seed };
  quantize_: { bits: NumberText; axis?: NumberText };
  requires_grad_: { flag: boolean };
}
export type EditCall = { [E in keyof EditArguments]: { edit: E; args: EditArguments[E] } }[keyof EditArguments];

export type Moments = "keep" | "zero";

export type HoldCall = { kind: "keep" | "sign" } | { kind: "clamp"; min: NumberText | null; max: NumberText | null };

/** Which cells of a region are meant: by size of |w|, so many of them, or those of a kind. */
export interface Where {
  kind: "below" | "above" | "smallest" | "largest" | "nan" | "zero" | "between" | "size_between";
  /** Two of them for what lies between. */
  value: NumberText | [NumberText, NumberText] | null;
  /** Whose numbers decide; the values themselves when absent. */
  view?: string;
}

/** The cells that an operation is about; with `cells` a buffer of flat row-major indices travels beside it. */
export type Target = { name: string } & ({ region: string; where?: Where } | { cells: true });

export interface Preview {
  text: string;
  cells: number;
  changed: number;
  before: [number, number] | null;
  after: [number, number] | null;
  /** How many cells would be stored otherwise than asked, and the first of them. */
  rounded: number;
  requested: string;
  stored: string;
  region: RegionInfo;
  truncated: boolean;
}

export interface DiffRow {
  name: string;
  cells: number | null;
  max: number | null;
  mean: number | null;
  relative_l2: number | null;
  cosine: number | null;
  note: string;
}

export interface TransferRow {
  name: string;
  source: string;
  status: "copied" | "equal" | "left";
  note: string;
}

export interface Done {
  entry: Entry | null;
  state: LabState;
}

export interface Hello {
  model: ModelInfo;
  tensors: TensorColumns;
  modules: ModuleColumns;
  state: LabState;
}

/** Fields and reply of each operation; `v`, `id`, `op` and `ok` are added by the client. */
export interface Operations extends CheckupOperations {
  hello: { request: Record<string, never>; reply: Hello };
  script: { request: Record<string, never>; reply: { bytes: number } };
  refresh: { request: Record<string, never>; reply: Hello };
  open: {
    request: { name: string; view?: string; layout?: LayoutCall; screen?: Screen };
    reply: {
      name: string;
      layout: Layout;
      summary: Summary;
      cell_bytes: number;
      exact_text: boolean;
      tiles: TileHead[];
    } & ViewInfo;
  };
  summary: { request: { name: string; view?: string }; reply: { name: string; summary: Summary } };
  tiles: {
    request: {
      name: string;
      view?: string;
      layout?: LayoutCall;
      tiles: TileKey[];
      encoding: "f32" | "q8";
      planes?: TilePlane[];
    };
    reply: { name: string; tiles: TileHead[]; left: TileKey[] };
  };
  profile: {
    request: { name: string; view?: string; axis: number; stat: Statistic };
    reply: { name: string; axis: number; stat: Statistic };
  };
  read: { request: { name: string; view?: string; cells: number[][] }; reply: { name: string; texts: string[] } };
  glances: { request: { names: string[]; view?: string }; reply: { glances: GlanceColumns; left: string[] } };
  thumbnails: { request: { names: string[] }; reply: { thumbnails: ThumbnailColumns; left: string[] } };
  /** The histogram on the range that is looked at: cells between edges, from the lower end of the bar on. */
  bar: {
    request: { name: string; view?: string; edges: number[]; range: [number, number]; size?: boolean };
    reply: { name: string; bar: BarCounts };
  };
  spectrum: {
    request: { name: string; view?: string; stop?: boolean };
    reply: { name: string; share: number; spectrum: Spectrum | null };
  };
  find: {
    request: { name: string; what: FindWhat; view?: string; after?: number[]; value?: NumberText; back?: boolean };
    reply: { name: string; cell: number[] | null; text: string };
  };
  values: {
    request: Target & { form: "tsv" | "torch"; view?: string };
    reply: { name: string; text: string; cells: number };
  };
  region: { request: { name: string; text: string; where?: Where }; reply: { name: string; region: RegionInfo } };
  extent: { request: Record<string, never>; reply: { low: number; high: number } };
  /** 256 x 3 bytes of red, green, blue for each in the buffer. */
  colours: { request: Record<string, never>; reply: { maps: { name: string; kind: "diverging" | "sequential" }[] } };
  /** `behind`: the norm layer that still speaks for a zeroed filter, if there is one; `linked` zeroes it too. */
  edit: {
    request: Target & EditCall & { linked?: boolean; moments?: Moments };
    reply: Done & { behind: string | null };
  };
  preview: { request: Target & EditCall; reply: { name: string; preview: Preview } };
  hold: { request: Target & HoldCall; reply: Done };
  release: { request: { hold: number }; reply: Done };
  held: { request: { hold: number }; reply: { hold: number; truncated: boolean } };
  jump: { request: { entry: number; force?: boolean }; reply: { state: LabState } };
  snapshot: { request: { label: string }; reply: { state: LabState } };
  drop: { request: { label: string }; reply: { state: LabState } };
  diff: { request: { label: string }; reply: { label: string; rows: DiffRow[]; equal: number } };
  restore: { request: { label: string; name?: string }; reply: Done };
  transfer: {
    request: { label: string; weight?: NumberText; plan?: boolean };
    reply: Done & { label: string; rows: TransferRow[] };
  };
  export: { request: { what: "python" | "recipe" }; reply: { text: string } };
  save: { request: { file: string; replace?: boolean }; reply: { file: string; bytes: number } };
  undo: { request: { force?: boolean }; reply: Done };
  redo: { request: { force?: boolean }; reply: Done };
  check: { request: Record<string, never>; reply: { state: LabState } };
  /** Ends another request, which then replies "Cancelled"; false: it had its reply already. */
  cancel: { request: { request: string }; reply: { cancelled: boolean } };
  set: { request: { auto_check: boolean }; reply: { state: LabState } };
}

export type Op = keyof Operations;

/** How far the request `id` is. */
export interface ProgressPush {
  v: 1;
  push: "progress";
  id: string;
  done: number;
  total: number;
  words: string;
}

export type Push =
  | ProgressPush
  | { v: 1; push: "changed"; revision: number; changed: [string, Bounds][]; state: LabState }
  | { v: 1; push: "status"; queued: number };
