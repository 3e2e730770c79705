/** What the second picture has of its own: which view it shows, and its colours. All else is the first one's. */
import { signal } from "@preact/signals";
import type { Store } from "./store";

export const secondStore = (store: Store): Store => ({
  ...store,
  open: signal(null),
  range: signal({ kind: "symmetric" }),
  curve: signal("linear"),
  map: signal("auto"),
  held_axis: signal(null),
  missing: signal(""),
  // A look back is the first picture's, and so is what the check after an edit waits for.
  peek: signal(false),
  painted: signal(0),
  room: signal(null),
});
