/**
 * Opening a tensor, another view of it, or another layout. What is open stays in sight until the kernel has answered, unless that
 * takes long: a page that empties and fills again flickers, and draws twice.
 */
import { batch } from "@preact/signals";
import type { Answer, Client } from "../kernel/client";
import type { LayoutCall } from "../kernel/protocol";
import type { Feed } from "./feed";
import { laid, opened } from "./layouts";
import { type OpenTensor, type Store, viewed } from "./store";

/** Milliseconds after which the page says that it waits. */
const LONG = 150;

export interface Opening {
  openTensor(name: string, view?: string): Promise<void>;
  showView(view: string): Promise<void>;
  arrange(call: LayoutCall | undefined): Promise<void>;
  /** Settled when nothing is being opened: what is asked of the open tensor meanwhile is meant for the next one. */
  settled(): Promise<void>;
}

/** `forget` drops what belongs to the tensor that was open: its selection, and what was said about it. */
export function createOpening(store: Store, client: Client, feed: Feed, forget: () => void): Opening {
  const { ask, meet } = feed;
  let latest = 0;
  let late: ReturnType<typeof setTimeout> | undefined;
  let pending: Promise<void> | null = null;

  /** `open`, with the tiles of the first screen, whose size the picture has put into the store. */
  function request(name: string, view: string, call: LayoutCall | undefined): Promise<Answer<"open">> {
    const room = store.room.peek();
    const screen = room ? { screen: { ...room, planes: [store.reduction.peek()] } } : {};
    return client.request("open", { name, ...viewed(view), ...laid(call), ...screen });
  }

  async function open(name: string, view: string): Promise<void> {
    const before = store.open.value;
    latest += 1;
    const mine = latest;
    const again = before?.name === name && before.view === view;
    let forgotten = false;
    const leave = (): void => {
      if (!forgotten) forget();
      forgotten = true;
    };
    const empty = (): void =>
      batch(() => {
        leave();
        if (!again) store.open.value = nothingOf(name, view);
      });
    clearTimeout(late);
    batch(() => {
      store.opening.value = name;
      store.alert.value = null;
      store.missing.value = "";
      store.notice.value = "";
      if (again || !before?.layout) empty();
      else late = setTimeout(empty, LONG);
    });
    client.setTrait("selected", name);
    const call = before?.name === name ? before.call : undefined;
    const answer = await ask(`opening ${name}`, () => request(name, view, call));
    if (mine !== latest) return;
    clearTimeout(late);
    batch(() => {
      leave();
      if (answer) store.open.value = opened(name, view, answer, call);
      else empty();
      store.opening.value = "";
    });
    if (!answer) return;
    meet(answer.revision);
    feed.summaries.complete();
  }

  /** The same tensor otherwise; where the kernel has no such view or layout it says why, and the picture stays. */
  async function change(words: string, { name, view }: OpenTensor, next: string, call: LayoutCall | undefined) {
    const answer = await ask(words, () => request(name, next, call));
    const open = store.open.value;
    if (!answer || open?.name !== name || (next === view && open.view !== view)) return;
    store.open.value = opened(name, next, answer, call);
    meet(answer.revision);
    feed.summaries.complete();
  }

  return {
    async openTensor(name, view = "value") {
      if (!store.hello.value?.tensors.name.includes(name)) return;
      const mine = open(name, view).finally(() => {
        if (pending === mine) pending = null;
      });
      pending = mine;
      await mine;
    },
    async showView(view) {
      const before = store.open.value;
      if (before && before.view !== view) await change(`reading ${view}`, before, view, before.call);
    },
    async arrange(call) {
      const before = store.open.value;
      if (before) await change(call?.sort ? "sorting" : "laying out", before, before.view, call);
    },
    async settled() {
      while (pending) await pending;
    },
  };
}

const nothingOf = (name: string, view: string): OpenTensor => ({
  name,
  view,
  layout: null,
  summary: null,
  exact_text: false,
  views: [view],
  about: "",
  signed: true,
});
