/** The smallest and the largest cell of the bin that is pointed at: exact, and asked for a tile at a time when somebody looks. */
import type { TilePlane } from "../kernel/protocol";
import type { Actions } from "../state/actions";
import type { OpenTensor } from "../state/store";
import type { Cell, Sheet } from "./layout";
import { Loader } from "./loader";
import { binOf, keyAt } from "./reading";
import { TileCache } from "./tile-cache";
import type { Wanted } from "./viewport";

const ENDS: readonly TilePlane[] = ["min", "max"];
const BYTES = 8 * 2 ** 20;

export class Ranges {
  readonly cache: TileCache;
  private readonly loader: Loader;

  constructor({ name, call }: OpenTensor, shows: string, sheet: Sheet, actions: Actions, redraw: () => void) {
    this.cache = new TileCache(sheet, BYTES);
    this.loader = new Loader(name, this.cache, actions.tiles, redraw, shows, call);
  }

  /** null until they have come: the picture is then drawn again. */
  at(wanted: Wanted, { row, column }: Cell): [number, number] | null {
    if (wanted.row_level + wanted.column_level === 0) return null;
    const key = keyAt(wanted, row, column);
    this.loader.need([key], "f32", ENDS);
    const tile = this.cache.get(key);
    if (!tile || tile.stale) return null;
    const bin = binOf(tile, row, column);
    return [tile.planes.min?.[bin] ?? Number.NaN, tile.planes.max?.[bin] ?? Number.NaN];
  }

  dispose(): void {
    this.loader.dispose();
  }
}
