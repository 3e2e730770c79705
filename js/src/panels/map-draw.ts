/** Draws the visible strip of the model map, pixel by pixel: thousands of tiles in one image. */
import { type Colours, type Rgb, rgb } from "../heatmap/colormap";
import { NAN_ENTRY } from "../heatmap/scale";
import type { Thumbnail } from "../state/thumbnails";
import type { MapLayout } from "./map-layout";

/** 32-bit pixels as an ImageData holds them. */
export type Pixel = number;

export const pixel = (red: number, green: number, blue: number): Pixel =>
  (0xff << 24) | (blue << 16) | (green << 8) | red;

export interface Strip {
  layout: MapLayout;
  from: number;
  to: number;
  /** Scroll position, and pixels of the screen per pixel of the page. */
  top: number;
  dpr: number;
}

export type Fill =
  | { picture: Thumbnail; table: Uint32Array }
  | { colour: Pixel }
  /** There is nothing to show: lines instead of a colour, which might be taken for one of a value. */
  | { lines: Pixel; ground: Pixel };

/** Pixels of the page from one line to the next. */
const LINES = 5;

export function drawStrip(
  into: Uint32Array,
  width: number,
  height: number,
  strip: Strip,
  fill: (at: number) => Fill,
): void {
  const { layout, top, dpr } = strip;
  const side = Math.max(1, Math.round(layout.side * dpr));
  for (let at = strip.from; at < strip.to; at += 1) {
    const left = Math.round((layout.x[at] as number) * dpr);
    const above = Math.round(((layout.y[at] as number) - top) * dpr);
    const what = fill(at);
    const right = Math.min(width, left + side);
    for (let row = Math.max(0, above); row < Math.min(height, above + side); row += 1) {
      const line = row * width;
      if ("colour" in what) {
        into.fill(what.colour, line + left, line + right);
        continue;
      }
      if ("lines" in what) {
        const step = Math.round(LINES * dpr);
        for (let x = left; x < right; x += 1) {
          into[line + x] = (x - left + row - above) % step < dpr ? what.lines : what.ground;
        }
        continue;
      }
      const { rows, columns, codes } = what.picture;
      const start = Math.floor(((row - above) * rows) / side) * columns;
      for (let x = left; x < right; x += 1) {
        into[line + x] = what.table[codes[start + Math.floor(((x - left) * columns) / side)] as number] as number;
      }
    }
  }
}

/** Codes of a small picture where there is no number: NaN or inf, and nothing at all. */
const NOT_FINITE = 0;
const NO_CELL = 1;

/** A colour for each code of a small picture. */
export function inks(of: Colours): Uint32Array {
  const ink = (colour: Rgb): Pixel => pixel(...colour);
  const table = new Uint32Array(256);
  for (let code = 2; code < 255; code += 1) table[code] = ink(rgb(of, 128 + Math.round(((code - 128) * 127) / 126)));
  table[NOT_FINITE] = ink(rgb(of, NAN_ENTRY));
  table[NO_CELL] = ink(of.background);
  return table;
}

/** Whether every cell that the small picture shows is 0. */
export const isZero = (picture: Thumbnail | undefined): boolean =>
  picture?.codes.includes(128) === true && picture.codes.every((code) => code === 128 || code === NO_CELL);

/** Light to dark, and dark to light on a dark page: five stops, straight lines between them. */
const LIGHT = [
  [232, 238, 246],
  [185, 211, 236],
  [111, 168, 216],
  [47, 117, 181],
  [18, 63, 115],
] as const;
const DARK = [
  [38, 46, 58],
  [44, 86, 128],
  [61, 131, 191],
  [121, 181, 234],
  [213, 234, 255],
] as const;

export function shade(share: number, dark: boolean): [number, number, number] {
  const stops = dark ? DARK : LIGHT;
  const at = Math.max(0, Math.min(1, share)) * (stops.length - 1);
  const low = Math.min(stops.length - 2, Math.floor(at));
  const [a, b] = [stops[low], stops[low + 1]] as [readonly number[], readonly number[]];
  return [0, 1, 2].map((i) => Math.round((a[i] as number) + ((b[i] as number) - (a[i] as number)) * (at - low))) as [
    number,
    number,
    number,
  ];
}

/** Share of the range for each number, on a log scale where that is asked for; null without a number. */
export function scaleOf(values: readonly (number | null)[], log: boolean) {
  const known = values.filter(
    (value): value is number => value !== null && Number.isFinite(value) && (!log || value > 0),
  );
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const value of known) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  const map = log ? Math.log : (value: number) => value;
  return {
    low,
    high,
    known: known.length,
    share(value: number | null): number | null {
      if (value === null || !Number.isFinite(value) || (log && value < 0)) return null;
      if (log && value === 0) return 0;
      return high > low ? (map(value) - map(low)) / (map(high) - map(low)) : 0.5;
    },
  };
}
