/** Which part of a long list is in sight, for rows of one height. */
import type { RefObject } from "preact";
import { useLayoutEffect, useState } from "preact/hooks";

/** Rows drawn beyond each edge, so that a quick scroll does not show bare ground. */
const OVERSCAN = 10;

export interface Sight {
  top: number;
  height: number;
}

export function useSight(ref: RefObject<HTMLElement | null>): Sight {
  const [sight, setSight] = useState<Sight>({ top: 0, height: 600 });
  useLayoutEffect(() => {
    const element = ref.current;
    if (!element) return;
    const look = (): void => {
      const next = { top: element.scrollTop, height: element.clientHeight || 600 };
      setSight((old) => (old.top === next.top && old.height === next.height ? old : next));
    };
    const observer = new ResizeObserver(look);
    observer.observe(element);
    element.addEventListener("scroll", look, { passive: true });
    look();
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", look);
    };
  }, [ref]);
  return sight;
}

/** First row and the row behind the last one. */
export function rowsInSight(sight: Sight, total: number, rowHeight: number): [number, number] {
  const first = Math.floor(sight.top / rowHeight) - OVERSCAN;
  const last = Math.ceil((sight.top + sight.height) / rowHeight) + OVERSCAN;
  // A list that became shorter is drawn before its scroll position follows.
  const start = Math.max(0, Math.min(first, total - 1));
  return [start, Math.max(start, Math.min(total, last))];
}
