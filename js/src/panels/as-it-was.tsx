/** Over a picture of the past: that it is one, and of when. */
import { useEffect, useRef } from "preact/hooks";
import { lastChange, type Store } from "../state/store";

export function AsItWas({ store }: { store: Store }) {
  return store.peek.value ? <Then store={store} /> : null;
}

function Then({ store }: { store: Store }) {
  const history = store.lab.value?.history;
  const number = lastChange(store);
  const now = `${history?.position} ${history?.entries[history.position - 1]?.id}`;
  const begun = useRef(now);
  // Who edits wants to see it: the picture comes back to the present with the next step of the history.
  useEffect(() => {
    if (now !== begun.current) store.peek.value = false;
  }, [now]);
  return (
    <div class="wl-then" role="status">
      <span>
        <b>as it was:</b> before entry {number}
      </span>
    </div>
  );
}
