/** What lies over the cells: labels, marks of cells that are not finite, selection, cursor, painted cells. One 2D canvas. */
import { type Axis, endOf, position } from "./axis";
import { type Colours, css } from "./colormap";
import { CHARACTER, type Label } from "./labels";
import type { Cell, Rect, Sheet } from "./layout";
import type { View } from "./viewport";

export interface Theme {
  text: string;
  dim: string;
  accent: string;
  background: string;
  mono: string;
}

export interface Margins {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

export interface OverlayScene {
  width: number;
  height: number;
  dpr: number;
  margins: Margins;
  sheet: Sheet;
  view: View;
  labels: Label[];
  colours: Colours;
  theme: Theme;
  /** Selected rectangles of the sheet. */
  selected: Rect[];
  /** What a drag under way would select. */
  preview: Rect[];
  /** Held cells, hatched; where not every cell inside is held (`whole`), only the bounds are known yet. */
  held: { rects: Rect[]; whole: boolean }[];
  cursor: Cell | null;
  /** Cell under the brush. */
  brush: Rect | null;
  painted: { cells: Iterable<number>; colour: string } | null;
}

/** Pixels of a stretch of cells, on whole device pixels like the cells themselves. */
function stretch(axis: Axis, origin: number, from: number, to: number, dpr: number): [number, number] {
  const snap = (px: number) => Math.round(px * dpr) / dpr;
  return [snap(origin + position(axis, from)), snap(origin + endOf(axis, to))];
}

export function drawOverlay(canvas: HTMLCanvasElement, scene: OverlayScene): void {
  const { width, height, dpr, margins, view } = scene;
  const device_width = Math.round(width * dpr);
  const device_height = Math.round(height * dpr);
  if (canvas.width !== device_width || canvas.height !== device_height) {
    canvas.width = device_width;
    canvas.height = device_height;
  }
  const context = canvas.getContext("2d");
  if (!context) return;
  context.setTransform(dpr, 0, 0, dpr, 0, 0);
  context.clearRect(0, 0, width, height);
  if (scene.sheet.cells === 0) return;
  context.translate(margins.left, margins.top);
  drawLabels(context, scene);

  context.save();
  context.beginPath();
  // A little outside the area, so that frames of cells at its edge are whole.
  context.rect(-5, -5, view.area.width + 10, view.area.height + 10);
  context.clip();
  for (const { rects, whole } of scene.held) hatch(context, scene, rects, whole);
  drawPainted(context, scene);
  for (const rect of scene.selected) frame(context, scene, rect, false);
  for (const rect of scene.preview) frame(context, scene, rect, true);
  if (scene.brush) ring(context, scene, scene.brush);
  if (scene.cursor) {
    const { row, column } = scene.cursor;
    ring(context, scene, { row0: row, row1: row + 1, column0: column, column1: column + 1 });
  }
  context.restore();
}

function drawLabels(context: CanvasRenderingContext2D, { labels, theme, margins }: OverlayScene): void {
  context.font = `10px ${theme.mono}`;
  context.fillStyle = theme.dim;
  context.textBaseline = "alphabetic";
  for (const label of labels) {
    context.textAlign = label.align;
    if (label.kind === "row") {
      context.textBaseline = "middle";
      const room = Math.floor((margins.left - 10) / CHARACTER);
      // A name too long for the margin gives way; the number never does.
      const text = label.text.length > room ? (label.text.split(" ").at(-1) ?? "") : label.text;
      context.fillText(text, label.x, label.y + 0.5);
      context.textBaseline = "alphabetic";
      continue;
    }
    context.fillText(label.text, label.x, label.y);
    if (label.prefix) {
      const start = label.align === "center" ? label.x - (label.text.length * CHARACTER) / 2 : label.x;
      context.textAlign = "right";
      const room = Math.floor((margins.left + start - 8) / CHARACTER);
      context.fillText(
        label.prefix.length > room ? label.prefix.slice(0, Math.max(0, room)) : label.prefix,
        start - 6,
        label.y,
      );
    }
  }
}

export function box(
  scene: Pick<OverlayScene, "view" | "dpr">,
  rect: Rect,
): { x: number; y: number; width: number; height: number } {
  const { view, dpr } = scene;
  const [x0, x1] = stretch(view.columns, view.x, rect.column0, rect.column1, dpr);
  const [y0, y1] = stretch(view.rows, view.y, rect.row0, rect.row1, dpr);
  // Cells of 8 pixels leave one pixel free at their right and bottom: the frame sits evenly around what is drawn.
  const free = (axis: Axis) => (axis.scale >= 8 ? 1 : 0);
  return { x: x0, y: y0, width: x1 - x0 - free(view.columns), height: y1 - y0 - free(view.rows) };
}

/** A selection: a line around the cells, with a halo so that it stands out on any colour. */
function frame(context: CanvasRenderingContext2D, scene: OverlayScene, rect: Rect, preview: boolean): void {
  const { x, y, width, height } = box(scene, rect);
  const out = 2;
  const w = Math.max(width, 1);
  const h = Math.max(height, 1);
  context.lineJoin = "round";
  context.setLineDash([]);
  context.strokeStyle = css(scene.colours.background, 0.9);
  context.lineWidth = 4;
  context.strokeRect(x - out, y - out, w + 2 * out, h + 2 * out);
  context.strokeStyle = scene.theme.accent;
  context.lineWidth = 2;
  if (preview) context.setLineDash([5, 3]);
  context.strokeRect(x - out, y - out, w + 2 * out, h + 2 * out);
  context.setLineDash([]);
}

/** Held cells: thin slanted lines, close together where all of them are held. */
function hatch(context: CanvasRenderingContext2D, scene: OverlayScene, rects: Rect[], whole: boolean): void {
  const { view, theme } = scene;
  let [left, right, top, bottom] = [view.area.width + 5, -5, view.area.height + 5, -5];
  context.save();
  context.beginPath();
  for (const rect of rects) {
    const { x, y, width, height } = box(scene, rect);
    context.rect(x, y, Math.max(width, 1), Math.max(height, 1));
    left = Math.min(left, Math.max(x, -5));
    right = Math.max(right, Math.min(x + width, view.area.width + 5));
    top = Math.min(top, Math.max(y, -5));
    bottom = Math.max(bottom, Math.min(y + height, view.area.height + 5));
  }
  context.clip();
  context.beginPath();
  const step = whole ? 6 : 14;
  // Lines x + y = k * step, so that neighbours and scrolled pictures share them.
  const from = Math.floor((left - view.x + top - view.y) / step) * step + view.x + view.y;
  for (let k = from; k <= right + bottom; k += step) {
    context.moveTo(k - top, top);
    context.lineTo(k - bottom, bottom);
  }
  // A halo: the lines are seen on light and on dark cells.
  context.strokeStyle = theme.background;
  context.globalAlpha = 0.55;
  context.lineWidth = 2.5;
  context.stroke();
  context.strokeStyle = theme.text;
  context.globalAlpha = 0.75;
  context.lineWidth = 1;
  context.stroke();
  context.restore();
}

/** The cursor: thin, inside the selection's line, in the colour of text. */
function ring(context: CanvasRenderingContext2D, scene: OverlayScene, rect: Rect): void {
  const { x, y, width, height } = box(scene, rect);
  const small = Math.min(width, height) < 6;
  const grow = small ? 2 : 0.5;
  context.strokeStyle = scene.theme.background;
  context.lineWidth = 3;
  context.strokeRect(x - grow, y - grow, width + 2 * grow, height + 2 * grow);
  context.strokeStyle = scene.theme.text;
  context.lineWidth = 1.5;
  context.strokeRect(x - grow, y - grow, width + 2 * grow, height + 2 * grow);
}

function drawPainted(context: CanvasRenderingContext2D, scene: OverlayScene): void {
  if (!scene.painted) return;
  context.fillStyle = scene.painted.colour;
  context.strokeStyle = scene.theme.accent;
  context.lineWidth = 1;
  const outline = Math.min(scene.view.rows.scale, scene.view.columns.scale) >= 6;
  for (const cell of scene.painted.cells) {
    const row = Math.floor(cell / scene.sheet.columns);
    const column = cell % scene.sheet.columns;
    const { x, y, width, height } = box(scene, { row0: row, row1: row + 1, column0: column, column1: column + 1 });
    if (x > scene.view.area.width || y > scene.view.area.height || x + width < 0 || y + height < 0) continue;
    context.fillRect(x, y, Math.max(width, 1), Math.max(height, 1));
    if (outline) context.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
  }
}
