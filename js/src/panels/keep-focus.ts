/**
 * Where the focus goes when the control that has it is switched off or taken away: a browser would give it to the page, and the
 * next Ctrl+Z would be the notebook's.
 */
const STOPS = "button:not(:disabled), input:not(:disabled), select:not(:disabled), [tabindex='0']";
/** What a control stands in: its neighbours there come before the picture. */
const GROUPS = "li, ul, ol, .wl-back, [role='dialog']";

interface Kept {
  element: HTMLElement;
  groups: { group: Element; at: number }[];
}

/** Keeps the focus inside until the returned function is called. */
export function keepFocus(root: HTMLElement): () => void {
  const ended = new AbortController();
  const { signal } = ended;
  let kept: Kept | null = null;
  const stops = (group: Element): HTMLElement[] => [...group.querySelectorAll<HTMLElement>(STOPS)];
  const gone = ({ element }: Kept): boolean => !element.isConnected || element.matches(":disabled");

  function rescue(): void {
    if (!kept || !gone(kept) || !root.isConnected) return;
    const { groups, element } = kept;
    const now = (root.getRootNode() as Document | ShadowRoot).activeElement;
    kept = null;
    // A click elsewhere has given it to somebody, or a window that closed has given it back.
    if (now && now !== element && now !== root.ownerDocument.body) return;
    for (const { group, at } of groups) {
      const left = group.isConnected ? stops(group) : [];
      const next = left[Math.min(at, left.length - 1)];
      if (next) {
        next.focus({ preventScroll: true });
        return;
      }
    }
    root.querySelector<HTMLElement>('[data-wl="heatmap"]')?.focus({ preventScroll: true });
  }

  root.addEventListener(
    "focusin",
    ({ target }) => {
      if (!(target instanceof HTMLElement)) return;
      const groups: Kept["groups"] = [];
      for (let group = target.closest(GROUPS); group; group = group.parentElement?.closest(GROUPS) ?? null) {
        groups.push({ group, at: stops(group).indexOf(target) });
      }
      kept = { element: target, groups };
    },
    { signal },
  );
  root.addEventListener(
    "focusout",
    () => {
      const left = kept;
      // Whoever is still there was left by the user's own wish; what is being taken away is known a moment later.
      setTimeout(() => {
        if (left && left === kept && !gone(left) && !left.element.matches(":focus")) kept = null;
      });
    },
    { signal },
  );
  const observer = new MutationObserver(rescue);
  observer.observe(root, { subtree: true, childList: true, attributeFilter: ["disabled"] });
  return () => {
    ended.abort();
    observer.disconnect();
  };
}
