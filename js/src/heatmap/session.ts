/** One tensor in one view, for as long as it is shown: its sheet, its tiles and what is read of its cells. */
import type { Actions } from "../state/actions";
import type { OpenTensor, Store } from "../state/store";
import { marginFor } from "./labels";
import { makeSheet, type Sheet } from "./layout";
import { Loader } from "./loader";
import type { Margins } from "./overlay";
import { Ranges } from "./ranges";
import { Readout } from "./readout";
import { TileCache } from "./tile-cache";
import type { View } from "./viewport";

/** Tiles of tensors shown before, by name, view and layout, so that coming back shows them at once. */
export type TileCaches = Map<string, TileCache>;

const KEPT_CACHES = 12;
const KEPT_BYTES = 8 * 2 ** 20;
const SHOWN_BYTES = 64 * 2 ** 20;

export interface Session {
  name: string;
  /** What of the tensor is drawn: its values, or another view of it. */
  shows: string;
  key: string;
  sheet: Sheet;
  dtype: string;
  cache: TileCache;
  loader: Loader;
  ranges: Ranges;
  pointer: Readout;
  cursor: Readout;
  margins: Margins;
  view: View | null;
}

/** What tells one session from the next; empty while the tensor's layout is not known. */
export const keyOf = (open: OpenTensor | null, shows: string): string =>
  open?.layout ? JSON.stringify([open.name, shows, open.layout]) : "";

export function openSession(
  open: OpenTensor,
  shows: string,
  before: Session | null,
  { store, actions, caches, redraw }: { store: Store; actions: Actions; caches: TileCaches; redraw: () => void },
): Session | null {
  const { name, layout } = open;
  if (!layout) return null;
  const sheet = makeSheet(layout, open.orders);
  const cache = cacheOf(caches, keyOf(open, shows), sheet);
  const columns = store.hello.peek()?.tensors;
  const { first } = open;
  // A picture that is made again later, or shows another view, must not begin with them.
  if (first && shows === open.view && first.revision >= store.revision.peek()) {
    cache.put(first.tiles, first.buffer, first.revision);
  }
  const read = (cells: number[][]) => actions.read(name, cells, shows);
  return {
    name,
    shows,
    key: keyOf(open, shows),
    sheet,
    dtype: columns?.dtype[columns.name.indexOf(name)] ?? "",
    cache,
    loader: new Loader(name, cache, actions.tiles, redraw, shows, open.call),
    ranges: new Ranges(open, shows, sheet, actions, redraw),
    pointer: new Readout(read, redraw),
    cursor: new Readout(read, redraw),
    margins: { left: marginFor(sheet), top: 26, right: 12, bottom: 40 },
    // Another view of the same sheet is seen from the same place.
    view: before && sameSheet(before, name, sheet) ? before.view : null,
  };
}

/** Whether a cell of one sheet lies where it lies in the other; at another index of a fixed axis, or in another order, too. */
export const sameSheet = (session: Session, name: string, sheet: Sheet): boolean =>
  session.name === name && placesOf(session.sheet) === placesOf(sheet);

/** Whether each cell lies at the same place in both: another view in the same layout. */
export const alike = (one: Session, other: Session): boolean => withoutView(one) === withoutView(other);

const withoutView = ({ name, sheet }: Session): string => JSON.stringify([name, sheet.layout]);

const placesOf = ({ layout: { shape, rows, columns, facets, wrap, fixed } }: Sheet): string =>
  JSON.stringify([shape, rows, columns, facets, wrap, fixed.map(([axis]) => axis)]);

export function endSession(session: Session): void {
  session.loader.dispose();
  session.ranges.dispose();
  session.pointer.dispose();
  session.cursor.dispose();
  session.cache.trim(KEPT_BYTES);
}

/** Of which tensor and which view the tiles under a key are. A name or a label may hold any sign, also a space. */
export const shownBy = (key: string): [name: string, shows: string] => JSON.parse(key);

function cacheOf(caches: TileCaches, key: string, sheet: Sheet): TileCache {
  const cache = caches.get(key) ?? new TileCache(sheet);
  cache.trim(SHOWN_BYTES);
  caches.delete(key);
  caches.set(key, cache);
  for (const each of caches.keys()) {
    if (caches.size <= KEPT_CACHES) break;
    caches.delete(each);
  }
  return cache;
}
