/** From the settings in the store to the colours and the scale of a picture: the same objects while nothing changes. */
import type { Store } from "../state/store";
import { type ColourMap, type Colours, colours, spotlight } from "./colormap";
import { entryOf, makeScale, rangeOf, type Scale } from "./scale";

/** CSS pixels a cell must have for marks on it; smaller ones are hatched. */
export const MARKED = 8;

export interface Look {
  /** As the bar shows them. */
  plain: Colours;
  /** As cells are drawn: the same, or faded outside what is picked on the bar. */
  colours: Colours;
  scale: Scale;
}

/** For what is never negative, and for magnitudes: even steps of lightness, and safe for every kind of colour vision. */
const SEQUENTIAL = "viridis";

const looks = new WeakMap<Store, { key: string; maps: ColourMap[]; look: Look }>();

/** Reads signals: inside a component or an effect it subscribes to all that colours depend on. */
export function lookOf(store: Store): Look {
  const open = store.open.value;
  const { value: range } = store.range;
  const { value: curve } = store.curve;
  const { value: maps } = store.maps;
  const signed = open?.signed ?? true;
  const diverging = signed && curve !== "log";
  const chosen = store.map.value === "auto" ? (diverging ? "" : SEQUENTIAL) : store.map.value;
  const map = maps.find((each) => each.name === chosen) ?? null;
  const extent = store.extent.value;
  const [low, high] = rangeOf(range, curve, { summary: open?.summary ?? null, signed, extent });
  const picked = pickedOf(store);
  const key = [store.dark.value, map?.name, diverging, low, high, curve, ...(picked ?? [])].join(" ");
  const known = looks.get(store);
  if (known?.key === key && known.maps === maps) return known.look;
  const scale = makeScale(low, high, curve, map ? map.kind === "diverging" : diverging);
  const plain = colours(store.dark.value, map, diverging);
  const shown = picked ? spotlight(plain, entryOf(picked[0], scale), entryOf(picked[1], scale)) : plain;
  const look = { plain, colours: shown, scale };
  looks.set(store, { key, maps, look });
  return look;
}

/** The interval that was brushed on the bar of the view that is shown. */
export function pickedOf(store: Store): [number, number] | null {
  const where = store.where.value;
  if (!Array.isArray(where?.value) || (where.view ?? "value") !== (store.open.value?.view ?? "value")) return null;
  if ((where.kind === "size_between") !== (store.curve.value === "log")) return null;
  return where.value.map(Number) as [number, number];
}
