/**
 * The second script of the page: panels that the first picture does not need. The kernel hands it over on request, so that a
 * saved notebook stores only the first one with each widget.
 */
import * as signals from "@preact/signals";
import * as preact from "preact";
import * as hooks from "preact/hooks";
import type * as Extra from "../extra";
import type { Client } from "../kernel/client";

/** Its panels; null until they have arrived. */
export const extra = signals.signal<typeof Extra | null>(null);

/** One preact for both scripts: hooks and signals live in its module state. */
const SHARED: Record<string, unknown> = { preact, "preact/hooks": hooks, "@preact/signals": signals };

let loading: Promise<void> | null = null;

/** Asks for the second script once, however many views and models there are. Rejects when the kernel refuses or is gone. */
export function loadExtra(client: Client): Promise<void> {
  loading ??= load(client).catch((error: unknown) => {
    loading = null;
    throw error;
  });
  return loading;
}

async function load(client: Client): Promise<void> {
  const { buffer } = await client.request("script", {});
  const bytes = new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength).slice();
  const url = URL.createObjectURL(new Blob([bytes], { type: "text/javascript" }));
  try {
    const script = (await import(url)) as { default(require: (name: string) => unknown): typeof Extra };
    extra.value = script.default((name) => SHARED[name]);
  } finally {
    URL.revokeObjectURL(url);
  }
}
