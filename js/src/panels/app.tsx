/** The whole widget: header, tree, picture with its bars, verdict, footer. */
import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { HeatmapView } from "../heatmap/heatmap";
import { Pair } from "../heatmap/pair";
import { extra } from "../state/extra";
import { type Page, roomOf, widthOf } from "../state/view";
import { AlertBar } from "./alert";
import { Face } from "./faces";
import { Footer } from "./footer";
import { onRootKey } from "./keys";

export function App(page: Page) {
  const { store, actions, view } = page;
  const root = useRef<HTMLElement>(null);
  const center = useRef<HTMLDivElement>(null);
  const pair = useMemo(() => new Pair(), []);

  useLayoutEffect(() => {
    const element = root.current;
    if (!element) return;
    const measure = (): void => {
      if (element.clientWidth > 0) view.width.value = widthOf(element.clientWidth);
      const middle = center.current?.clientWidth ?? 0;
      if (middle > 0) view.room.value = roomOf(middle);
    };
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    if (center.current) observer.observe(center.current);
    measure();
    const onKey = (event: KeyboardEvent): void => onRootKey(event, page, element);
    element.addEventListener("keydown", onKey);
    return () => {
      observer.disconnect();
      element.removeEventListener("keydown", onKey);
    };
  }, [view]);

  const width = view.width.value;
  const { tree, verdict } = view.sizes;
  const stage = view.stage.value;
  const details = view.details.value;
  const second = view.second.value !== null;
  const sizes = {
    "--wl-tree": tree.value === null ? undefined : `${tree.value}px`,
    "--wl-verdict": verdict.value === null ? undefined : `${verdict.value}px`,
  };
  const drawer = width === "slim" && view.drawer.value;
  // Until the second script is here its places stand empty, at their size: nothing jumps.
  const more = extra.value;
  const full = view.full.value;
  useLayoutEffect(() => (root.current ? more?.fitRoom(root.current, full) : undefined), [more, full]);
  useLayoutEffect(() => (root.current ? more?.keepFocus(root.current) : undefined), [more]);
  return (
    <section
      ref={root}
      class={`wl-lab wl-${width}${second ? " wl-paired" : ""} ${store.dark.value ? "wl-dark" : "wl-light"}`}
      data-wl="lab"
      // biome-ignore lint/a11y/noRedundantRoles: found by this attribute, too.
      role="region"
      data-revision={store.revision.value}
      style={sizes}
      aria-label="WeightLab"
    >
      {more ? (
        <more.Header {...page} />
      ) : (
        <header class="wl-header" aria-busy="true">
          <b>WeightLab</b>
        </header>
      )}
      {(width !== "slim" || drawer) &&
        (more ? <more.Tree {...page} /> : <nav class="wl-side wl-left" aria-label="Model" aria-busy="true" />)}
      {drawer && (
        <button
          type="button"
          class="wl-shade"
          aria-label="Close the tree"
          onClick={() => {
            view.drawer.value = false;
          }}
        />
      )}
      <div ref={center} class={`wl-center wl-${view.room.value}${stage === "picture" ? "" : " wl-mapped"}`}>
        {more ? <more.Toolbar {...page} /> : <div class="wl-bar wl-toolbar" aria-busy="true" />}
        {more ? <more.Inspector {...page} /> : <div class="wl-title" aria-busy="true" />}
        <div class={`wl-view${details ? ` wl-with-${details}` : ""}`}>
          {store.open.value ? (
            <div class="wl-pair">
              <HeatmapView
                store={store}
                actions={actions}
                pair={pair}
                caption={second && more && <more.Caption store={store} />}
              />
              {second && more && <more.SecondPicture {...page} pair={pair} Picture={HeatmapView} />}
            </div>
          ) : (
            <Face {...page} />
          )}
          {more && details && store.open.value && <more.Details {...page} />}
          <AlertBar {...page} />
        </div>
        {more ? <more.EditBar {...page} /> : <div class="wl-edit" aria-busy="true" />}
        {more && stage === "map" && <more.ModelMap {...page} />}
        {more && stage === "flow" && <more.FlowStage {...page} />}
      </div>
      {more ? <more.Verdict {...page} /> : <aside class="wl-side wl-right wl-folded" aria-busy="true" />}
      {more && <more.Splitters {...page} />}
      <Footer {...page} />
      {more && view.help.value && <more.Help view={view} />}
      {more && store.transfer.value && <more.TransferTable page={page} of={store.transfer.value} />}
      {more && store.comparison.value && <more.ComparisonTable page={page} of={store.comparison.value} />}
    </section>
  );
}
