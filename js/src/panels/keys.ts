/**
 * Keys of the whole widget. Whatever a plain key does here, it must not reach the notebook, where `d d` deletes the cell;
 * what the browser or the host does with Ctrl, Alt, Tab and F keys passes.
 */
import { canPeek, type Store } from "../state/store";
import type { Page } from "../state/view";

export function onRootKey(event: KeyboardEvent, { store, actions, view }: Page, root: HTMLElement): void {
  const target = event.composedPath()[0];
  const typing = target instanceof HTMLElement && target.matches("input:not([type=checkbox]), select, textarea");
  const inTree = target instanceof HTMLElement && target.closest('[role="tree"]') !== null;
  if (!stays(event)) return;
  event.stopPropagation();
  if (event.defaultPrevented || typing) return;
  const key = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey) {
    if (key !== "z" && key !== "y") return;
    event.preventDefault();
    void (key === "y" || event.shiftKey ? actions.redo() : actions.undo());
    return;
  }
  if (key === "?") {
    event.preventDefault();
    view.help.value = !view.help.value;
  } else if (key === "/") {
    event.preventDefault();
    view.drawer.value = true;
    queueMicrotask(() => root.querySelector<HTMLElement>(".wl-filter input")?.focus());
  } else if (key === "escape") {
    if (view.drawer.value) view.drawer.value = false;
    else if (store.alert.value || !view.full.value) actions.dismiss();
    else view.full.value = false;
  } else if (inTree || event.altKey) return;
  else if (key === "m") view.stage.value = view.stage.value === "map" ? "picture" : "map";
  else if (key === "w") view.full.value = !view.full.value;
  else if (store.open.value) {
    if (key === "p") store.tool.value = "pan";
    else if (key === "s") store.tool.value = "select";
    else if (key === "b") store.tool.value = "brush";
    else if (key === "r") void actions.repeat();
    else if (key === "o" && !event.repeat && canPeek(store)) lookBack(store, root);
  }
}

/** Until the key comes up, or the focus goes where its coming up is not heard. */
function lookBack(store: Store, root: HTMLElement): void {
  store.peek.value = true;
  const ended = new AbortController();
  const { signal } = ended;
  const end = (): void => {
    store.peek.value = false;
    ended.abort();
  };
  root.addEventListener("keyup", (event) => event.key.toLowerCase() === "o" && end(), { signal });
  root.addEventListener("focusout", end, { signal });
}

/** Whether the widget keeps the key to itself. */
export function stays(event: Pick<KeyboardEvent, "key" | "ctrlKey" | "metaKey" | "altKey">): boolean {
  const { key } = event;
  if (key === "Tab" || /^F\d+$/.test(key)) return false;
  // Shift, Ctrl and Alt with Enter run the cell, which would take the widget away.
  if (key === "Enter") return true;
  if (event.ctrlKey || event.metaKey) return key.toLowerCase() === "z" || key.toLowerCase() === "y";
  return !event.altKey;
}
