/** Seeded numbers and layouts for the heatmap's tests. */
import { makeSheet, type Sheet } from "../src/heatmap/layout";
import type { Layout } from "../src/kernel/protocol";

/** mulberry32: the same numbers everywhere. */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** What of a layout is rarely needed. */
export const PLAIN = { fixed: [], groups: [], norm: "", orders: [] } satisfies Partial<Layout>;

export const below = (next: () => number, n: number): number => Math.floor(next() * n);

export function randomLayout(next: () => number): Layout {
  const axes = below(next, 6);
  const shape = Array.from({ length: axes }, () => 1 + below(next, 5));
  const lists: number[][] = [[], [], []];
  const order = shape.map((_, axis) => axis).sort(() => next() - 0.5);
  for (const axis of order) (lists[below(next, 3)] as number[]).push(axis);
  const [rows = [], columns = [], facets = []] = lists;
  const count = facets.reduce((n, axis) => n * (shape[axis] as number), 1);
  return {
    ...PLAIN,
    rows,
    columns,
    facets,
    wrap: 1 + below(next, count),
    labels: shape.map((_, axis) => `axis${axis}`),
    shape,
  };
}

/** Any axes in any role, some fixed, some sorted. */
export function randomSheet(next: () => number): Sheet {
  const layout = randomLayout(next);
  const still = layout.shape.flatMap((_, axis) => (next() < 0.2 ? [axis] : []));
  const without = (axes: number[]): number[] => axes.filter((axis) => !still.includes(axis));
  const orders = layout.shape.flatMap((_, axis) => (next() < 0.3 ? [axis] : []));
  return makeSheet(
    {
      ...layout,
      rows: without(layout.rows),
      columns: without(layout.columns),
      facets: without(layout.facets),
      fixed: still.map((axis): [number, number] => [axis, below(next, layout.shape[axis] as number)]),
      orders: orders.map((axis) => ({ axis, by: "norm", token: String(axis) })),
    },
    orders.map((axis) => shuffled(next, layout.shape[axis] as number)),
  );
}

function shuffled(next: () => number, n: number): Int32Array {
  const out = Int32Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = below(next, i + 1);
    [out[i], out[j]] = [out[j] as number, out[i] as number];
  }
  return out;
}

/** Every index of a shape, in row-major order. */
export function* indices(shape: number[]): Generator<number[]> {
  const total = shape.reduce((a, b) => a * b, 1);
  for (let flat = 0; flat < total; flat++) {
    const index = new Array<number>(shape.length).fill(0);
    let rest = flat;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis] = rest % (shape[axis] as number);
      rest = Math.floor(rest / (shape[axis] as number));
    }
    yield index;
  }
}
