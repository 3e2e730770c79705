/**
 * What the kernel says, into the store: state, revision, what changed, and what went wrong. The actions ask; this keeps the page
 * true whoever changed the model.
 */
import { batch, effect } from "@preact/signals";
import { type Answer, type Client, Gone, Refused } from "../kernel/client";
import type { Bounds, Entry, LabState } from "../kernel/protocol";
import { assertNever } from "./assert-never";
import { cellCount } from "./region-text";
import type { Alert, Store } from "./store";
import { createSummaries, type Summaries } from "./summaries";

export type Changed = [string, Bounds][] | "everything";
export type Listener = (changed: Changed, revision: number) => void;

/** How long after an edit the check waits for the picture at most, in milliseconds: it may be out of sight. */
const PICTURE_FIRST = 1500;
const GLANCE = 40;
const CHECKING = "checking gradients";
/** Milliseconds before a queued edit is told of: most steps of training are over by then, and words that flash help nobody. */
const QUEUED_SHOWN = 250;

export interface Feed {
  summaries: Summaries;
  listeners: Set<Listener>;
  /** Every reply carries the revision. One that is news means that a push was lost: nothing drawn can be trusted. */
  meet(revision: number): void;
  tell(changed: Changed, revision: number): void;
  takeHello(answer: Answer<"hello" | "refresh">): void;
  takeState(state: LabState, changed: Changed | null, revision: number): void;
  /** Runs one request with its words of waiting; turns what goes wrong into the alert. Null when it did. */
  ask<T>(words: string, task: () => Promise<T>, retry?: Omit<Alert, "message">): Promise<T | null>;
  /** The same for what changes the model: a check of this page gives way to it. */
  change: Feed["ask"];
  /** The kernel answers an edit before it checks, so that the picture does not wait for a backward pass. */
  checkSoon(state: LabState): void;
  check(): Promise<void>;
}

export function createFeed(store: Store, client: Client): Feed {
  const listeners = new Set<Listener>();
  const summaries = createSummaries(store, client, meet);
  /** The check on its way, as `cancel` names it; empty: there is none. */
  let checking = "";
  let yielding = false;
  /** Changes that wait behind that check. */
  let behind = 0;
  let toldBehind = false;
  let checkTimer: ReturnType<typeof setTimeout> | undefined;
  let queuedTimer: ReturnType<typeof setTimeout> | undefined;
  let checkAgain = false;
  let repaint: ReturnType<typeof setTimeout> | undefined;
  let catchUp: ReturnType<typeof setTimeout> | undefined;

  function tell(changed: Changed, revision: number): void {
    for (const each of listeners) each(changed, revision);
    const open = store.open.value?.name;
    if (open && (changed === "everything" || changed.some(([name]) => name === open))) summaries.refresh();
  }

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
  function catchUpSoon(): void {
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
    }, 400);
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

  async function ask<T>(words: string, task: () => Promise<T>, retry: Omit<Alert, "message"> = {}): Promise<T | null> {
    store.working.value = words;
    const before = store.alert.value;
    try {
      const result = await task();
      // An alert that came meanwhile is about something else.
      if (store.alert.value === before) store.alert.value = null;
      return result;
    } catch (error) {
      if (!(error instanceof Refused || error instanceof Gone)) throw error;
      if (error instanceof Refused && error.kind === "Cancelled") {
        // The user's own wish: nothing went wrong. Of a check that gave way nobody needs to hear.
        if (words !== CHECKING || !yielding) store.notice.value = error.message;
        return null;
      }
      if (error instanceof Refused && error.kind === "NoValues") {
        store.missing.value = error.message;
        return null;
      }
      const asks = error instanceof Refused && (error.kind === "UndoConflict" || error.kind === "FileExists");
      store.alert.value = { message: error.message, ...(asks ? retry : {}) };
      return null;
    } finally {
      if (store.working.value === words) store.working.value = "";
    }
  }

  /** The kernel has read the structure again: names, shapes and flags of the tree come with hello. */
  function readAgain(state: LabState): void {
    const known = store.hello.value?.state.readings;
    if (known !== undefined && state.readings !== known) void ask("reading the tree", hello).then(takeIfAny);
  }
  const hello = (): Promise<Answer<"hello">> => client.request("hello", {});
  const takeIfAny = (answer: Answer<"hello"> | null): void => {
    if (answer) takeHello(answer);
  };

  function takeState(state: LabState, changed: Changed | null, revision: number): void {
    const expected = store.revision.value + 1;
    batch(() => {
      store.lab.value = state;
      store.revision.value = Math.max(revision, store.revision.value);
    });
    readAgain(state);
    checkSoon(state);
    // More than one step ahead: somebody else was in between, and their push has not come.
    if (revision > expected) tell("everything", revision);
    else if (changed) tell(changed, revision);
  }

  function checkSoon(state: LabState): void {
    if (!state.auto_check || state.gradients?.revision === store.revision.value) return;
    if (checking) {
      checkAgain = true;
      return;
    }
    // The kernel answers one request at a time: the picture goes first.
    clearTimeout(checkTimer);
    const begun = Date.now();
    const look = (): void => {
      const waiting = store.open.value !== null && store.painted.value < store.revision.value;
      if (waiting && Date.now() - begun < PICTURE_FIRST) checkTimer = setTimeout(look, GLANCE);
      else void check();
    };
    checkTimer = setTimeout(look, GLANCE);
  }

  async function check(): Promise<void> {
    const named = (id: string): void => {
      checking = id;
    };
    const answer = await ask(CHECKING, () => client.request("check", {}, { named }));
    const again = checkAgain;
    const state = store.lab.value;
    checking = "";
    checkAgain = yielding = false;
    tellBehind();
    if (!answer) {
      // It gave way to an edit that may have changed nothing.
      if (again && state) checkSoon(state);
      return;
    }
    store.lab.value = answer.reply.state;
    meet(answer.revision);
    if (again) checkSoon(answer.reply.state);
  }

  async function change<T>(words: string, task: () => Promise<T>, retry?: Omit<Alert, "message">): Promise<T | null> {
    // The very first check stays: what it saw is what the first edit is compared with.
    if (!checking || !store.lab.value?.auto_check) return ask(words, task, retry);
    behind += 1;
    const timer = setTimeout(tellBehind, QUEUED_SHOWN);
    if (!yielding && store.gradients.value) {
      checkAgain = yielding = true;
      client.request("cancel", { request: checking }).catch(() => {});
    }
    try {
      return await ask(words, task, retry);
    } finally {
      clearTimeout(timer);
      behind -= 1;
      tellBehind();
    }
  }

  /** Rule T3; what waits for a step of training is told by the kernel. */
  function tellBehind(): void {
    if (!checking && !toldBehind) return;
    toldBehind = checking !== "";
    store.queued.value = toldBehind ? behind : 0;
  }

  watchHeld(store, client);
  client.listen({
    state(state) {
      store.kernel.value = state;
    },
    settled(id) {
      if (store.progress.value?.id === id) store.progress.value = null;
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
          readAgain(push.state);
          if (news) tell(push.changed, push.revision);
          return;
        }
        case "status":
          clearTimeout(queuedTimer);
          if (push.queued === 0 || store.queued.value > 0) store.queued.value = push.queued;
          else {
            queuedTimer = setTimeout(() => {
              store.queued.value = push.queued;
            }, QUEUED_SHOWN);
          }
          return;
        case "progress":
          store.progress.value = push;
          return;
        default:
          assertNever(push);
      }
    },
  });
  return { summaries, listeners, meet, tell, takeHello, takeState, ask, change, checkSoon, check };
}

/** What an entry changed, as `tell` wants it. */
export const changedBy = (entry: Entry | null): Changed | null => entry?.changed ?? null;

/** Cells of holds that list them, for the hatching: asked for once, when their tensor is open. */
function watchHeld(store: Store, client: Client): void {
  effect(() => {
    const name = store.open.value?.name;
    for (const hold of store.lab.value?.holds ?? []) {
      const known = store.held.peek();
      if (hold.name !== name || known.has(hold.id) || cellCount(hold.axes) === hold.cells) continue;
      store.held.value = new Map(known).set(hold.id, new DataView(new ArrayBuffer(0)));
      client.request("held", { hold: hold.id }).then(
        ({ buffer }) => {
          store.held.value = new Map(store.held.peek()).set(hold.id, buffer);
        },
        // Released meanwhile, or the kernel is gone: their bounds stay.
        () => {},
      );
    }
  });
}

function same(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}
