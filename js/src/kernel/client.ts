/**
 * Requests to the kernel and what comes back. The only file that sees anywidget's `model`.
 *
 * A request has exactly one reply and no time limit: a kernel that runs a cell answers when the cell is done. Silence is shown
 * ("busy"), not punished; only a channel that throws or a refusal by the kernel rejects.
 */
import { type Op, type Operations, type Push, unpack, VERSION } from "./protocol";

/** The part of anywidget's model that is used. Backbone's `off` takes the same callback that `on` took. */
export interface Channel {
  send(content: unknown, callbacks?: unknown, buffers?: ArrayBufferView[]): void;
  on(event: string, callback: (...args: never[]) => void): void;
  off(event: string, callback: (...args: never[]) => void): void;
  get(key: string): unknown;
  set(key: string, value: unknown): void;
  save_changes(): void;
}

export interface Answer<O extends Op> {
  reply: Operations[O]["reply"];
  /** Bulk numbers beside the reply; empty when there are none. */
  buffer: DataView;
  revision: number;
}

export interface RequestOptions {
  buffers?: ArrayBufferView[];
  signal?: AbortSignal;
  /** Is told what to name in `cancel`. */
  named?: (id: string) => void;
}

export interface ClientEvents {
  state(state: "ready" | "busy" | "restarted"): void;
  /** Progress is told of this page's own requests only. */
  push(push: Push): void;
  /** A request has its reply, or nobody waits for it any more. */
  settled(id: string): void;
}

/** Names the traits that other widgets link with; a kernel side without them is fine. */
export type Trait = "selected" | "region";

export interface Client {
  request<O extends Op>(op: O, fields: Operations[O]["request"], options?: RequestOptions): Promise<Answer<O>>;
  /** Asks `hello` until it is answered: what is sent before the kernel's side has a view may be lost. */
  connect(onHello: (answer: Answer<"hello">) => void, onError: (error: Error) => void): void;
  trait(key: Trait): string;
  setTrait(key: Trait, value: string): void;
  onTrait(key: Trait, callback: (value: string) => void): void;
  listen(events: ClientEvents): void;
  close(): void;
}

/** The kernel said no, in its own words. */
export class Refused extends Error {
  constructor(
    readonly kind: string,
    message: string,
  ) {
    super(message);
    this.name = "Refused";
  }
}

/** Nobody is there to answer: the kernel was restarted, or the view was closed. */
export class Gone extends Error {
  constructor() {
    super("The kernel was restarted. Run the cell again.");
    this.name = "Gone";
  }
}

/** Silence that long is shown as "busy" (P9). */
export const PATIENCE = 1000;
const HELLO_AGAIN = [2000, 4000, 8000, 16000, 30000];
const NO_BYTES = new DataView(new ArrayBuffer(0));

interface Waiting {
  settle(message: Record<string, unknown>, buffers: DataView[]): void;
  fail(error: Error): void;
  timer: ReturnType<typeof setTimeout>;
}

export function createClient(channel: Channel): Client {
  const waiting = new Map<string, Waiting>();
  const traits: [string, () => void][] = [];
  // crypto.randomUUID is missing on plain http; the prefix only has to differ between pages of one kernel.
  const prefix = Math.random().toString(36).slice(2, 10);
  let count = 0;
  let events: ClientEvents | null = null;
  let again: ReturnType<typeof setTimeout> | undefined;
  let closed = false;

  function onMessage(content: unknown, buffers: DataView[] | undefined): void {
    if (!isRecord(content) || content["v"] !== VERSION) return;
    if (typeof content["push"] === "string") {
      const push = asPush(content);
      if (push && (push.push !== "progress" || waiting.has(push.id))) events?.push(push);
      return;
    }
    const id = content["id"];
    const entry = typeof id === "string" ? waiting.get(id) : undefined;
    if (!entry || typeof id !== "string") return;
    waiting.delete(id);
    clearTimeout(entry.timer);
    events?.state("ready");
    events?.settled(id);
    entry.settle(content, buffers ?? []);
  }

  function request<O extends Op>(
    op: O,
    fields: Operations[O]["request"],
    options: RequestOptions = {},
  ): Promise<Answer<O>> {
    return new Promise((resolve, reject) => {
      const { signal } = options;
      if (closed) return reject(new Gone());
      if (signal?.aborted) return reject(aborted());
      count += 1;
      const id = `${prefix}-${count}`;
      options.named?.(id);
      const drop = (): void => {
        const entry = waiting.get(id);
        if (!entry) return;
        waiting.delete(id);
        clearTimeout(entry.timer);
        events?.settled(id);
        reject(aborted());
      };
      const finish = (): void => signal?.removeEventListener("abort", drop);
      waiting.set(id, {
        timer: setTimeout(() => events?.state("busy"), PATIENCE),
        settle(message, buffers) {
          finish();
          if (message["ok"] === true) {
            for (const key of ["tensors", "modules"]) {
              if (op === "hello" || op === "refresh")
                message[key] = unpack((message[key] ?? {}) as Record<string, unknown>);
            }
            resolve({
              reply: message as unknown as Operations[O]["reply"],
              buffer: buffers[0] ?? NO_BYTES,
              revision: typeof message["revision"] === "number" ? message["revision"] : 0,
            });
            return;
          }
          const error = isRecord(message["error"]) ? message["error"] : {};
          reject(
            new Refused(String(error["kind"] ?? "InternalError"), String(error["message"] ?? "No reason was given.")),
          );
        },
        fail(error) {
          finish();
          reject(error);
        },
      });
      signal?.addEventListener("abort", drop);
      try {
        channel.send({ v: VERSION, id, op, ...fields }, undefined, options.buffers ?? []);
      } catch {
        // After a restart the comm is gone and `send` throws; whatever was asked before will not be answered either.
        failAll(new Gone());
        events?.state("restarted");
      }
    });
  }

  function failAll(error: Error): void {
    const entries = [...waiting];
    waiting.clear();
    for (const [id, entry] of entries) {
      events?.settled(id);
      clearTimeout(entry.timer);
      entry.fail(error);
    }
  }

  function connect(onHello: (answer: Answer<"hello">) => void, onError: (error: Error) => void): void {
    let answered = false;
    const ask = (attempt: number): void => {
      request("hello", {}).then(
        (answer) => {
          answered = true;
          clearTimeout(again);
          onHello(answer);
        },
        (error: Error) => {
          clearTimeout(again);
          if (!answered) onError(error);
        },
      );
      again = setTimeout(
        () => {
          if (!answered && !closed) ask(attempt + 1);
        },
        HELLO_AGAIN[Math.min(attempt, HELLO_AGAIN.length - 1)],
      );
    };
    ask(0);
  }

  channel.on("msg:custom", onMessage as (...args: never[]) => void);
  // A kernel that restarts closes its comm: asking then throws, which is how the page learns of it before the next click.
  const probe = (): void => {
    if (!closed) request("hello", {}).catch(() => {});
  };
  channel.on("comm_live_update", probe as (...args: never[]) => void);

  return {
    request,
    connect,
    trait(key) {
      const value = channel.get(key);
      return typeof value === "string" ? value : "";
    },
    setTrait(key, value) {
      // Absent traits stay absent: setting one would make the kernel complain.
      const known = channel.get(key);
      if (typeof known !== "string" || known === value) return;
      channel.set(key, value);
      try {
        channel.save_changes();
      } catch {
        events?.state("restarted");
      }
    },
    onTrait(key, callback) {
      const listener = (): void => {
        const value = channel.get(key);
        if (typeof value === "string") callback(value);
      };
      traits.push([`change:${key}`, listener]);
      channel.on(`change:${key}`, listener);
    },
    listen(to) {
      events = to;
    },
    close() {
      closed = true;
      clearTimeout(again);
      channel.off("msg:custom", onMessage as (...args: never[]) => void);
      channel.off("comm_live_update", probe as (...args: never[]) => void);
      for (const [event, listener] of traits) channel.off(event, listener);
      failAll(new Gone());
      events = null;
    },
  };
}

function aborted(): Error {
  return new DOMException("The request is no longer wanted.", "AbortError");
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function asPush(content: Record<string, unknown>): Push | null {
  const { push, revision, changed, state } = content;
  if (push === "changed" && typeof revision === "number" && Array.isArray(changed) && isRecord(state)) {
    return content as unknown as Push;
  }
  if (push === "progress" && typeof content["id"] === "string") {
    return typeof content["done"] === "number" ? (content as unknown as Push) : null;
  }
  if (content["push"] === "status" && typeof content["queued"] === "number") return content as unknown as Push;
  return null;
}
