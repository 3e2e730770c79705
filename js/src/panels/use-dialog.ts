/** What every small window does: takes the focus, keeps Tab inside, closes on Escape, gives the focus back. */
import { useLayoutEffect, useRef } from "preact/hooks";

const STOPS = "input, select, textarea, button:not(:disabled), [tabindex='0']";

/** The handler for its keys. */
export function useDialog(box: { current: HTMLElement | null }, close: () => void): (event: KeyboardEvent) => void {
  const latest = useRef(close);
  latest.current = close;
  // At once: a key that follows the click that opened it is heard.
  useLayoutEffect(() => {
    const mine = box.current;
    if (!mine) return;
    const before = (mine.getRootNode() as Document | ShadowRoot).activeElement;
    const fields = [...mine.querySelectorAll<HTMLElement>(".wl-fields :is(input, select, textarea)")];
    const empty = fields.find((field) => field instanceof HTMLInputElement && field.value === "");
    const stop = mine.querySelector<HTMLElement>(".wl-main:not(:disabled)") ?? mine.querySelector<HTMLElement>(STOPS);
    (empty ?? fields[0] ?? stop ?? mine).focus();
    const ended = new AbortController();
    const heard = (event: KeyboardEvent): void => {
      if (!closes(event, mine)) return;
      event.preventDefault();
      event.stopPropagation();
      latest.current();
    };
    // Before anybody else in the widget: what has the focus would take Escape for its own.
    mine.ownerDocument.addEventListener("keydown", heard, { capture: true, signal: ended.signal });
    return () => {
      ended.abort();
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (event) => {
    if (event.key === "Tab") {
      const stops = [...(box.current?.querySelectorAll<HTMLElement>(STOPS) ?? [])];
      const edge = event.shiftKey ? stops[0] : stops.at(-1);
      if (event.target !== edge) return;
      event.preventDefault();
      (event.shiftKey ? stops.at(-1) : stops[0])?.focus();
    }
  };
}

/** Escape anywhere in the widget; but a list that is open and a stroke under way are dropped first. */
function closes(event: KeyboardEvent, box: HTMLElement): boolean {
  if (event.key !== "Escape") return false;
  const lab = box.closest('[data-wl="lab"]');
  const path = event.composedPath();
  // A button that is switched off under the focus leaves it with nobody.
  const inside = path[0] === box.ownerDocument.body || (lab !== null && path.includes(lab));
  return inside && !lab?.querySelector('[role="menu"], [data-wl="heatmap"]:active');
}
