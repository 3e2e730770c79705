/** Small pictures of tensors, fetched in batches for those in sight; a changed one stands until its new one comes. */
import { type Signal, signal } from "@preact/signals";
import type { Actions } from "./actions";

export interface Thumbnail {
  rows: number;
  columns: number;
  /** Row-major: 128 is 0, 2 and 254 are the limits; 0 is not finite, 1 is no cell. */
  codes: Uint8Array;
  limit: number | null;
  sampled: boolean;
}

export interface Thumbnails {
  version: Signal<number>;
  get(name: string): Thumbnail | undefined;
  isFresh(name: string): boolean;
  want(names: readonly string[]): void;
  close(): void;
}

const BATCH = 256;

export function createThumbnails({ request, onChanged }: Actions): Thumbnails {
  const known = new Map<string, Thumbnail>();
  const fresh = new Set<string>();
  const version = signal(0);
  const ended = new AbortController();
  let wanted: readonly string[] = [];
  let asking = false;

  async function fetch(): Promise<void> {
    const names = wanted.filter((name) => !fresh.has(name)).slice(0, BATCH);
    if (asking || names.length === 0) return;
    asking = true;
    for (const name of names) fresh.add(name);
    try {
      const { reply, buffer } = await request("thumbnails", { names }, { signal: ended.signal });
      for (const name of reply.left) fresh.delete(name);
      const { name, rows, columns, limit, sampled } = reply.thumbnails;
      let from = buffer.byteOffset;
      name.forEach((each, at) => {
        const size = (rows[at] ?? 0) * (columns[at] ?? 0);
        known.set(each, {
          rows: rows[at] ?? 0,
          columns: columns[at] ?? 0,
          codes: new Uint8Array(buffer.buffer, from, size),
          limit: limit[at] ?? null,
          sampled: sampled[at] ?? false,
        });
        from += size;
      });
      version.value += 1;
    } catch {
      // Closed, or the kernel has gone: the tiles stay as they are.
      return;
    } finally {
      asking = false;
    }
    void fetch();
  }

  const leave = onChanged((changed) => {
    if (changed === "everything") fresh.clear();
    else for (const [name] of changed) fresh.delete(name);
    version.value += 1;
    void fetch();
  });

  return {
    version,
    get: (name) => known.get(name),
    isFresh: (name) => fresh.has(name) && known.has(name),
    want(names) {
      wanted = names;
      void fetch();
    },
    close() {
      ended.abort();
      leave();
    },
  };
}
