/**
 * What opens below the fold would look as if the click did nothing: its list scrolls, at most until it is at the top.
 * What opens above it scrolls into sight, too. `above` and `below` are pixels that are kept for what stands there.
 */
export function reveal(card: HTMLElement, { above = 0, below = 0 } = {}): void {
  const list = card.closest<HTMLElement>(".wl-scroll, .wl-last-change");
  if (!list) return;
  // Not scrollIntoView: it would move the notebook, too.
  const [inner, outer] = [card.getBoundingClientRect(), list.getBoundingClientRect()];
  const hidden = inner.bottom + below - outer.bottom;
  if (hidden > 0) list.scrollTop += Math.min(hidden, inner.top - above - outer.top);
  else if (inner.top - above < outer.top) list.scrollTop += inner.top - above - outer.top;
}
