/** The views that a tensor has, in words. Pure. */
import type { Store } from "../state/store";

const WORDS: Record<string, string> = { check_gradient: "gradient (check)", update: "last update" };

export const viewWords = (view: string): string => WORDS[view] ?? view;

/** The kernel's list has only what the open tensor has. Snapshots come and go without it being asked again. */
export function viewsOf(store: Store): string[] {
  const { snapshots = [], offers = [] } = store.lab.value ?? {};
  return [
    ...(store.open.value?.views ?? ["value"]).filter((view) => !view.startsWith("diff:")),
    ...[...snapshots, ...offers].map((label) => `diff:${label}`),
  ];
}
