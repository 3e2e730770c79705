/** What every small window does: takes the focus, keeps Tab inside, closes on Escape, gives the focus back. */
import { useEffect } from "preact/hooks";

const STOPS = "input, select, textarea, button:not(:disabled), [tabindex='0']";

/** The handler for its keys. */
export function useDialog(box: { current: HTMLElement | null }, close: () => void): (event: KeyboardEvent) => void {
  useEffect(() => {
    const before = (box.current?.getRootNode() as Document | ShadowRoot | undefined)?.activeElement;
    const fields = [...(box.current?.querySelectorAll<HTMLElement>(".wl-fields :is(input, select, textarea)") ?? [])];
    const empty = fields.find((field) => field instanceof HTMLInputElement && field.value === "");
    (empty ?? fields[0] ?? box.current?.querySelector<HTMLElement>(".wl-main") ?? box.current)?.focus();
    return () => {
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (event) => {
    if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      close();
    } else if (event.key === "Tab") {
      const stops = [...(box.current?.querySelectorAll<HTMLElement>(STOPS) ?? [])];
      const edge = event.shiftKey ? stops[0] : stops.at(-1);
      if (event.target !== edge) return;
      event.preventDefault();
      (event.shiftKey ? stops.at(-1) : stops[0])?.focus();
    }
  };
}
