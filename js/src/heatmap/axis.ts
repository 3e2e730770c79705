/**
 * One axis of the picture in pixels: cells of `scale` CSS pixels and a gap after each nested block.
 *
 * With gaps g_1 < g_2 < ... after blocks of b_1 | b_2 | ... cells, cell c begins at
 *   position(c) = c * scale + sum_i (g_i - g_(i-1)) * floor(c / b_i).
 * and `extra` more for each break at or before c. Gaps grow with the blocks and vanish when blocks are small, so that no level of detail turns into a grid of lines.
 */

export interface Gap {
  every: number;
  px: number;
}

export interface Axis {
  cells: number;
  scale: number;
  /** Innermost first. */
  gaps: Gap[];
  /** Cells before which a further gap of `extra` pixels lies: where stretches are of unlike length. */
  breaks: number[];
  extra: number;
}

/** Room after a block that is `px` pixels long: the outermost kind (`facet`) is wider, and may carry labels (`label`). */
function gapAfter(px: number, facet: boolean, label: number): number {
  if (px < 6) return 0;
  if (px < 20) return facet ? 2 : 1;
  if (px < 40) return facet ? 4 : 2;
  if (facet && label > 0 && px >= 48) return label;
  return facet ? 8 : 4;
}

/** `blocks` as in Sheet, `facet` the size of a whole block when there are facets, `label` room for labels above each. */
export function makeAxis(
  cells: number,
  scale: number,
  blocks: number[],
  facet: number,
  label = 0,
  breaks: number[] = [],
): Axis {
  const gaps: Gap[] = [];
  for (const every of blocks) {
    const px = Math.max(gaps.at(-1)?.px ?? 0, gapAfter(every * scale, every === facet, label));
    if (px > 0) gaps.push({ every, px });
  }
  const least = Math.min(...breaks.map((at, i) => at - (breaks[i - 1] ?? 0)));
  const inner = gaps.at(-1)?.px ?? 0;
  return {
    cells,
    scale,
    gaps,
    breaks,
    extra: breaks.length > 0 ? Math.max(inner, gapAfter(least * scale, true, 0)) : 0,
  };
}

/** Where cell `at` (fractions too) begins, from the start of the sheet. */
export function position(axis: Axis, at: number): number {
  let px = at * axis.scale;
  let below = 0;
  for (const gap of axis.gaps) {
    px += (gap.px - below) * Math.floor(at / gap.every);
    below = gap.px;
  }
  for (const each of axis.breaks) if (each <= at) px += axis.extra;
  return px;
}

/** Where what ends before cell `stop` ends: without the gap that follows. */
export const endOf = (axis: Axis, stop: number): number => (stop <= 0 ? 0 : position(axis, stop - 1) + axis.scale);

/** Length of the whole axis. */
export const extent = (axis: Axis): number => endOf(axis, axis.cells);

/** The cell at a pixel, with fraction; `gap` when it lies between blocks, or outside (then the nearest end). */
export function cellAt(axis: Axis, px: number): { at: number; gap: boolean } {
  if (px < 0) return { at: 0, gap: true };
  const { breaks, extra } = axis;
  let passed = 0;
  while (passed < breaks.length && position(axis, breaks[passed] as number) <= px) passed++;
  const found = cellBetween(axis, px - passed * extra);
  const next = breaks[passed];
  return next !== undefined && found.at >= next ? { at: next, gap: true } : found;
}

/** The same without breaks. */
function cellBetween(axis: Axis, px: number): { at: number; gap: boolean } {
  let cell = 0;
  let rest = px;
  for (let i = axis.gaps.length - 1; i >= 0; i--) {
    const { every, px: gap } = axis.gaps[i] as Gap;
    let period = every * axis.scale;
    let below = 0;
    for (let j = 0; j <= i; j++) {
      const inner = axis.gaps[j] as Gap;
      period += (inner.px - below) * (every / inner.every);
      below = inner.px;
    }
    const k = Math.floor(rest / period);
    cell += k * every;
    rest -= k * period;
    if (rest >= period - gap) return { at: Math.min(cell + every, axis.cells), gap: true };
  }
  const at = cell + rest / axis.scale;
  return at >= axis.cells ? { at: axis.cells, gap: true } : { at, gap: false };
}

/**
 * The sheet cell under each device pixel, -1 in gaps and outside. Both renderers draw from this table, so that they agree
 * to the pixel. `offset` is where the sheet begins, in CSS pixels; cells of 8 pixels and more are one pixel apart.
 */
export function pixelCells(axis: Axis, offset: number, dpr: number, pixels: number): Int32Array {
  const table = new Int32Array(pixels).fill(-1);
  if (axis.cells === 0) return table;
  if (axis.scale * dpr >= 2) {
    const first = Math.floor(cellAt(axis, -offset).at);
    const between = axis.scale >= 8 ? Math.max(1, Math.round(dpr)) : 0;
    for (let cell = first; cell < axis.cells; cell++) {
      const begin = position(axis, cell);
      const start = Math.round((offset + begin) * dpr);
      if (start >= pixels) break;
      const stop = Math.round((offset + begin + axis.scale) * dpr) - between;
      table.fill(cell, Math.max(0, start), Math.max(0, Math.min(pixels, stop)));
    }
    return table;
  }
  for (let i = 0; i < pixels; i++) {
    const { at, gap } = cellAt(axis, (i + 0.5) / dpr - offset);
    if (!gap) table[i] = Math.floor(at);
  }
  return table;
}
