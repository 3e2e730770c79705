/** A layout on its way to the kernel and back. */
import type { Answer } from "../kernel/client";
import type { Layout, LayoutCall } from "../kernel/protocol";
import type { OpenTensor } from "./store";

/** The field `layout` of a request, where one was asked for. */
export const laid = (call: LayoutCall | undefined): { layout?: LayoutCall } => (call ? { layout: call } : {});

/** Asks for this very layout again: its orders are named by their tokens. */
export const callOf = ({ rows, columns, facets, fixed, orders }: Layout): LayoutCall => ({
  rows,
  columns,
  facets,
  fixed,
  ...(orders.length > 0 ? { orders: orders.map((order) => order.token) } : {}),
});

/** What an answer to `open` says, as it is kept. The buffer has one int32 for each place of each order, then the tiles. */
export function opened(
  name: string,
  view: string,
  { reply, buffer, revision }: Answer<"open">,
  asked: LayoutCall | undefined,
): OpenTensor {
  const { layout, summary, exact_text, views, about, signed, tiles } = reply;
  let end = 0;
  const orders = layout.orders.map(({ axis }) => {
    const start = end;
    end += layout.shape[axis] ?? 0;
    return new Int32Array(end - start).map((_, i) => buffer.getInt32((start + i) * 4, true));
  });
  const kept = asked ? { call: callOf(layout) } : {};
  return {
    name,
    view,
    layout,
    summary,
    exact_text,
    views,
    about,
    signed,
    ...(tiles.length > 0 ? { first: { tiles, buffer, revision } } : {}),
    ...(orders.length > 0 ? { orders } : {}),
    ...kept,
  };
}
