/** What messages tell of pictures: layouts, tiles, numbers of one tensor and of many. */
import type { TileKey } from "./protocol";

export interface Layout {
  rows: number[];
  columns: number[];
  facets: number[];
  wrap: number;
  labels: string[];
  shape: number[];
  /** Axes that show one of their indices. */
  fixed: [axis: number, index: number][];
  groups: Group[];
  /** The norm layer that follows with one scale per output; empty: there is none. */
  norm: string;
  orders: { axis: number; by: string; token: string }[];
}

/** Stretches of an axis that belong together, for each axis the outermost first. */
export interface Group {
  axis: number;
  name: string;
  starts: number[];
  labels: string[];
  source: string;
}

/** The last two are of the norm layer behind. */
export type Statistic = "norm" | "mean" | "zeros" | "largest" | "scale" | "shift";
export type OrderBy = "norm" | "mean" | "zeros" | "similar";

/** What a request may ask of a layout; roles not given are as the layer suggests. */
export interface LayoutCall {
  rows?: number[];
  columns?: number[];
  facets?: number[];
  fixed?: [axis: number, index: number][];
  /** Makes an order of an axis. */
  sort?: [axis: number, by: OrderBy][];
  /** Orders that were made before. */
  orders?: string[];
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

export type TilePlane = "mean" | "min" | "max" | "rms" | "extreme";

/** The room that a picture has, in device pixels, and the planes that it draws. */
export interface Screen {
  rows: number;
  columns: number;
  planes?: TilePlane[];
}

export interface TileHead {
  at: TileKey;
  rows: number;
  columns: number;
  encoding: "f32" | "q8";
  planes: (TilePlane | "value")[];
  scale?: [number, number][];
  offset: number;
  nan: number;
  inf: number;
}

/** What else of a tensor can be shown, where the shown numbers come from, and whether they can be negative. */
export interface ViewInfo {
  views: string[];
  about: string;
  signed: boolean;
}

/** One row per tensor; 24 bytes each in the buffer are the bars of its histogram. Without values: `reason`, and nulls. */
export interface GlanceColumns {
  name: string[];
  count: number[];
  nan: number[];
  inf: number[];
  zero: number[];
  sampled: number[];
  min: (number | null)[];
  max: (number | null)[];
  mean: (number | null)[];
  std: (number | null)[];
  l2: (number | null)[];
  low: (number | null)[];
  high: (number | null)[];
  reason: string[];
}

/** Pictures of at most 32 x 32 bins, one after another in the buffer: 128 is 0, 1 and 255 the limits, 0 is not finite. */
export interface ThumbnailColumns {
  name: string[];
  rows: number[];
  columns: number[];
  limit: (number | null)[];
  sampled: boolean[];
}

export interface BarCounts {
  counts: number[];
  above: number;
  below: number;
  /** Whether every cell is in `above` and `below`. */
  exact: boolean;
  /** How many cells the counts come from. */
  sampled: number;
}

export interface Spectrum {
  matrix: [number, number];
  values: number[];
  effective_rank: number;
  stable_rank: number;
  edge: number;
  above_edge: number;
  exact: boolean;
}

export type FindWhat = "largest" | "smallest" | "magnitude" | "nan" | "inf" | "nearest";
