/** A page's store and actions over a model that answers as tests/messages.json says, made anew for each test. */
import { afterEach, beforeEach, vi } from "vitest";
import messages from "../../tests/messages.json";
import { createClient } from "../src/kernel/client";
import type { Bounds } from "../src/kernel/protocol";
import { type Actions, createActions } from "../src/state/actions";
import { createStore, type Store } from "../src/state/store";
import { FakeModel } from "./fake-model";

interface Example {
  message: Record<string, unknown>;
  ok: boolean;
  why: string;
}
export const requests = messages.requests as unknown as Example[];
export const sequences = messages.sequences as unknown as {
  messages: Record<string, unknown>[];
  reply: Record<string, unknown>;
}[];
export const replies = [
  ...(messages.replies as unknown as { op: string; message: Record<string, unknown> }[]),
  ...sequences.map((each) => ({ op: String(each.messages.at(-1)?.["op"]), message: each.reply })),
];
export const reply = (op: string): Record<string, unknown> => {
  const { id: _, revision: __, ...body } = replies.find((each) => each.op === op)?.message ?? {};
  return body;
};

export let model: FakeModel;
export let store: Store;
export let actions: Actions;
export let changes: [[string, Bounds][] | "everything", number][];

/** Lets promises that are settled run on. */
export const settle = () => vi.advanceTimersByTimeAsync(0);

beforeEach(async () => {
  vi.useFakeTimers();
  model = new FakeModel();
  store = createStore();
  actions = createActions(store, createClient(model));
  changes = [];
  actions.onChanged((changed, revision) => changes.push([changed, revision]));
  actions.connect();
  model.answer("hello", reply("hello"));
  await settle();
});
afterEach(() => {
  vi.useRealTimers();
});

export async function open(): Promise<void> {
  void actions.openTensor("conv.weight");
  model.answer("open", reply("open"));
  await settle();
}

/** Names and types of a message's fields, to the depth that the kernel checks. */
export function shape(message: Record<string, unknown>): string {
  const kind = (value: unknown): string => (value === null ? "null" : Array.isArray(value) ? "list" : typeof value);
  const fields = Object.entries(message)
    .filter(([key]) => key !== "id")
    .map(([key, value]) => {
      if (key === "op" || key === "edit" || key === "v" || key === "encoding") return `${key}=${String(value)}`;
      if (key === "args") return `args{${Object.keys(value as object).sort()}}`;
      return `${key}:${kind(value)}`;
    });
  return fields.sort().join(" ");
}
