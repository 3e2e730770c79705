/** What the user can do. Each action asks the kernel where needed and writes the outcome into the store. */
import { batch } from "@preact/signals";
import { type Answer, type Client, Gone, Refused } from "../kernel/client";
import type {
  EditCall,
  HoldCall,
  LayoutCall,
  Operations,
  Statistic,
  Target,
  TensorColumns,
  TileHead,
  TileKey,
} from "../kernel/protocol";
import { loadExtra } from "./extra";
import { changedBy, createFeed, type Feed, type Listener } from "./feed";
import { laid } from "./layouts";
import { createOpening } from "./opening";
import { createSelecting, type Selecting } from "./selecting";

import { type Store, viewed } from "./store";
import { whyUnchanged } from "./unchanged";
import { wordsFor } from "./words";

export interface Actions extends Selecting {
  /** For panels that ask for something of their own; rejects as the client does. */
  request: Client["request"];
  /** To be told the revision of what such a request brought. */
  meet(revision: number): void;
  /** State and change that such a request brought. */
  take: Feed["takeState"];
  /** The same with words of waiting; what goes wrong becomes the alert, and the answer null. */
  ask<T>(words: string, task: () => Promise<T>): Promise<T | null>;
  /** Show a tensor, its values or another view: ask `open`, clear the selection. */
  openTensor(name: string, view?: string): Promise<void>;
  /** Another view of the open tensor; the selection stays. */
  showView(view: string): Promise<void>;
  /** The open tensor with its axes in other roles, sorted or at other indices; undefined: as the layer suggests. */
  arrange(call: LayoutCall | undefined): Promise<void>;
  /** One number per index of an axis. */
  profile(name: string, axis: number, stat: Statistic, view?: string): Promise<Float32Array>;
  /** Apply an operation or a hold to the selection (the whole tensor when there is none), or to `region`. True when it was applied. */
  edit(call: EditCall | HoldCall, region?: string): Promise<boolean>;
  /** Apply to painted cells: flat row-major indices. */
  editCells(call: EditCall | HoldCall, cells: Float64Array): Promise<boolean>;
  /** The norm layer behind the filter that was zeroed last, too. */
  zeroBehind(): Promise<void>;
  /** The last edit or hold again, on the present selection. */
  repeat(): Promise<boolean>;
  /** What an edit would do, into the store. Resolves to what the kernel has against it, or "". */
  preview(call: EditCall, region: string | undefined, signal: AbortSignal): Promise<string>;
  release(hold: number): Promise<void>;
  undo(force?: boolean): Promise<void>;
  redo(force?: boolean): Promise<void>;
  /** Go to where the history was after an entry; 0 is the model as loaded. */
  jump(entry: number, force?: boolean): Promise<void>;
  snapshot(label: string): Promise<boolean>;
  drop(label: string): Promise<void>;
  /** The values of a snapshot, of all tensors or of one. */
  restore(label: string, name?: string): Promise<void>;
  /** All that fits by name and shape, copied or averaged; with `plan` only the table of what would be. */
  transfer(label: string, weight: string, plan: boolean): Promise<boolean>;
  compare(label: string): Promise<void>;
  export(what: "python" | "recipe"): Promise<string | null>;
  save(file: string, replace?: boolean): Promise<{ file: string; bytes: number } | null>;
  check(): Promise<void>;
  setAutoCheck(on: boolean): Promise<void>;
  refresh(): Promise<void>;
  /** Ends the request that the progress is of; it then answers "Cancelled". */
  cancel(): Promise<void>;
  /** Exact texts of cells, from the kernel. */
  read(name: string, cells: number[][], view?: string): Promise<string[]>;
  /** Tiles of the open tensor. Rejects when the kernel refuses, is gone, or `signal` aborts; waits while the kernel is busy. */
  tiles(
    wanted: Omit<Operations["tiles"]["request"], "view" | "layout">,
    signal: AbortSignal,
    view?: string,
    call?: LayoutCall,
  ): Promise<{ tiles: TileHead[]; left: TileKey[]; buffer: DataView; revision: number }>;
  /** Called when cells changed, by anyone: the heatmap marks its tiles stale. Returns the unsubscribe function. */
  onChanged(callback: Listener): () => void;
  /** First contact; called when a view exists. Asks once per kernel, however many views there are. */
  connect(): void;
  /** Takes the alert away: it was read. */
  dismiss(): void;
}

export function createActions(store: Store, client: Client): Actions {
  const feed = createFeed(store, client);
  const { ask, change, meet, tell, takeHello, takeState, checkSoon } = feed;
  const selecting = createSelecting(store, client, ask);
  const { target } = selecting;
  const opening = createOpening(store, client, feed, () => {
    store.where.value = null;
    store.preview.value = null;
    store.go.value = null;
    store.peek.value = false;
    selecting.clear();
  });
  const ready = () => opening.settled().then(selecting.ready);
  let connected = false;
  async function send(call: EditCall | HoldCall, [to, buffers]: [Target, ArrayBufferView[]]): Promise<boolean> {
    const moments = store.moments.value;
    const about = moments && store.lab.value?.moments ? { moments } : {};
    const answer = await change<Answer<"edit"> | Answer<"hold">>(wordsFor(call), () =>
      "edit" in call
        ? client.request("edit", { ...to, ...call, ...about }, { buffers })
        : client.request("hold", { ...to, ...call }, { buffers }),
    );
    if (!answer) return false;
    const { entry, state } = answer.reply;
    const norm = "behind" in answer.reply ? answer.reply.behind : null;
    batch(() => {
      store.behind.value = entry && norm ? { entry: entry.id, norm, target: to, buffers } : null;
      store.notice.value = "";
      store.last.value = call;
      takeState(state, changedBy(entry), answer.revision);
    });
    if (!entry) tellWhy(to, call, buffers);
    return true;
  }

  function tellWhy(to: Target, call: EditCall | HoldCall, buffers: ArrayBufferView[]): void {
    const columns = store.hello.value?.tensors;
    const dtype = columns?.dtype[columns.name.indexOf(to.name)] ?? "";
    void whyUnchanged(client, to, call, buffers, dtype).then((words) => {
      store.notice.value = words;
    });
  }

  /** One step of the history; `past` says what changed where no entry does. */
  async function step<O extends "undo" | "redo" | "jump" | "release" | "restore" | "snapshot" | "drop">(
    op: O,
    fields: Operations[O]["request"],
    words: string,
    retry = {},
  ): Promise<boolean> {
    const answer = await change(words, () => client.request(op, fields), retry);
    if (!answer) return false;
    const { reply, revision } = answer;
    store.notice.value = "";
    takeState(reply.state, "entry" in reply ? changedBy(reply.entry) : op === "jump" ? "everything" : null, revision);
    return true;
  }

  const insist = (force: boolean): { force?: boolean } => (force ? { force } : {});

  const actions: Actions = {
    ...selecting,
    request: client.request,
    meet,
    take: takeState,
    ask: (words, task) => ask(words, task),
    openTensor: opening.openTensor,
    showView: opening.showView,
    arrange: opening.arrange,
    // What is asked of the open tensor while another is on its way is meant for that one.
    selectText(text) {
      const select = () => selecting.selectText(text);
      return store.opening.value ? opening.settled().then(select) : select();
    },
    async edit(call, region) {
      const name = await ready();
      return name !== undefined && send(call, target(name, region));
    },
    async editCells(call, cells) {
      const name = store.open.value?.name;
      if (name === undefined || cells.length === 0) return false;
      return send(call, [{ name, cells: true }, [cells]]);
    },
    async zeroBehind() {
      const behind = store.behind.value;
      if (!behind) return;
      const call: EditCall = { edit: "zero_", args: {} };
      const fields = { ...behind.target, ...call, linked: true };
      const answer = await change("zeroing", () => client.request("edit", fields, { buffers: behind.buffers }));
      if (!answer) return;
      const { entry, state } = answer.reply;
      store.behind.value = null;
      takeState(state, changedBy(entry), answer.revision);
      if (!entry) tellWhy(behind.target, call, behind.buffers);
    },
    async repeat() {
      const call = store.last.value;
      return call !== null && actions.edit(call);
    },
    async preview(call, region, signal) {
      const name = await ready();
      if (name === undefined || signal.aborted) return "";
      const [to, buffers] = target(name, region);
      try {
        const { reply, buffer } = await client.request("preview", { ...to, ...call }, { buffers, signal });
        store.preview.value = { ...reply.preview, picked: buffer };
        return "";
      } catch (error) {
        if (!(error instanceof Refused || error instanceof Gone)) return "";
        store.preview.value = null;
        return error.message;
      }
    },
    async release(hold) {
      await step("release", { hold }, "releasing");
    },
    async undo(force = false) {
      await step("undo", insist(force), "undoing", { retry: "undo" });
    },
    async redo(force = false) {
      await step("redo", insist(force), "redoing", { retry: "redo" });
    },
    async jump(entry, force = false) {
      await step("jump", { entry, ...insist(force) }, "going there", { retry: "jump", entry });
    },
    snapshot: (label) => step("snapshot", { label }, "taking a snapshot"),
    async drop(label) {
      const done = await step("drop", { label }, "dropping");
      if (!done) return;
      if (store.comparison.value?.label === label) store.comparison.value = null;
      if (store.open.value?.view === `diff:${label}`) void actions.showView("value");
    },
    async restore(label, name) {
      await step("restore", { label, ...(name === undefined ? {} : { name }) }, "restoring");
    },
    async transfer(label, weight, plan) {
      const fields = { label, ...(weight ? { weight } : {}), ...(plan ? { plan } : {}) };
      const answer = await (plan ? ask : change)(plan ? "comparing" : "copying", () =>
        client.request("transfer", fields),
      );
      if (!answer) return false;
      const { rows, entry, state } = answer.reply;
      batch(() => {
        store.transfer.value = { label, rows, done: !plan };
        store.notice.value = plan || entry ? "" : "No cell changed: all that fits is equal already.";
        takeState(state, changedBy(entry), answer.revision);
      });
      return true;
    },
    async compare(label) {
      const answer = await ask("comparing", () => client.request("diff", { label }));
      if (answer) store.comparison.value = answer.reply;
    },
    async export(what) {
      return (await ask("writing", () => client.request("export", { what })))?.reply.text ?? null;
    },
    async save(file, replace = false) {
      const fields = { file, ...(replace ? { replace } : {}) };
      return (await ask("saving", () => client.request("save", fields), { replace: file }))?.reply ?? null;
    },
    check: feed.check,
    async setAutoCheck(on) {
      const answer = await ask("setting", () => client.request("set", { auto_check: on }));
      if (!answer) return;
      store.lab.value = answer.reply.state;
      if (on) checkSoon(answer.reply.state);
    },
    async refresh() {
      const answer = await ask("reading the model again", () => client.request("refresh", {}));
      if (!answer) return;
      takeHello(answer);
      // The model was read again because something may have changed unseen: the picture is, too.
      tell("everything", answer.revision);
    },
    async cancel() {
      const id = store.progress.value?.id;
      if (id !== undefined) await ask("cancelling", () => client.request("cancel", { request: id }));
    },
    async read(name, cells, view) {
      return (await client.request("read", { name, ...viewed(view), cells })).reply.texts;
    },
    async profile(name, axis, stat, view) {
      const asked = client.request("profile", { name, ...viewed(view), axis, stat });
      const { buffer } = await asked.catch((error: unknown) => {
        // Whoever ends it wants no edges: the choice says so.
        if (error instanceof Refused && error.kind === "Cancelled") store.profile.value = null;
        throw error;
      });
      return new Float32Array(buffer.byteLength >> 2).map((_, i) => buffer.getFloat32(i * 4, true));
    },
    async tiles(wanted, signal, view, call) {
      const fields = { ...wanted, ...viewed(view), ...laid(call) };
      const { reply, buffer, revision } = await client.request("tiles", fields, { signal });
      meet(revision);
      return { tiles: reply.tiles, left: reply.left, buffer, revision };
    },
    onChanged(callback) {
      feed.listeners.add(callback);
      return () => feed.listeners.delete(callback);
    },
    connect() {
      if (connected) return;
      connected = true;
      client.connect(
        (answer) => {
          takeHello(answer);
          if (store.open.value) return;
          const wanted = client.trait("selected") || firstWorthSeeing(answer.reply.tensors);
          if (wanted) void openWanted(wanted, client.trait("region"));
          // After the picture was asked for, so that it comes first.
          loadExtra(client).catch((error: Error) => {
            store.alert.value = { message: `The panels could not be loaded. ${error.message}` };
          });
        },
        (error) => {
          connected = false;
          store.alert.value = { message: error.message };
        },
      );
    },
    dismiss() {
      store.alert.value = null;
    },
  };

  async function openWanted(name: string, region: string): Promise<void> {
    await actions.openTensor(name);
    if (region) await actions.selectText(region);
  }

  client.onTrait("selected", (name) => {
    if (name && name !== (store.opening.value || store.open.value?.name)) void actions.openTensor(name);
  });
  client.onTrait("region", (text) => {
    if (text !== selecting.trait()) void actions.selectText(text);
  });
  return actions;
}

/** What a page shows first: a weight with something to see, or whatever there is. */
function firstWorthSeeing(tensors: TensorColumns): string | undefined {
  const at = tensors.kind.findIndex((kind, i) => kind === "parameter" && (tensors.shape[i]?.length ?? 0) > 1);
  return tensors.name[Math.max(at, 0)];
}
