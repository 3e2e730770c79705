/** Which cells are selected: by text, by mouse, from the selection before. And what that stands for on the wire. */
import type { Client } from "../kernel/client";
import type { RegionInfo, Target } from "../kernel/protocol";
import { type Axis, grow, growParts, invert, listText, otherParts, partsOfText, unite, whole } from "./cell-sets";
import type { Feed } from "./feed";
import { boundsOf, cellsIn, joined, otherCells, wider, without } from "./listed-cells";
import { cellCount, regionText } from "./region-text";
import type { Selection, Store } from "./store";

export interface Selecting {
  /** Text of the region box. Asks `region`, sets the selection or the alert. Resolves to null when it does not fit. */
  selectText(text: string): Promise<RegionInfo | null>;
  /** A selection by mouse or keyboard, already known to fit: one [start, stop, step] per axis. */
  selectAxes(axes: Axis[]): void;
  /** Several boxes that differ along one axis, as a list of its indices. */
  selectParts(parts: Axis[][]): void;
  /** Painted cells, as flat indices: added to what is selected, or taken away from it. */
  selectCells(painted: Float64Array, how: "add" | "take"): void;
  /** From the present selection: every cell, every other cell, one further on each side. Waits for a text on its way. */
  reselect(how: "all" | "invert" | "grow"): Promise<void>;
}

/** What the other actions need of it. */
export interface Selected extends Selecting {
  clear(): void;
  /** What `region`, or else the selection and the condition on it, stands for on the wire. */
  target(name: string, region?: string): [Target, ArrayBufferView[]];
  /** The open tensor once nothing is on its way; undefined where what was typed does not fit it. */
  ready(): Promise<string | undefined>;
  /** Listed cells have no text that can be read back. */
  trait(): string;
}

/** The kernel reads region texts up to this length. */
const MOST_TEXT = 20_000;

export function createSelecting(store: Store, client: Client, ask: Feed["ask"]): Selected {
  /** A region text on its way: what comes after it waits, so that what was typed is what is meant. */
  let selecting: Promise<RegionInfo | null> | null = null;
  /** Counts selections: a text that was on its way when the next one was made no longer counts. */
  let turn = 0;

  function shapeOf(name: string): number[] {
    const tensors = store.hello.value?.tensors;
    return tensors?.shape[tensors.name.indexOf(name)] ?? [];
  }

  function select(selection: Selection | null): void {
    turn += 1;
    selecting = null;
    store.selection.value = selection;
    store.refused.value = "";
    client.setTrait("region", trait());
  }

  function refuse(message: string): void {
    store.alert.value = { message: `${store.open.value?.name}: ${message}` };
  }

  async function parse(name: string, text: string): Promise<RegionInfo | null> {
    turn += 1;
    const mine = turn;
    const answer = await ask("reading the region", () => client.request("region", { name, text }));
    if (store.open.value?.name !== name) return null;
    if (mine !== turn) return store.selection.value?.region ?? all(name);
    if (!answer) {
      store.refused.value = text;
      return null;
    }
    const { region } = answer.reply;
    // Listed cells print as "[12 cells]", which cannot be read back: what was typed can.
    const spelled = /^\[\d+ cells?\]$/.test(region.text) ? { ...region, text } : region;
    const parts = partsOfText(text, shapeOf(name));
    select({ region: spelled, ...(parts ? { parts } : {}) });
    store.typed.value = store.selection.value;
    return spelled;
  }

  const all = (name: string): RegionInfo => {
    const axes = whole(shapeOf(name));
    return { text: "[...]", numel: cellCount(axes), axes };
  };

  /** No cell and every cell have a region; all between are listed. */
  function selectListed(cells: Float64Array, shape: number[], rest?: Axis[]): void {
    const everything = whole(shape);
    if (cells.length === cellCount(everything)) me.selectAxes(everything);
    else if (cells.length === 0) me.selectAxes(everything.map((range, axis) => (axis === 0 ? [0, 0, 1] : range)));
    else {
      const text = `[${cells.length} ${cells.length === 1 ? "cell" : "cells"}]`;
      const region = { text, numel: cells.length, axes: boundsOf(cells, shape) };
      select({ region, cells, ...(rest ? { rest } : {}) });
    }
  }

  const trait = (): string => {
    const selection = store.selection.value;
    return selection && !selection.cells ? selection.region.text : "";
  };

  function growFrom(selection: Selection | null, shape: number[]): void {
    const { cells, parts, region } = selection ?? {};
    if (cells) {
      const found = wider(cells, shape);
      if (found) selectListed(found, shape);
      else refuse("one further on each side these cells are too many to list. Select a region.");
    } else if (parts) me.selectParts(growParts(parts, shape));
    else me.selectAxes(grow(region?.axes ?? whole(shape), shape));
  }

  function invertFrom(selection: Selection | null, shape: number[]): void {
    const { cells, parts, region, rest } = selection ?? {};
    const axes = region?.axes ?? whole(shape);
    const others = rest ?? (cells ? otherCells(cells, shape) : parts ? null : invert(axes, shape));
    if (parts) me.selectParts(otherParts(parts, shape));
    else if (others instanceof Float64Array) selectListed(others, shape, cells ? undefined : axes);
    else if (others) me.selectAxes(others);
    else refuse("the other cells are none, or too many to list.");
  }

  const me: Selected = {
    selectText(text) {
      const name = store.open.value?.name;
      if (name === undefined) return Promise.resolve(null);
      if (text.trim() === "") {
        store.alert.value = null;
        select(null);
        return Promise.resolve(all(name));
      }
      const mine = parse(name, text.trim()).finally(() => {
        if (selecting === mine) selecting = null;
      });
      selecting = mine;
      return mine;
    },
    selectAxes(axes) {
      const name = store.open.value?.name;
      if (name === undefined) return;
      select({ region: { text: regionText(axes, shapeOf(name)), numel: cellCount(axes), axes } });
    },
    selectParts(parts) {
      const name = store.open.value?.name;
      const [first] = parts;
      if (name === undefined || !first) return;
      if (parts.length === 1) return me.selectAxes(first);
      const numel = parts.reduce((sum, part) => sum + cellCount(part), 0);
      const text = listText(parts, shapeOf(name));
      if (text.length > MOST_TEXT) return refuse("these are too many single indices to list. Select fewer.");
      select({ region: { text, numel, axes: parts.reduce(unite) }, parts });
    },
    selectCells(painted, how) {
      const name = store.open.value?.name;
      if (name === undefined) return;
      const shape = shapeOf(name);
      const before = store.selection.value;
      // Nothing selected means every cell: to paint begins anew, to take away begins with all.
      const boxes = before ? (before.parts ?? [before.region.axes]) : how === "add" ? [] : [whole(shape)];
      const listed = before?.cells ?? cellsIn(boxes, shape);
      const known = !before || before.cells !== undefined || listed?.length === before.region.numel;
      const cells = listed && known ? (how === "add" ? joined(listed, painted) : without(listed, painted)) : null;
      if (before && cells?.length === before.region.numel) return;
      if (cells) selectListed(cells, shape);
      else refuse("painted cells join a selection that can be listed cell by cell. Select less first, or nothing.");
    },
    async reselect(how) {
      if (selecting && (await selecting) === null) return;
      const name = store.open.value?.name;
      if (name === undefined) return;
      const shape = shapeOf(name);
      if (how === "all") me.selectAxes(whole(shape));
      else if (how === "grow") growFrom(store.selection.value, shape);
      else invertFrom(store.selection.value, shape);
    },
    clear: () => select(null),
    target(name, region) {
      const selection = store.selection.value;
      if (region === undefined && selection?.cells) return [{ name, cells: true }, [selection.cells]];
      const where = region === undefined ? store.where.value : null;
      return [{ name, region: region ?? selection?.region.text ?? "[...]", ...(where ? { where } : {}) }, []];
    },
    async ready() {
      // A region that is being read and turns out not to fit must not become "the whole tensor".
      if (selecting && (await selecting) === null) return undefined;
      if (store.refused.value) {
        const message = `Region ${store.refused.value} does not fit this tensor. Correct it or clear it, then edit.`;
        store.alert.value = { message };
        return undefined;
      }
      return store.open.value?.name;
    },
    trait,
  };
  return me;
}
