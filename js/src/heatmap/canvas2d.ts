/** The picture without WebGL: one pass over the device pixels. Rows of pixels that show the same cells are copied. */
import { css, ENTRIES, type Rgb } from "./colormap";
import type { Renderer, Scene } from "./renderer";
import { entryOf, NAN_ENTRY, NEGATIVE_ENTRY, POSITIVE_ENTRY } from "./scale";

/** RGBA bytes as one number in the byte order of this machine, so that a pixel is one write. */
function packed(table: Uint8Array<ArrayBuffer>): Uint32Array {
  return new Uint32Array(table.buffer, table.byteOffset, ENTRIES);
}

const pack = ([red, green, blue]: Rgb): number =>
  new Uint32Array(new Uint8Array([red, green, blue, 255]).buffer)[0] as number;

/** Draws a scene into RGBA pixels. Apart from the canvas so that it can be tested. */
export function paint(scene: Scene, pixels: Uint32Array): void {
  const { width, height, rows, columns, blank, colours, scale, hatched } = scene;
  const table = packed(colours.table);
  const background = pack(colours.background);
  const waiting = pack(colours.waiting);
  const mark = pack(colours.mark);
  // A hatched row differs from the one above that shows the same cells.
  let striped = false;
  pixels.fill(background);
  for (let y = 0; y < height; y++) {
    const row = rows[y] as number;
    if (row < 0) continue;
    const at = y * width;
    if (y > 0 && rows[y - 1] === row && !striped) {
      pixels.copyWithin(at, at - width, at);
      continue;
    }
    striped = false;
    const end = row >= blank.row ? blank.column : Number.POSITIVE_INFINITY;
    for (let x = 0; x < width && !scene.whole; x++) {
      const column = columns[x] as number;
      if (column >= 0 && column < end) pixels[at + x] = waiting;
    }
    for (const tile of scene.tiles) {
      const { clip } = tile;
      if (row < clip.row0 || row >= clip.row1) continue;
      const bin_row = Math.floor(row / 2 ** tile.row_level) - tile.row;
      if (bin_row < 0 || bin_row >= tile.rows) continue;
      const line = bin_row * tile.columns;
      const size = 2 ** tile.column_level;
      const stop = Math.min(clip.column1, end);
      for (let x = Math.max(0, tile.x0 - 1); x < Math.min(width, tile.x1 + 1); x++) {
        const column = columns[x] as number;
        if (column < clip.column0 || column >= stop) continue;
        const bin = Math.floor(column / size) - tile.column;
        if (bin >= 0 && bin < tile.columns) {
          const entry = entryOf(tile.plane[line + bin] as number, scale);
          const odd = hatched && entry >= NAN_ENTRY && entry <= NEGATIVE_ENTRY;
          striped ||= odd;
          pixels[at + x] = odd && isStripe(entry, x, y) ? mark : (table[entry] as number);
        }
      }
    }
  }
}

/** Where small cells are hatched: NaN slanted, +inf across, -inf upright. */
function isStripe(entry: number, x: number, y: number): boolean {
  return ((entry === POSITIVE_ENTRY ? y : entry === NEGATIVE_ENTRY ? x : x + y) & 3) === 0;
}

export function createCanvas2d(canvas: HTMLCanvasElement): Renderer {
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  let image: ImageData | null = null;
  return {
    kind: "canvas2d",
    canvas,
    draw(scene) {
      if (canvas.width !== scene.width || canvas.height !== scene.height) {
        canvas.width = scene.width;
        canvas.height = scene.height;
      }
      if (!context || scene.width === 0 || scene.height === 0) return;
      if (image?.width !== scene.width || image.height !== scene.height) {
        image = context.createImageData(scene.width, scene.height);
      }
      paint(scene, new Uint32Array(image.data.buffer));
      context.putImageData(image, 0, 0);
      canvas.style.background = css(scene.colours.background);
    },
    readPixel(x, y) {
      const data = context?.getImageData(x, y, 1, 1).data;
      return [data?.[0] ?? 0, data?.[1] ?? 0, data?.[2] ?? 0];
    },
    dispose() {
      image = null;
      // A canvas of size 0 gives its memory back at once, not when it is collected.
      canvas.width = 0;
      canvas.height = 0;
    },
  };
}
