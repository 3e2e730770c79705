/**
 * Tiles of one tensor, decoded: what is loaded, what has become stale, what goes when memory is short. Pure.
 *
 * A stale tile keeps being drawn until its successor arrives. Two things race: a change of revision r, and a reply that
 * the kernel computed at revision q. The tile shows the change if and only if q >= r, in whichever order the two come.
 */
import type { TileHead, TileKey, TilePlane } from "../kernel/protocol";
import type { Reduction } from "../state/store";
import type { AxisRange, Sheet } from "./layout";
import { boundsOf } from "./places";
import { regionMeets } from "./regions";
import { tileRect } from "./viewport";

export type Plane = Float32Array<ArrayBuffer>;

export interface CachedTile {
  key: TileKey;
  rows: number;
  columns: number;
  /** "value" at level (0, 0), elsewhere those that were asked for. */
  planes: Partial<Record<TileHead["planes"][number], Plane>>;
  encoding: "f32" | "q8";
  revision: number;
  stale: boolean;
  /** NaN or infinite cells, so that marks are looked for only where there are any. */
  bad: number;
  bytes: number;
}

const text = (key: TileKey): string => key.join(",");

/** Code 0 to 252 is low + code * (high - low) / 252; 253 is -inf, 254 is +inf, 255 is NaN. */
function decodeQ8(bytes: Uint8Array, [low, high]: [number, number]): Plane {
  const table = new Float32Array(256);
  // The end of the scale exactly: low + 252 * ((high - low) / 252) may miss it by a rounding.
  for (let code = 0; code <= 252; code++) table[code] = code === 252 ? high : low + (code * (high - low)) / 252;
  table[253] = Number.NEGATIVE_INFINITY;
  table[254] = Number.POSITIVE_INFINITY;
  table[255] = Number.NaN;
  const out = new Float32Array(bytes.length);
  for (let i = 0; i < bytes.length; i++) out[i] = table[bytes[i] as number] as number;
  return out;
}

/** The buffer is a view into a larger message: its own byteOffset counts, and need not be a multiple of 4. */
export function decodeTile(head: TileHead, buffer: DataView): Plane[] {
  const size = head.rows * head.columns;
  return head.planes.map((_, i) => {
    if (head.encoding === "q8") {
      const bytes = new Uint8Array(buffer.buffer, buffer.byteOffset + head.offset + i * size, size);
      // null: the plane holds no finite number, so that no code refers to the scale.
      const scale = head.scale?.[i] ?? [0, 0];
      return decodeQ8(bytes, [scale[0] ?? 0, scale[1] ?? 0]);
    }
    const out = new Float32Array(size);
    const start = head.offset + i * size * 4;
    for (let k = 0; k < size; k++) out[k] = buffer.getFloat32(start + k * 4, true);
    return out;
  });
}

/** The plane to draw; until it has come, the one that is there. */
export const shownPlane = ({ planes }: CachedTile, reduction: Reduction): Plane =>
  (planes.value ?? planes[reduction] ?? Object.values(planes)[0]) as Plane;

interface Change {
  revision: number;
  /** null: everything. */
  ranges: AxisRange[] | null;
}

export class TileCache {
  private readonly tiles = new Map<string, CachedTile>();
  private changes: Change[] = [];
  private bytes = 0;

  constructor(
    readonly sheet: Sheet,
    private limit = 64 * 2 ** 20,
  ) {}

  get size(): number {
    return this.bytes;
  }

  /** Counts as a use. */
  get(key: TileKey): CachedTile | undefined {
    const name = text(key);
    const tile = this.tiles.get(name);
    if (tile) {
      this.tiles.delete(name);
      this.tiles.set(name, tile);
    }
    return tile;
  }

  has(key: TileKey): boolean {
    return this.tiles.has(text(key));
  }

  /** Loaded, fresh, exact enough, and with these planes. */
  good(key: TileKey, encoding: "f32" | "q8", planes: readonly TilePlane[]): boolean {
    const tile = this.tiles.get(text(key));
    if (tile === undefined || tile.stale || (encoding === "f32" && tile.encoding === "q8")) return false;
    return tile.planes.value !== undefined || planes.every((name) => tile.planes[name] !== undefined);
  }

  /** Adds what a reply of revision `revision` brought. `keep` are tiles on screen: they do not go. */
  put(heads: TileHead[], buffer: DataView, revision: number, keep: TileKey[] = []): void {
    for (const head of heads) {
      const name = text(head.at);
      const before = this.tiles.get(name);
      if (before && before.revision > revision) continue;
      const decoded = decodeTile(head, buffer);
      const planes: CachedTile["planes"] = Object.fromEntries(head.planes.map((plane, i) => [plane, decoded[i]]));
      if (before) this.bytes -= before.bytes;
      // Other planes of the same moment stay: one may go back to them.
      if (before && before.revision === revision && before.encoding === head.encoding) {
        for (const [plane, data] of Object.entries(before.planes)) planes[plane as TilePlane] ??= data;
      }
      // Twice: with their copies on the graphics side.
      const bytes = head.rows * head.columns * 4 * 2 * Object.keys(planes).length;
      const tile: CachedTile = {
        key: head.at,
        rows: head.rows,
        columns: head.columns,
        planes,
        encoding: head.encoding,
        revision,
        stale: this.changes.some((change) => this.touches(change, head.at, revision)),
        bad: head.nan + head.inf,
        bytes,
      };
      this.tiles.delete(name);
      this.tiles.set(name, tile);
      this.bytes += bytes;
    }
    this.evict(new Set(keep.map(text)));
  }

  /** The limit from now on: less for a tensor that is not on screen any more. */
  trim(limit: number): void {
    this.limit = limit;
    this.evict(new Set());
  }

  /** Cells changed: `bounds` per axis, or everything. Returns whether a loaded tile became stale. */
  mark(bounds: [number, number][] | "everything", revision: number): boolean {
    const change: Change = {
      revision,
      ranges:
        bounds === "everything"
          ? null
          : boundsOf(
              this.sheet,
              bounds.map(([start, stop]): AxisRange => [start, stop, 1]),
            ),
    };
    this.remember(change);
    let any = false;
    for (const tile of this.tiles.values()) {
      if (!tile.stale && this.touches(change, tile.key, tile.revision)) {
        tile.stale = true;
        any = true;
      }
    }
    return any;
  }

  private touches(change: Change, key: TileKey, revision: number): boolean {
    if (change.revision <= revision) return false;
    return change.ranges === null || regionMeets(this.sheet, change.ranges, tileRect(this.sheet, key));
  }

  /** Only replies under way can still be older than a change; the log stays short by forgetting where, never that. */
  private remember(change: Change): void {
    this.changes.push(change);
    if (this.changes.length > 64) {
      const old = this.changes.splice(0, 32);
      this.changes.unshift({ revision: Math.max(...old.map((each) => each.revision)), ranges: null });
    }
  }

  private evict(keep: Set<string>): void {
    for (const [name, tile] of this.tiles) {
      if (this.bytes <= this.limit) return;
      if (keep.has(name)) continue;
      this.tiles.delete(name);
      this.bytes -= tile.bytes;
    }
  }
}
