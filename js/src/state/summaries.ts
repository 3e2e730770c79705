/**
 * The statistics of the open tensor, kept true: exact ones follow a sampled summary, new ones follow an edit.
 * One request at a time and never in the way of the first picture.
 */
import type { Client } from "../kernel/client";
import { type Store, viewed } from "./store";

/** Long enough for the first tiles to be asked for before a pass over every cell. */
const AFTER_PAINT = 350;
/** While cells keep changing, as in a training loop, an exact pass would be stale before it ends. */
const AFTER_QUIET = 1500;

export interface Summaries {
  /** A summary was shown: if it was sampled, ask for the exact one a little later. */
  complete(): void;
  /** Cells of the open tensor changed. */
  refresh(): void;
}

export function createSummaries(
  store: Store,
  client: Pick<Client, "request">,
  meet: (revision: number) => void,
): Summaries {
  let quick: ReturnType<typeof setTimeout> | undefined;
  let exact: ReturnType<typeof setTimeout> | undefined;
  let asking = false;
  let stale = false;

  /** `open` looks at a sample of a large tensor: cheap enough to follow a training loop. `summary` visits every cell. */
  async function ask(op: "open" | "summary"): Promise<void> {
    const view = store.open.value?.view;
    const name = store.open.value?.name;
    if (name === undefined) return;
    asking = true;
    try {
      const { reply, revision } = await client.request(op, { name, ...viewed(view) });
      const open = store.open.value;
      if (open?.name === name && open.view === view) {
        const { views, about, signed } = "views" in reply ? reply : open;
        store.open.value = { ...open, summary: reply.summary, views, about, signed };
      }
      meet(revision);
    } catch {
      // Statistics stay as they are; whatever the user does next reports the reason.
    } finally {
      asking = false;
    }
    if (stale) {
      stale = false;
      refresh();
    } else {
      completeAfter(AFTER_QUIET);
    }
  }

  function refresh(): void {
    clearTimeout(exact);
    if (asking) {
      stale = true;
      return;
    }
    if (quick !== undefined) return;
    quick = setTimeout(() => {
      quick = undefined;
      void ask("open");
    }, AFTER_PAINT);
  }

  function completeAfter(pause: number): void {
    clearTimeout(exact);
    if (store.open.value?.summary?.exact !== false) return;
    exact = setTimeout(() => {
      if (!asking) void ask("summary");
    }, pause);
  }

  return { complete: () => completeAfter(AFTER_PAINT), refresh };
}
