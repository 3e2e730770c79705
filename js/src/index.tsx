/** Entry for anywidget: one client and store per model, one mounted page per view. */
import type { AnyModel } from "@anywidget/types";
import { render as mount } from "preact";
import { type Channel, createClient } from "./kernel/client";
import { App } from "./panels/app";
import { watchTheme } from "./panels/host-theme";
import { type Actions, createActions } from "./state/actions";
import { createStore, type Store } from "./state/store";
import { createView } from "./state/view";

interface Session {
  store: Store;
  actions: Actions;
  close(): void;
}

/** Views of one model find its session here; a weak map, since a host may drop a model without a word. */
const sessions = new WeakMap<object, Session>();

function sessionOf(model: AnyModel): Session {
  const known = sessions.get(model);
  if (known) return known;
  const store = createStore();
  const client = createClient(model as unknown as Channel);
  const session = {
    store,
    actions: createActions(store, client),
    close() {
      client.close();
      sessions.delete(model);
    },
  };
  sessions.set(model, session);
  return session;
}

/** Synchronous: messages to a model whose `initialize` takes long are dropped. Nothing is asked before a view exists. */
function initialize({ model }: { model: AnyModel }): () => void {
  const session = sessionOf(model);
  return () => session.close();
}

function render({ model, el, signal }: { model: AnyModel; el: HTMLElement; signal?: AbortSignal }): () => void {
  const { store, actions } = sessionOf(model);
  const view = createView();
  const life = new AbortController();
  watchTheme(life.signal, (dark) => {
    store.dark.value = dark;
  });
  mount(<App store={store} actions={actions} view={view} />, el);
  actions.connect();
  const cleanup = (): void => {
    if (life.signal.aborted) return;
    life.abort();
    mount(null, el);
  };
  signal?.addEventListener("abort", cleanup, { once: true });
  return cleanup;
}

export default { initialize, render };
