/** Colour tables: one of our own around 0, for light and for dark, and matplotlib's, which come from the kernel. Pure. */
import { ABOVE_ENTRY, BELOW_ENTRY, NAN_ENTRY, NEGATIVE_ENTRY, POSITIVE_ENTRY } from "./scale";

export type Rgb = [red: number, green: number, blue: number];

/** A map of the kernel: 256 times red, green, blue; entries 1 and 255 are the ends. */
export interface ColourMap {
  name: string;
  kind: "diverging" | "sequential";
  table: Uint8Array;
}

export interface Colours {
  /** 256 RGBA entries; 1 and 255 are the ends. Then NaN, +inf, -inf, what lies above the range and below. */
  table: Uint8Array<ArrayBuffer>;
  /** The stage behind the cells. */
  background: Rgb;
  /** Cells whose tile has not come yet. */
  waiting: Rgb;
  /** What is drawn on cells that are not finite, and on those outside the range. */
  mark: Rgb;
}

export const ENTRIES = 261;

interface Palette {
  negative: Rgb;
  middle: Rgb;
  positive: Rgb;
  nan: Rgb;
  positive_infinity: Rgb;
  negative_infinity: Rgb;
  background: Rgb;
  waiting: Rgb;
  mark: Rgb;
  /** Towards this the ends go on, for what lies outside. */
  beyond: Rgb;
}

const LIGHT: Palette = {
  negative: [33, 102, 172],
  middle: [246, 246, 247],
  positive: [178, 40, 43],
  nan: [226, 50, 200],
  positive_infinity: [255, 176, 0],
  negative_infinity: [0, 158, 140],
  background: [251, 251, 252],
  waiting: [241, 242, 245],
  mark: [38, 22, 40],
  beyond: [16, 12, 24],
};

const DARK: Palette = {
  negative: [88, 164, 240],
  middle: [38, 41, 48],
  positive: [240, 120, 90],
  nan: [240, 84, 214],
  positive_infinity: [255, 186, 40],
  negative_infinity: [50, 200, 170],
  background: [17, 19, 23],
  waiting: [26, 28, 33],
  mark: [24, 12, 26],
  beyond: [255, 255, 255],
};

/**
 * Below 1, small values keep some colour: most weights are far smaller than the largest. The colour bar is drawn from the
 * same table, so that it stays true.
 */
const GAMMA = 0.8;

const mix = (from: Rgb, to: Rgb, share: number): Rgb =>
  from.map((each, i) => Math.round(each + ((to[i] as number) - each) * share)) as Rgb;

/** Our own colours: from the middle to both ends, or for what is never negative from the middle to one. */
function own(palette: Palette, diverging: boolean, entry: number): Rgb {
  const t = diverging ? Math.max(-1, (entry - 128) / 127) : Math.max(0, (entry - 1) / 254);
  return mix(palette.middle, t < 0 ? palette.negative : palette.positive, Math.abs(t) ** GAMMA);
}

function build(palette: Palette, diverging: boolean, map: ColourMap | null): Colours {
  const table = new Uint8Array(ENTRIES * 4);
  const set = (entry: number, [red, green, blue]: Rgb) => table.set([red, green, blue, 255], entry * 4);
  for (let entry = 0; entry < 256; entry++) {
    if (map) table.set([...map.table.subarray(entry * 3, entry * 3 + 3), 255], entry * 4);
    else set(entry, own(palette, diverging, entry));
  }
  set(NAN_ENTRY, palette.nan);
  set(POSITIVE_ENTRY, palette.positive_infinity);
  set(NEGATIVE_ENTRY, palette.negative_infinity);
  set(ABOVE_ENTRY, mix(rgb({ table }, 255), palette.beyond, 0.45));
  set(BELOW_ENTRY, mix(rgb({ table }, 1), palette.beyond, 0.45));
  return { ...palette, table };
}

const made = new Map<string, { of: ColourMap | null; colours: Colours }>();

/** The colours of a map, or our own without one; the same object for the same question. */
export function colours(dark: boolean, map: ColourMap | null = null, diverging = true): Colours {
  const key = `${dark} ${map?.name ?? diverging}`;
  const known = made.get(key);
  if (known?.of === map) return known.colours;
  const fresh = build(dark ? DARK : LIGHT, diverging, map);
  made.set(key, { of: map, colours: fresh });
  return fresh;
}

/** The same colours with all but the entries from `first` to `last` faded into the background. */
export function spotlight(of: Colours, first: number, last: number): Colours {
  const table = of.table.slice();
  for (let entry = 0; entry < ENTRIES; entry++) {
    if (entry >= first && entry <= last) continue;
    table.set([...mix(rgb(of, entry), of.background, 0.82), 255], entry * 4);
  }
  return { ...of, table };
}

export function rgb(of: { table: Uint8Array }, entry: number): Rgb {
  const { table } = of;
  return [table[entry * 4] ?? 0, table[entry * 4 + 1] ?? 0, table[entry * 4 + 2] ?? 0];
}

export const css = ([red, green, blue]: Rgb, alpha = 1): string =>
  alpha === 1 ? `rgb(${red},${green},${blue})` : `rgba(${red},${green},${blue},${alpha})`;
