/** The axes of a layout in other roles, at other indices, in another order: what the page may ask of the kernel. Pure. */
import type { Layout, LayoutCall, OrderBy } from "../kernel/protocol";
import { callOf } from "./layouts";

export const ROLES = ["rows", "columns", "facets", "fixed"] as const;
export type Role = (typeof ROLES)[number];

export const axesIn = (layout: Layout, role: Role): number[] =>
  role === "fixed" ? layout.fixed.map(([axis]) => axis) : layout[role];

export const roleOf = (layout: Layout, axis: number): Role =>
  ROLES.find((role) => axesIn(layout, role).includes(axis)) ?? "rows";

/** An axis in a role, before the axis that stood at `place` there; behind all of them without a place. */
export function moved(layout: Layout, axis: number, role: Role, place = Number.POSITIVE_INFINITY): LayoutCall {
  const call = callOf(layout);
  const without = (axes: number[]): number[] => axes.filter((each) => each !== axis);
  const before = axesIn(layout, role)
    .slice(0, place)
    .filter((each) => each !== axis).length;
  const into = (of: "rows" | "columns" | "facets"): number[] =>
    of === role ? without(layout[of]).toSpliced(before, 0, axis) : without(layout[of]);
  const fixed = layout.fixed.filter(([each]) => each !== axis);
  const at = layout.fixed.find(([each]) => each === axis)?.[1] ?? 0;
  return {
    ...call,
    rows: into("rows"),
    columns: into("columns"),
    facets: into("facets"),
    fixed: role === "fixed" ? fixed.toSpliced(before, 0, [axis, at]) : fixed,
  };
}

/** Another index of a fixed axis. */
export const atIndex = (layout: Layout, axis: number, index: number): LayoutCall => ({
  ...callOf(layout),
  fixed: layout.fixed.map(([each, still]) => [each, each === axis ? index : still]),
});

/** An axis sorted, or with null in the order of its indices. */
export function sortedBy(layout: Layout, axis: number, by: OrderBy | null): LayoutCall {
  const others = layout.orders.filter((order) => order.axis !== axis);
  return { ...callOf({ ...layout, orders: others }), ...(by ? { sort: [[axis, by]] } : {}) };
}

/** Where something dropped at `x` goes among boxes side by side: before the first whose middle lies further right. */
export function placeAt(x: number, boxes: readonly { left: number; right: number }[]): number {
  const at = boxes.findIndex(({ left, right }) => x < (left + right) / 2);
  return at < 0 ? boxes.length : at;
}
