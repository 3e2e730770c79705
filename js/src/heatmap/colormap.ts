/** Value to colour: diverging around 0, one table for light and one for dark, and colours of their own for NaN and infinity. */
import type { Summary } from "../kernel/protocol";
import type { Range } from "../state/store";

export type Rgb = [red: number, green: number, blue: number];

export interface Colours {
  /** 256 RGBA entries; entry 128 is 0, entries 1 and 255 are the ends. Then NaN, +inf, -inf. */
  table: Uint8Array<ArrayBuffer>;
  /** The stage behind the cells. */
  background: Rgb;
  /** Cells whose tile has not come yet. */
  waiting: Rgb;
  /** What is drawn on cells that are not finite. */
  mark: Rgb;
}

export const NAN_ENTRY = 256;
export const POSITIVE_ENTRY = 257;
export const NEGATIVE_ENTRY = 258;
export const ENTRIES = 259;

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
}

const LIGHT: Palette = {
  negative: [33, 102, 172],
  middle: [246, 246, 247],
  positive: [178, 40, 43],
  nan: [245, 200, 66],
  positive_infinity: [190, 60, 190],
  negative_infinity: [20, 160, 140],
  background: [251, 251, 252],
  waiting: [241, 242, 245],
  mark: [60, 40, 0],
};

const DARK: Palette = {
  negative: [88, 164, 240],
  middle: [38, 41, 48],
  positive: [240, 120, 90],
  nan: [236, 200, 70],
  positive_infinity: [220, 110, 230],
  negative_infinity: [50, 200, 170],
  background: [17, 19, 23],
  waiting: [26, 28, 33],
  mark: [30, 22, 0],
};

/**
 * Below 1, small values keep some colour: most weights are far smaller than the largest. The colour bar is drawn from the
 * same table, so that it stays true.
 */
const GAMMA = 0.8;

function build(palette: Palette): Colours {
  const table = new Uint8Array(ENTRIES * 4);
  const set = (entry: number, [red, green, blue]: Rgb) => table.set([red, green, blue, 255], entry * 4);
  for (let entry = 0; entry < 256; entry++) {
    const t = Math.max(-1, (entry - 128) / 127);
    const end = t < 0 ? palette.negative : palette.positive;
    const share = Math.abs(t) ** GAMMA;
    set(entry, palette.middle.map((from, i) => Math.round(from + ((end[i] as number) - from) * share)) as Rgb);
  }
  set(NAN_ENTRY, palette.nan);
  set(POSITIVE_ENTRY, palette.positive_infinity);
  set(NEGATIVE_ENTRY, palette.negative_infinity);
  return { table, background: palette.background, waiting: palette.waiting, mark: palette.mark };
}

const light = build(LIGHT);
const dark = build(DARK);

export const colours = (is_dark: boolean): Colours => (is_dark ? dark : light);

/** Entry of the table for a value; `limit` is the value of the strongest colour. 0 is always exactly the middle. */
export function entryOf(value: number, limit: number): number {
  if (Number.isNaN(value)) return NAN_ENTRY;
  if (value === Number.POSITIVE_INFINITY) return POSITIVE_ENTRY;
  if (value === Number.NEGATIVE_INFINITY) return NEGATIVE_ENTRY;
  return 128 + Math.floor(Math.max(-1, Math.min(1, value / limit)) * 127 + 0.5);
}

export function rgb(of: Colours, entry: number): Rgb {
  const { table } = of;
  return [table[entry * 4] ?? 0, table[entry * 4 + 1] ?? 0, table[entry * 4 + 2] ?? 0];
}

export const css = ([red, green, blue]: Rgb, alpha = 1): string =>
  alpha === 1 ? `rgb(${red},${green},${blue})` : `rgba(${red},${green},${blue},${alpha})`;

/** The magnitude at the end of the colour bar; never 0, so that a tensor of zeros is drawn in the middle colour. */
export function limitOf(range: Range, summary: Summary | null): number {
  const largest = Math.max(Math.abs(summary?.min ?? 0), Math.abs(summary?.max ?? 0));
  let limit = largest;
  if (range.kind === "typed") limit = Math.abs(range.limit);
  else if (range.kind === "robust" && summary) limit = robust(summary) || largest;
  return Number.isFinite(limit) && limit > 0 ? limit : 1;
}

/** The larger magnitude of the quantiles nearest to 0.25 % and 99.75 %: half a percent of the cells lie outside. */
function robust(summary: Summary): number {
  const near = (q: number): number => {
    let best: [number, number] | undefined;
    for (const each of summary.quantiles) if (!best || Math.abs(each[0] - q) < Math.abs(best[0] - q)) best = each;
    return Math.abs(best?.[1] ?? 0);
  };
  return Math.max(near(0.0025), near(0.9975));
}
