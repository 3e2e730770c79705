/**
 * Along the edges of the picture: for each index of the outermost axis of rows and of columns one number, as a bar. Part of the
 * second script: the first picture does without.
 */
import type { Statistic } from "../kernel/protocol";
import type { Actions } from "../state/actions";
import { endOf, extent, position } from "./axis";
import { indexAt, type Sheet } from "./layout";
import { short } from "./numbers";
import type { Theme } from "./overlay";
import type { Session } from "./session";
import { type View, visible } from "./viewport";

/** Room for the longest bar, and between the cells and the bars. */
const LENGTH = 40;
const APART = 8;

export type Side = "rows" | "columns" | "facets";

/** The axis that has numbers on a side: the outermost one, and with facets that of the blocks. */
export function edgeAxis({ layout, facets }: Sheet, side: Side, stat: Statistic): number | null {
  if ((side === "facets") !== facets > 1 || (side === "facets" && layout.facets.length > 1)) return null;
  const axis = layout[side].find((each) => (layout.shape[each] ?? 1) > 1);
  if (axis === undefined) return null;
  // Scale and shift of a norm layer are one per output.
  return (stat === "scale" || stat === "shift") && (axis !== 0 || !layout.norm) ? null : axis;
}

/** Profiles of one session, asked for when first drawn and again when cells have changed. */
class Profiles {
  private readonly known = new Map<string, { values: Float32Array; revision: number }>();
  private asking = "";
  private failed = "";

  constructor(
    private readonly session: Session,
    private readonly profile: Actions["profile"],
    private readonly redraw: () => void,
  ) {}

  of(axis: number, stat: Statistic, revision: number): Float32Array | null {
    const key = `${axis} ${stat}`;
    const known = this.known.get(key);
    if (known?.revision !== revision) void this.ask(axis, stat, key, revision);
    return known?.values ?? null;
  }

  private async ask(axis: number, stat: Statistic, key: string, revision: number): Promise<void> {
    // One question under way; what is refused once at a revision would be refused again.
    if (this.asking || this.failed === `${key}@${revision}`) return;
    this.asking = key;
    const { name, shows } = this.session;
    try {
      this.known.set(key, { values: await this.profile(name, axis, stat, shows), revision });
    } catch {
      this.failed = `${key}@${revision}`;
    }
    this.asking = "";
    this.redraw();
  }
}

const profiles = new WeakMap<Session, Profiles>();

export function profilesOf(session: Session, profile: Actions["profile"], redraw: () => void): Profiles {
  const known = profiles.get(session);
  if (known) return known;
  const made = new Profiles(session, profile, redraw);
  profiles.set(session, made);
  return made;
}

export interface Bar {
  /** Pixels along the side, from the beginning of the area. */
  from: number;
  to: number;
  value: number;
}

/** Bars along a side, those that share a pixel as one: the value of largest magnitude. */
export function barsAlong(
  sheet: Sheet,
  view: View,
  side: "rows" | "columns",
  axis: number,
  values: Float32Array,
): Bar[] {
  const { layout } = sheet;
  const along = side === "rows" ? view.rows : view.columns;
  const origin = side === "rows" ? view.y : view.x;
  const room = side === "rows" ? view.area.height : view.area.width;
  const size = layout.shape[axis] ?? 1;
  const stride = (side === "rows" ? sheet.block_rows : sheet.block_columns) / size;
  const bars: Bar[] = [];
  for (let place = 0; place < size; place++) {
    const from = origin + position(along, place * stride);
    const to = origin + endOf(along, (place + 1) * stride);
    if (to <= 0 || from >= room) continue;
    const value = values[indexAt(sheet, axis, place)] ?? Number.NaN;
    const last = bars.at(-1);
    if (last && from - last.from < 1) {
      last.to = Math.max(last.to, to);
      if (!(Math.abs(value) <= Math.abs(last.value))) last.value = value;
    } else bars.push({ from: Math.max(0, from), to: Math.min(room, to), value });
  }
  return bars;
}

/** A thin bar above each block, as long as the block for the largest. `context` is in area coordinates. */
export function drawFacetBars(
  context: CanvasRenderingContext2D,
  { sheet, view, axis, values, theme }: { sheet: Sheet; view: View; axis: number; values: Float32Array; theme: Theme },
): void {
  const most = values.reduce((a, b) => (Math.abs(b) > a ? Math.abs(b) : a), 0);
  const seen = visible(view);
  const last = Math.floor((seen.row1 - 1) / sheet.block_rows);
  for (let line = Math.floor(seen.row0 / sheet.block_rows); line <= last; line++) {
    const y = view.y + position(view.rows, line * sheet.block_rows) - 6;
    if (y < -8) continue;
    for (let across = 0; across < sheet.wrap; across++) {
      const facet = line * sheet.wrap + across;
      const from = view.x + position(view.columns, across * sheet.block_columns);
      const to = view.x + endOf(view.columns, (across + 1) * sheet.block_columns);
      const value = facet < sheet.facets ? values[indexAt(sheet, axis, facet)] : undefined;
      if (value === undefined || !Number.isFinite(value) || to - from < 6 || from < 0 || to > view.area.width) continue;
      context.fillStyle = theme.text;
      context.globalAlpha = 0.12;
      context.fillRect(from, y, to - from, 3);
      context.globalAlpha = 0.7;
      context.fillStyle = value < 0 ? theme.accent : theme.dim;
      context.fillRect(from, y, (to - from) * (most > 0 ? Math.abs(value) / most : 0), 3);
      context.globalAlpha = 1;
    }
  }
}

/** `context` is in area coordinates. */
export function drawEdge(
  context: CanvasRenderingContext2D,
  {
    sheet,
    view,
    side,
    axis,
    values,
    stat,
    theme,
  }: {
    sheet: Sheet;
    view: View;
    side: "rows" | "columns";
    axis: number;
    values: Float32Array;
    stat: Statistic;
    theme: Theme;
  },
): void {
  const rows = side === "rows";
  const most = values.reduce((a, b) => (Math.abs(b) > a ? Math.abs(b) : a), 0);
  const signed = values.some((value) => value < 0);
  const base = APART + (signed ? LENGTH / 2 : 0);
  const unit = most > 0 ? (signed ? LENGTH / 2 : LENGTH) / most : 0;
  const edge = rows
    ? Math.min(view.area.width, view.x + extent(view.columns))
    : Math.min(view.area.height, view.y + extent(view.rows));
  context.save();
  context.translate(rows ? edge : 0, rows ? 0 : edge);
  const rect = (along: number, length: number, from: number, thick: number) =>
    rows ? context.fillRect(from, along, thick, length) : context.fillRect(along, from, length, thick);
  context.fillStyle = theme.dim;
  const bars = barsAlong(sheet, view, side, axis, values);
  for (const { from, to, value } of bars) {
    if (!Number.isFinite(value)) continue;
    const length = Math.max(1, to - from - (to - from >= 4 ? 1 : 0));
    const thick = Math.max(Math.abs(value) * unit, value === 0 ? 0 : 0.75);
    context.globalAlpha = 0.6;
    rect(from, length, value < 0 ? base - thick : base, thick);
  }
  // The line that the bars stand on.
  context.globalAlpha = 0.35;
  const first = bars[0];
  const last = bars.at(-1);
  if (first && last) rect(first.from, last.to - first.from, base - 0.5, 1);
  context.globalAlpha = 1;
  context.font = `10px ${theme.mono}`;
  const what =
    stat === "largest" ? "|w|" : stat === "scale" || stat === "shift" ? `${sheet.layout.norm} ${stat}` : stat;
  const text = `${what} ${signed ? "±" : "≤"} ${stat === "zeros" ? `${short(most * 100)} %` : short(most)}`;
  context.textAlign = "left";
  if (rows) context.fillText(text, APART, -APART);
  else if (first) context.fillText(text, first.from, APART + LENGTH + 10);
  context.restore();
}
