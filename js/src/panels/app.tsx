/** The whole widget: header, tree, picture with its bars, verdict, footer. */
import { useLayoutEffect, useRef } from "preact/hooks";
import { HeatmapView } from "../heatmap/heatmap";
import { type Page, widthOf } from "../state/view";
import { AlertBar } from "./alert";
import { ComparisonTable } from "./comparison";
import { EditBar } from "./edit-bar";
import { Face } from "./faces";
import { Footer } from "./footer";
import { Gradients } from "./gradients";
import { Header } from "./header";
import { Help } from "./help";
import { History } from "./history";
import { Inspector } from "./inspector";
import { Holds, Snapshots } from "./keepsakes";
import { onRootKey } from "./keys";
import { Toolbar } from "./toolbar";
import { Tree } from "./tree";

export function App(page: Page) {
  const { store, actions, view } = page;
  const root = useRef<HTMLElement>(null);

  useLayoutEffect(() => {
    const element = root.current;
    if (!element) return;
    const observer = new ResizeObserver(([entry]) => {
      if (entry && entry.contentRect.width > 0) view.width.value = widthOf(entry.contentRect.width);
    });
    observer.observe(element);
    view.width.value = widthOf(element.clientWidth || 1280);
    const onKey = (event: KeyboardEvent): void => onRootKey(event, page, element);
    element.addEventListener("keydown", onKey);
    return () => {
      observer.disconnect();
      element.removeEventListener("keydown", onKey);
    };
  }, [view]);

  const width = view.width.value;
  const drawer = width === "slim" && view.drawer.value;
  return (
    <section
      ref={root}
      class={`wl-lab wl-${width} ${store.dark.value ? "wl-dark" : "wl-light"}`}
      data-wl="lab"
      // biome-ignore lint/a11y/noRedundantRoles: found by this attribute, too.
      role="region"
      data-revision={store.revision.value}
      aria-label="WeightLab"
    >
      <Header {...page} />
      {(width !== "slim" || drawer) && <Tree {...page} />}
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
      <div class="wl-center">
        <Toolbar {...page} />
        <Inspector {...page} />
        <div class="wl-view">
          {store.open.value ? <HeatmapView store={store} actions={actions} /> : <Face {...page} />}
          <AlertBar {...page} />
        </div>
        <EditBar {...page} />
      </div>
      <Verdict {...page} />
      <Footer {...page} />
      {view.help.value && <Help view={view} />}
      {store.comparison.value && <ComparisonTable page={page} of={store.comparison.value} />}
    </section>
  );
}

function Verdict(page: Page) {
  const { view } = page;
  const wide = view.width.value === "wide";
  const open = wide || view.verdict.value;
  return (
    <aside class={`wl-side wl-right${open ? "" : " wl-folded"}`} aria-label="Gradients and history">
      {!wide && (
        <button
          type="button"
          class="wl-tab"
          aria-expanded={open}
          onClick={() => {
            view.verdict.value = !view.verdict.value;
          }}
        >
          <svg class={`wl-fold${open ? " wl-open" : ""}`} viewBox="0 0 12 12" aria-hidden="true">
            <path d="M4.5 3 8 6l-3.5 3z" fill="currentColor" />
          </svg>
          Gradients and history
        </button>
      )}
      {open && <Gradients {...page} />}
      {open && (
        <div class="wl-past">
          <History {...page} />
          <Holds {...page} />
          <Snapshots {...page} />
        </div>
      )}
    </aside>
  );
}
