/** What the user can do. Each action asks the kernel where needed and writes the outcome into the store. */
import { batch } from "@preact/signals";
import { type Answer, type Client, Gone, Refused } from "../kernel/client";
import type {
  Bounds,
  EditCall,
  Entry,
  LabState,
  Operations,
  RegionInfo,
  TensorColumns,
  TileHead,
  TileKey,
} from "../kernel/protocol";
import { assertNever } from "./assert-never";
import { cellCount, regionText } from "./region-text";
import type { Store } from "./store";
import { createSummaries } from "./summaries";

export interface Actions {
  /** Show a tensor: ask `open`, clear the selection. */
  openTensor(name: string): Promise<void>;
  /** Text of the region box. Asks `region`, sets the selection or the alert. Resolves to null when it does not fit. */
  selectText(text: string): Promise<RegionInfo | null>;
  /** A selection by mouse or keyboard, already known to fit: one [start, stop, step] per axis. */
  selectAxes(axes: [number, number, number][]): void;
  /** Apply an operation to the selection (the whole tensor when there is none), or to `region`. True when it was applied. */
  edit(call: EditCall, region?: string): Promise<boolean>;
  /** Apply to painted cells: flat row-major indices. */
  editCells(call: EditCall, cells: Float64Array): Promise<boolean>;
  undo(force?: boolean): Promise<void>;
  redo(force?: boolean): Promise<void>;
  check(): Promise<void>;
  setAutoCheck(on: boolean): Promise<void>;
  refresh(): Promise<void>;
  /** Exact texts of cells, from the kernel. */
  read(name: string, cells: number[][]): Promise<string[]>;
  /** Tiles of the open tensor. Rejects when the kernel refuses, is gone, or `signal` aborts; waits while the kernel is busy. */
  tiles(
    name: string,
    tiles: TileKey[],
    encoding: "f32" | "q8",
    signal: AbortSignal,
  ): Promise<{ tiles: TileHead[]; left: TileKey[]; buffer: DataView; revision: number }>;
  /** Called when cells changed, by anyone: the heatmap marks its tiles stale. Returns the unsubscribe function. */
  onChanged(callback: (changed: [string, Bounds][] | "everything", revision: number) => void): () => void;
  /** First contact; called when a view exists. Asks once per kernel, however many views there are. */
  connect(): void;
  /** Takes the alert away: it was read. */
  dismiss(): void;
  /** Show the code of an entry of the history; null: of the last one applied. */
  showEntry(id: number | null): void;
}

type Changed = [string, Bounds][] | "everything";

export function createActions(store: Store, client: Client): Actions {
  const listeners = new Set<(changed: Changed, revision: number) => void>();
  const summaries = createSummaries(store, client, meet);
  let connected = false;
  /** A region text on its way: an edit waits for it, so that what was typed is what is edited. */
  let selecting: Promise<RegionInfo | null> | null = null;
  let checking = false;
  let checkAgain = false;
  let repaint: ReturnType<typeof setTimeout> | undefined;
  let catchUp: ReturnType<typeof setTimeout> | undefined;

  function shapeOf(name: string): number[] {
    const tensors = store.hello.value?.tensors;
    return tensors?.shape[tensors.name.indexOf(name)] ?? [];
  }

  function tell(changed: Changed, revision: number): void {
    for (const each of listeners) each(changed, revision);
    const open = store.open.value?.name;
    if (open && (changed === "everything" || changed.some(([name]) => name === open))) summaries.refresh();
  }

  /** Every reply carries the revision. One that is news means that a push was lost: nothing drawn can be trusted. */
  function meet(revision: number): void {
    if (revision <= store.revision.value) return;
    store.revision.value = revision;
    tellEverythingSoon();
    catchUpSoon();
  }

  /**
   * In a training loop every reply is news, and redrawing everything asks for more replies: the pause keeps that from feeding
   * itself at the kernel's full speed.
   */
  function tellEverythingSoon(): void {
    if (repaint !== undefined) return;
    repaint = setTimeout(() => {
      repaint = undefined;
      tell("everything", store.revision.value);
    }, 200);
  }

  /** History and gradients of somebody else's change. The pause bounds what a training loop's pushes can cost. */
  function catchUpSoon(pause = 400): void {
    if (catchUp !== undefined) return;
    catchUp = setTimeout(async () => {
      const begun = Date.now();
      try {
        takeHello(await client.request("hello", {}));
      } catch {
        // The next push or reply asks again.
      }
      // At most a fifth of the time goes into catching up.
      catchUp = setTimeout(
        () => {
          catchUp = undefined;
        },
        Math.max(600, 4 * (Date.now() - begun)),
      );
    }, pause);
  }

  function takeHello({ reply, revision }: Answer<"hello" | "refresh">): void {
    const fresh = revision > store.revision.value;
    const old = store.hello.value;
    // The same columns keep their identity: a tree of thousands of rows is not built again for every push.
    const tensors = old && same(old.tensors, reply.tensors) ? old.tensors : reply.tensors;
    const modules = old && same(old.modules, reply.modules) ? old.modules : reply.modules;
    batch(() => {
      store.hello.value = { model: reply.model, tensors, modules, state: reply.state };
      store.lab.value = reply.state;
      store.revision.value = revision;
    });
    if (fresh && old) tellEverythingSoon();
  }

  /** Runs one request with its words of waiting; turns what goes wrong into the alert. Null when it did. */
  async function ask<T>(words: string, task: () => Promise<T>, retry?: "undo" | "redo"): Promise<T | null> {
    store.working.value = words;
    const before = store.alert.value;
    try {
      const result = await task();
      // An alert that came meanwhile is about something else.
      if (store.alert.value === before) store.alert.value = null;
      return result;
    } catch (error) {
      if (error instanceof Refused && error.kind === "UndoConflict" && retry) {
        store.alert.value = { message: error.message, retry };
      } else if (error instanceof Refused || error instanceof Gone) {
        store.alert.value = { message: error.message };
      } else {
        throw error;
      }
      return null;
    } finally {
      if (store.working.value === words) store.working.value = "";
    }
  }

  function takeState(state: LabState, entry: Entry | null, revision: number): void {
    const expected = store.revision.value + 1;
    batch(() => {
      store.lab.value = state;
      store.shown.value = null;
      store.revision.value = Math.max(revision, store.revision.value);
    });
    checkSoon(state);
    // More than one step ahead: somebody else was in between, and their push has not come.
    if (revision > expected) tell("everything", revision);
    else if (entry) tell(entry.changed, revision);
  }

  /** The kernel answers an edit before it checks, so that the picture does not wait for a backward pass. */
  function checkSoon(state: LabState): void {
    if (!state.auto_check || state.gradients?.revision === store.revision.value) return;
    if (checking) checkAgain = true;
    else void check();
  }

  async function check(): Promise<void> {
    checking = true;
    const answer = await ask("checking gradients", () => client.request("check", {}));
    checking = false;
    const again = checkAgain;
    checkAgain = false;
    if (!answer) return;
    store.lab.value = answer.reply.state;
    meet(answer.revision);
    if (again) checkSoon(answer.reply.state);
  }

  async function send(
    fields: Operations["edit"]["request"],
    buffers: ArrayBufferView[],
    words: string,
  ): Promise<boolean> {
    const answer = await ask(words, () => client.request("edit", fields, { buffers }));
    if (!answer) return false;
    const { entry, state } = answer.reply;
    batch(() => {
      store.notice.value = entry ? "" : "No cell changed: they already held these values.";
      takeState(state, entry, answer.revision);
    });
    return true;
  }

  async function step(op: "undo" | "redo", force: boolean): Promise<void> {
    const words = op === "undo" ? "undoing" : "redoing";
    const answer = await ask(words, () => client.request(op, force ? { force } : {}), op);
    if (!answer) return;
    store.notice.value = "";
    takeState(answer.reply.state, answer.reply.entry, answer.revision);
  }

  function select(region: RegionInfo | null): void {
    store.selection.value = region ? { region } : null;
    client.setTrait("region", region?.text ?? "");
  }

  async function parse(name: string, text: string): Promise<RegionInfo | null> {
    const answer = await ask("reading the region", () => client.request("region", { name, text }));
    if (!answer || store.open.value?.name !== name) return null;
    const { region } = answer.reply;
    // Listed cells print as "[12 cells]", which cannot be read back: what was typed can.
    const spelled = /^\[\d+ cells?\]$/.test(region.text) ? { ...region, text } : region;
    select(spelled);
    return spelled;
  }

  const actions: Actions = {
    async openTensor(name) {
      if (!store.hello.value?.tensors.name.includes(name)) return;
      batch(() => {
        store.open.value = { name, layout: null, summary: null, exact_text: false };
        store.alert.value = null;
        store.notice.value = "";
        select(null);
      });
      client.setTrait("selected", name);
      const answer = await ask(`opening ${name}`, () => client.request("open", { name }));
      if (!answer || store.open.value?.name !== name) return;
      const { layout, summary, exact_text } = answer.reply;
      store.open.value = { name, layout, summary, exact_text };
      meet(answer.revision);
      summaries.complete();
    },
    selectText(text) {
      const name = store.open.value?.name;
      if (name === undefined) return Promise.resolve(null);
      if (text.trim() === "") {
        const shape = shapeOf(name);
        const axes = shape.map((size): [number, number, number] => [0, size, 1]);
        store.alert.value = null;
        select(null);
        return Promise.resolve({ text: "[...]", numel: cellCount(axes), axes });
      }
      const mine = parse(name, text.trim()).finally(() => {
        if (selecting === mine) selecting = null;
      });
      selecting = mine;
      return mine;
    },
    selectAxes(axes) {
      const name = store.open.value?.name;
      if (name === undefined) return;
      selecting = null;
      select({ text: regionText(axes, shapeOf(name)), numel: cellCount(axes), axes });
    },
    async edit(call, region) {
      const name = store.open.value?.name;
      if (name === undefined) return false;
      // A region that is being read and turns out not to fit must not become "the whole tensor".
      if (selecting && (await selecting) === null) return false;
      const text = region ?? store.selection.value?.region.text ?? "[...]";
      return send({ name, region: text, ...call }, [], wordsFor(call));
    },
    async editCells(call, cells) {
      const name = store.open.value?.name;
      if (name === undefined || cells.length === 0) return false;
      return send({ name, cells: true, ...call }, [cells], wordsFor(call));
    },
    undo: (force = false) => step("undo", force),
    redo: (force = false) => step("redo", force),
    check,
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
    async read(name, cells) {
      return (await client.request("read", { name, cells })).reply.texts;
    },
    async tiles(name, tiles, encoding, signal) {
      const { reply, buffer, revision } = await client.request("tiles", { name, tiles, encoding }, { signal });
      meet(revision);
      return { tiles: reply.tiles, left: reply.left, buffer, revision };
    },
    onChanged(callback) {
      listeners.add(callback);
      return () => listeners.delete(callback);
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
    showEntry(id) {
      store.shown.value = id;
    },
  };

  async function openWanted(name: string, region: string): Promise<void> {
    await actions.openTensor(name);
    if (region) await actions.selectText(region);
  }

  client.onTrait("selected", (name) => {
    if (name && name !== store.open.value?.name) void actions.openTensor(name);
  });
  client.onTrait("region", (text) => {
    if (text !== (store.selection.value?.region.text ?? "")) void actions.selectText(text);
  });
  client.listen({
    state(state) {
      store.kernel.value = state;
    },
    push(push) {
      switch (push.push) {
        case "changed": {
          if (push.revision < store.revision.value) return;
          const news = push.revision > store.revision.value;
          batch(() => {
            store.lab.value = push.state;
            store.revision.value = push.revision;
          });
          if (news) tell(push.changed, push.revision);
          return;
        }
        case "status":
          store.queued.value = push.queued;
          return;
        default:
          assertNever(push);
      }
    },
  });
  return actions;
}

/** What a page shows first: a weight with something to see, or whatever there is. */
function firstWorthSeeing(tensors: TensorColumns): string | undefined {
  const at = tensors.kind.findIndex((kind, i) => kind === "parameter" && (tensors.shape[i]?.length ?? 0) > 1);
  return tensors.name[Math.max(at, 0)];
}

function same(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

function wordsFor(call: EditCall): string {
  switch (call.edit) {
    case "zero_":
      return "zeroing";
    case "fill_":
      return "filling";
    case "copy_":
      return "setting values";
    case "clamp_":
      return "clamping";
    case "mul_":
      return "scaling";
    case "init_":
      return "reinitializing";
    default:
      return assertNever(call);
  }
}
