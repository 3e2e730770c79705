/** Where each tile of the model map lies: in the model's order, one block under another, as large as the room allows. Pure. */

export interface MapLayout {
  side: number;
  /** Upper left corner of each tile, in pixels. */
  x: Float64Array;
  y: Float64Array;
  /** Headings of blocks: text and place. */
  headings: { text: string; y: number }[];
  height: number;
}

const GAP = 3;
const SIDES = [56, 48, 40, 34, 28, 24, 20, 17, 14];
/** Left of a block, beside its first line. */
const HEADING = 92;
const BLOCK_GAP = 5;
/** More blocks than that are no help in finding one. */
const MOST_BLOCKS = 40;
const MARGIN = 12;

/** Block of each name: its first part, or the first two where all names share the first. */
export function blocksOf(names: readonly string[]): string[] {
  const parts = names.map((name) => name.split("."));
  const first = new Set(parts.map((each) => each[0]));
  const depth = first.size === 1 ? 2 : 1;
  return parts.map((each) => each.slice(0, Math.max(1, Math.min(depth, each.length - 1))).join("."));
}

export function layMap(names: readonly string[], width: number, height: number): MapLayout {
  const of = blocksOf(names);
  const blocks: { text: string; from: number; to: number }[] = [];
  of.forEach((text, at) => {
    const last = blocks.at(-1);
    // Tensors of the model itself are neighbours without a heading: a line for each would leave no room for them.
    const lone = names[at] === text;
    if (last && (last.text === text || (lone && last.text === ""))) last.to = at + 1;
    else if (lone) blocks.push({ text: "", from: at, to: at + 1 });
    else blocks.push({ text, from: at, to: at + 1 });
  });
  const plain = blocks.length > MOST_BLOCKS || blocks.length < 2;
  const shown = plain ? [{ text: "", from: 0, to: names.length }] : blocks;
  const indent = MARGIN + (plain ? 0 : HEADING);
  const across = (side: number): number => Math.max(1, Math.floor((width - indent - MARGIN + GAP) / (side + GAP)));
  const tall = (side: number): number =>
    shown.reduce(
      (sum, block) => sum + (plain ? 0 : BLOCK_GAP) + Math.ceil((block.to - block.from) / across(side)) * (side + GAP),
      2 * MARGIN,
    );
  const side = SIDES.find((each) => tall(each) <= height) ?? (SIDES.at(-1) as number);

  const x = new Float64Array(names.length);
  const y = new Float64Array(names.length);
  const headings: MapLayout["headings"] = [];
  let top = MARGIN;
  for (const { text, from, to } of shown) {
    if (!plain) headings.push({ text, y: top + side / 2 - 8 });
    for (let at = from; at < to; at += 1) {
      x[at] = indent + ((at - from) % across(side)) * (side + GAP);
      y[at] = top + Math.floor((at - from) / across(side)) * (side + GAP);
    }
    top += Math.ceil((to - from) / across(side)) * (side + GAP) + (plain ? 0 : BLOCK_GAP);
  }
  return { side, x, y, headings, height: top + MARGIN };
}

/** The tile at a place; -1 between them. */
export function tileAt(layout: MapLayout, x: number, y: number): number {
  const { side } = layout;
  for (let at = 0; at < layout.x.length; at += 1) {
    const left = layout.x[at] as number;
    const top = layout.y[at] as number;
    if (x >= left && x < left + side && y >= top && y < top + side) return at;
  }
  return -1;
}

/** Tiles that a strip of the map shows, as a range: they lie in order. */
export function tilesIn(layout: MapLayout, top: number, bottom: number): [number, number] {
  const { side, y } = layout;
  let from = 0;
  while (from < y.length && (y[from] as number) + side <= top) from += 1;
  let to = from;
  while (to < y.length && (y[to] as number) < bottom) to += 1;
  return [from, to];
}

/** Where an arrow leads: along the order, or to the nearest tile of the next line. */
export function mapMove(layout: MapLayout, key: string, at: number): number | null {
  const last = layout.x.length - 1;
  switch (key) {
    case "ArrowRight":
      return Math.min(last, at + 1);
    case "ArrowLeft":
      return Math.max(0, at - 1);
    case "Home":
      return 0;
    case "End":
      return last;
    case "ArrowDown":
    case "ArrowUp": {
      const step = key === "ArrowDown" ? 1 : -1;
      let line: number | null = null;
      let best = at;
      let off = Number.POSITIVE_INFINITY;
      for (let next = at + step; next >= 0 && next <= last; next += step) {
        const y = layout.y[next] as number;
        if (y === layout.y[at]) continue;
        line ??= y;
        if (y !== line) break;
        const away = Math.abs((layout.x[next] as number) - (layout.x[at] as number));
        if (away < off) {
          best = next;
          off = away;
        }
      }
      return best;
    }
    default:
      return null;
  }
}
