/** What a renderer is given and what it can be asked. WebGL and Canvas2D draw the same picture from the same scene. */
import type { Colours, Rgb } from "./colormap";
import type { Rect } from "./layout";
import type { Scale } from "./scale";
import type { Plane } from "./tile-cache";

/** A tile, or the part of it that stands in for a finer one. */
export interface DrawTile {
  plane: Plane;
  rows: number;
  columns: number;
  row_level: number;
  column_level: number;
  /** First bin of the tile, in bins of its level. */
  row: number;
  column: number;
  /** Sheet cells that it may cover. */
  clip: Rect;
  /** The same in device pixels. */
  x0: number;
  x1: number;
  y0: number;
  y1: number;
}

export interface Scene {
  /** Device pixels. */
  width: number;
  height: number;
  /** Sheet cell under each device pixel, -1 for none. */
  rows: Int32Array;
  columns: Int32Array;
  blank: { row: number; column: number };
  /** Coarse before fine: later ones cover earlier ones. */
  tiles: DrawTile[];
  /** Whether they cover every cell in sight: nothing is then drawn below them. */
  whole: boolean;
  colours: Colours;
  scale: Scale;
  /** Whether cells are too small for marks: what is not finite is then hatched. */
  hatched: boolean;
}

export interface Renderer {
  readonly kind: "webgl" | "canvas2d";
  readonly canvas: HTMLCanvasElement;
  draw(scene: Scene): void;
  /** Colour at a device pixel as it was drawn. */
  readPixel(x: number, y: number): Rgb;
  dispose(): void;
}
