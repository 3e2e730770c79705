/** Numbers in the cells, where those are large enough: as many digits as fit, all of them where they do. */

import { endOf, position } from "./axis";
import type { Colours } from "./colormap";
import { rgb } from "./colormap";
import { CHARACTER } from "./labels";
import { isBlank, type Sheet } from "./layout";
import { short, shortest } from "./numbers";
import { binOf, keyAt } from "./reading";
import { entryOf, type Scale } from "./scale";
import type { TileCache } from "./tile-cache";
import { type View, visible, type Wanted } from "./viewport";

const WIDE = 30;
const TALL = 14;
/** Left and right of a number. */
const AIR = 3;
/** More digits make a wall of them; the read-out has them all. */
const DIGITS = 4;
const SHORT = 6;

/** A number in so many characters, rounded where it has to be; null when even its first digit has no room. */
export function fitted(value: number, dtype: string, exact: boolean, characters: number): string | null {
  // False has a letter more than True: in a narrow column both are numbers.
  if (dtype === "bool" && characters < "False".length) return characters > 0 ? String(Number(value !== 0)) : null;
  const whole = exact ? shortest(value, dtype)?.replace("-", "−") : null;
  if (whole && whole.length <= Math.min(characters, SHORT)) return whole;
  // 24656 never becomes 24660, which would read as a whole number that it is not.
  const before = Math.abs(value) < 1e5 ? Math.floor(Math.log10(Math.max(1, Math.abs(value)))) + 1 : 1;
  for (let digits = Math.max(DIGITS, before); digits >= before; digits--) {
    const text = short(value, digits);
    for (const each of [text, text.replace(/^(−?)0\./, "$1.")]) if (each.length <= characters) return each;
  }
  return null;
}

/** Black on light cells, white on dark ones: by relative luminance, ITU-R BT.709. */
export const inkOn = ([red, green, blue]: readonly number[]): string =>
  0.2126 * (red ?? 0) + 0.7152 * (green ?? 0) + 0.0722 * (blue ?? 0) > 140 ? "#000" : "#fff";

/** `context` is in area coordinates. Whether there was room. */
export function drawNumbers(
  context: CanvasRenderingContext2D,
  {
    sheet,
    view,
    wanted,
    cache,
    dtype,
    exact,
    colours,
    scale,
    mono,
  }: {
    sheet: Sheet;
    view: View;
    wanted: Wanted;
    cache: TileCache;
    dtype: string;
    exact: boolean;
    colours: Colours;
    scale: Scale;
    mono: string;
  },
): void {
  const { rows, columns } = view;
  if (wanted.encoding !== "f32" || rows.scale < TALL || columns.scale < WIDE) return;
  const seen = visible(view);
  const characters = Math.floor((columns.scale - 2 * AIR) / CHARACTER);
  context.save();
  context.beginPath();
  context.rect(0, 0, view.area.width, view.area.height);
  context.clip();
  context.font = `10px ${mono}`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (let row = seen.row0; row < seen.row1; row++) {
    const y = view.y + (position(rows, row) + endOf(rows, row + 1)) / 2;
    for (let column = seen.column0; column < seen.column1; column++) {
      if (isBlank(sheet, row, column)) continue;
      const tile = cache.get(keyAt(wanted, row, column));
      const value = tile?.planes.value?.[binOf(tile, row, column)];
      // What is not finite has its mark.
      if (value === undefined || !Number.isFinite(value)) continue;
      const text = fitted(value, dtype, exact, characters);
      if (text === null) continue;
      context.fillStyle = inkOn(rgb(colours, entryOf(value, scale)));
      context.fillText(text, view.x + (position(columns, column) + endOf(columns, column + 1)) / 2, y);
    }
  }
  context.restore();
}
