/** What stands over the picture, and where it goes by itself. */
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { Picture } from "../heatmap/picture";
import { towards } from "../heatmap/reach";
import type { Store } from "../state/store";
import { AsItWas } from "./as-it-was";

export function OverPicture({ store, picture }: { store: Store; picture: Picture | null }) {
  const typed = store.typed.value;
  useEffect(() => {
    if (typed && typed === store.selection.peek()) picture?.setView((view, sheet) => towards(view, sheet, typed));
  }, [typed, picture]);
  return (
    <>
      <AsItWas store={store} />
      {picture && <WheelHint picture={picture} />}
    </>
  );
}

/** How long after the last turn of the wheel, in milliseconds. */
const SHORT = 1500;

/** The notebook scrolls past a picture without the focus: this is how the wheel would zoom. */
function WheelHint({ picture }: { picture: Picture }) {
  const told = useSignal(false);
  useEffect(() => {
    const ended = new AbortController();
    let timer = 0;
    const hide = (): void => {
      clearTimeout(timer);
      told.value = false;
    };
    const turn = ({ ctrlKey, metaKey }: WheelEvent): void => {
      hide();
      if (picture.focused || ctrlKey || metaKey || !picture.session?.sheet.cells) return;
      told.value = true;
      timer = window.setTimeout(hide, SHORT);
    };
    const { signal } = ended;
    picture.host.addEventListener("wheel", turn, { signal, passive: true });
    for (const type of ["focus", "pointerleave"]) picture.host.addEventListener(type, hide, { signal });
    return () => {
      ended.abort();
      clearTimeout(timer);
    };
  }, [picture]);
  return told.value ? <div class="wl-wheel-hint">Ctrl + wheel zooms</div> : null;
}
