/** After a restart nothing can be asked of the kernel: what would ask is switched off, and says the same (rule P9). */
import type { Store } from "../state/store";

/** Why, as a title; empty while somebody is there to answer. */
export const kernelGone = (store: Store): string =>
  store.kernel.value === "restarted" ? "The kernel was restarted: run the cell again." : "";
