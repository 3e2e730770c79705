/**
 * The room that the widget takes: its cell, the height of a panel of its own, or the whole window. The top layer of a popover
 * knows no ancestor that clips, transforms or scrolls, of which notebooks have many; where the browser has no popovers a fixed
 * box does it mostly.
 */
const INSET = 8;
const LEAST = 420;

/** Returns the way back. */
export function fitRoom(element: HTMLElement, full: boolean): () => void {
  if (!full) return fitPanel(element);
  element.classList.add("wl-full");
  const layered = "popover" in element;
  if (layered) {
    element.popover = "manual";
    element.showPopover();
  }
  return () => {
    element.classList.remove("wl-full");
    if (layered) element.popover = null;
  };
}

/**
 * JupyterLab's "Create New View for Output": the widget takes the height of the panel. It may be made before it is put there,
 * so the panel is looked for when the widget first has a size.
 */
function fitPanel(element: HTMLElement): () => void {
  let panel: HTMLElement | null = null;
  const fit = (): void => {
    if (!panel) {
      panel = element.closest<HTMLElement>(".jp-LinkedOutputView");
      if (!panel) return;
      observer.observe(panel);
      element.classList.add("wl-panel");
    }
    element.style.height = `${Math.max(LEAST, panel.clientHeight - 2 * INSET)}px`;
  };
  const observer = new ResizeObserver(fit);
  observer.observe(element);
  return () => {
    observer.disconnect();
    if (!panel) return;
    element.classList.remove("wl-panel");
    element.style.height = "";
  };
}
