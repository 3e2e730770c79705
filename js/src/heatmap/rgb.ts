/**
 * Filters with three input channels as coloured pictures: red, green and blue are the weights on the three inputs. Grey is 0, and each
 * filter is scaled by its own largest magnitude: 127.5 + 127.5 * w / max|w|. Part of the second script.
 */
import type { Layout } from "../kernel/protocol";
import type { Actions } from "../state/actions";
import { callOf } from "../state/layouts";
import { indexOf, makeSheet } from "./layout";
import { Loader } from "./loader";
import { binOf, keyAt } from "./reading";
import { tableOf } from "./scene";
import type { Session } from "./session";
import type { Stage } from "./stage";
import { type CachedTile, shownPlane, TileCache } from "./tile-cache";
import type { View, Wanted } from "./viewport";

/** The axis of three inputs that can be colours: that of a convolution's weight. */
export function colourAxis({ labels, shape }: Layout): number | null {
  const axis = labels.indexOf("in");
  return shape.length > 2 && axis >= 0 && shape[axis] === 3 ? axis : null;
}

interface Channel {
  cache: TileCache;
  loader: Loader;
}

/** Tiles of the three slices of one session. */
export class Channels {
  readonly channels: Channel[];
  private readonly unsubscribe: () => void;

  constructor(session: Session, axis: number, actions: Actions, redraw: () => void) {
    const { layout, places } = session.sheet;
    const orders = layout.orders.map((order) => places[order.axis]?.indices ?? new Int32Array());
    this.channels = [0, 1, 2].map((index) => {
      const of: Layout = { ...layout, fixed: layout.fixed.map(([a, i]) => [a, a === axis ? index : i]) };
      const cache = new TileCache(makeSheet(of, orders));
      return { cache, loader: new Loader(session.name, cache, actions.tiles, redraw, session.shows, callOf(of)) };
    });
    this.unsubscribe = actions.onChanged((_, revision) => {
      for (const { cache, loader } of this.channels) {
        cache.mark("everything", revision);
        loader.retry();
      }
      redraw();
    });
  }

  /** The three tiles under a key, once all have come. */
  tiles(key: ReturnType<typeof keyAt>): CachedTile[] | null {
    const found = this.channels.map(({ cache }) => cache.get(key));
    return found.every((tile) => tile !== undefined) ? (found as CachedTile[]) : null;
  }

  need(wanted: Wanted): void {
    for (const { loader } of this.channels) loader.need(wanted.keys, wanted.encoding, ["mean"]);
  }

  dispose(): void {
    this.unsubscribe();
    for (const { loader } of this.channels) loader.dispose();
  }
}

/** One channel's weight as a byte. What is not finite is black. */
export const byteOf = (value: number, limit: number): number =>
  Number.isFinite(value) ? Math.round(127.5 + 127.5 * Math.max(-1, Math.min(1, limit > 0 ? value / limit : 0))) : 0;

/** Paints RGBA over what the renderer drew. `limits` has the largest magnitude of each filter, by index of axis `out`. */
export function paintColours(
  pixels: Uint8ClampedArray,
  {
    stage,
    session,
    view,
    wanted,
    channels,
    out,
    limits,
  }: {
    stage: Stage;
    session: Session;
    view: View;
    wanted: Wanted;
    channels: Channels;
    out: number;
    limits: Float32Array;
  },
): void {
  const { sheet, margins } = session;
  const { width, height } = stage.pixels;
  const dpr = devicePixelRatio;
  const rows = tableOf(view.rows, view.y, margins.top, view.area.height, dpr, height);
  const columns = tableOf(view.columns, view.x, margins.left, view.area.width, dpr, width);
  for (let y = 0; y < height; y++) {
    const row = rows[y] as number;
    if (row < 0) continue;
    const at = y * width * 4;
    if (y > 0 && rows[y - 1] === row) {
      pixels.copyWithin(at, at - width * 4, at);
      continue;
    }
    let last = -1;
    let colour: number[] | null = null;
    for (let x = 0; x < width; x++) {
      const column = columns[x] as number;
      if (column < 0) continue;
      if (column !== last) {
        last = column;
        colour = colourAt(row, column);
      }
      if (colour) for (let k = 0; k < 4; k++) pixels[at + x * 4 + k] = colour[k] as number;
    }
  }

  function colourAt(row: number, column: number): number[] | null {
    const index = indexOf(sheet, row, column);
    const tiles = index && channels.tiles(keyAt(wanted, row, column));
    if (!index || !tiles) return null;
    const limit = limits[index[out] ?? 0] ?? 0;
    return [...tiles.map((tile) => byteOf(shownPlane(tile, "mean")[binOf(tile, row, column)] ?? 0, limit)), 255];
  }
}
