/** Where a typed region lies: the view moves there when it shows none of its cells, and keeps its scale. Pure. */
import type { Selection } from "../state/store";
import { cellOf, isShown, type Sheet } from "./layout";
import { placesOf } from "./places";
import { regionMeets } from "./regions";
import { reveal, type View, visible } from "./viewport";

export function towards(view: View, sheet: Sheet, { region, parts }: Selection): View {
  const boxes = parts ?? [region.axes];
  const seen = visible(view);
  if (region.numel === 0 || placesOf(sheet, boxes).some((places) => regionMeets(sheet, places, seen))) return view;
  const first = boxes[0]?.map(([start]) => start) ?? [];
  if (!isShown(sheet, first)) return view;
  const { row, column } = cellOf(sheet, first);
  return reveal(view, row, column);
}
