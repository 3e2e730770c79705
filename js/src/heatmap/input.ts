/** Mouse and keyboard of the picture. Keys that it handles stop here: the notebook would take them for its own. */
import { unite } from "../state/cell-sets";
import { extra } from "../state/extra";
import { commandOf, moveCursor } from "./keyboard";
import type { AxisRange, Cell, Sheet } from "./layout";
import type { Picture } from "./picture";
import { pickedAt } from "./places";
import { regionsOfRect } from "./regions";
import { cancel, IDLE, move, press, release, span } from "./tools";
import { pan, reveal, visible } from "./viewport";

/** Connects the events; everything ends with `signal`. */
export function listen(picture: Picture, signal: AbortSignal): void {
  const { host, store, actions } = picture;
  const on = <K extends keyof HTMLElementEventMap>(
    type: K,
    handle: (event: HTMLElementEventMap[K]) => void,
    passive?: boolean,
  ) => host.addEventListener(type, handle, passive === undefined ? { signal } : { signal, passive });
  let space: "up" | "down" | "dragged" = "up";
  let pointer = -1;

  const setCursorStyle = () => {
    const grabbing = picture.gesture.kind === "pan";
    const pans = store.tool.peek() === "pan" || space !== "up";
    host.style.cursor = grabbing ? "grabbing" : pans ? "grab" : "";
  };

  const drop = () => {
    picture.gesture = cancel();
    if (pointer >= 0 && host.hasPointerCapture(pointer)) host.releasePointerCapture(pointer);
    pointer = -1;
    setCursorStyle();
    picture.redraw();
  };

  on("pointerdown", (event) => {
    // Space may have begun a stroke where the pointer now pans.
    if (space === "down" && picture.gesture.kind === "brush") drop();
    if (event.button > 1 || picture.gesture.kind !== "idle") return;
    const point = picture.pointAt(event.clientX, event.clientY);
    const { session } = picture;
    if (!point || !session) return;
    host.focus({ preventScroll: true });
    // Not the middle button's scrolling, nor a selection of the text around.
    event.preventDefault();
    const middle = event.button === 1 || space !== "up";
    if (space === "down") space = "dragged";
    picture.gesture = press(middle ? "pan" : store.tool.peek(), point, session.sheet, store.brush_size.peek());
    if (picture.gesture.kind === "idle") return;
    const takes = event.altKey || event.shiftKey;
    if (picture.gesture.kind === "brush" && takes) picture.gesture = { ...picture.gesture, takes };
    pointer = event.pointerId;
    host.setPointerCapture(pointer);
    const selected = store.selection.peek();
    if (event.shiftKey && picture.gesture.kind === "select" && picture.anchor) {
      picture.gesture = { ...picture.gesture, from: picture.anchor, dragged: true };
      picture.cursor = picture.gesture.to;
    } else if (
      event.shiftKey &&
      picture.gesture.kind === "label" &&
      selected &&
      session.sheet.layout.orders.length === 0
    ) {
      picture.gesture = { kind: "label", region: unite(selected.region.axes, picture.gesture.region) };
    } else if (point.target.kind === "cell" && picture.gesture.kind !== "pan") {
      picture.cursor = point.target.cell;
      picture.anchor = point.target.cell;
    }
    setCursorStyle();
    picture.redraw();
  });

  on("pointermove", (event) => {
    const { session } = picture;
    const point = picture.pointAt(event.clientX, event.clientY);
    picture.mouse = { x: event.clientX, y: event.clientY };
    picture.lead("pointer");
    if (point && session && event.pointerId === pointer) {
      // The browser merges moves; a brush wants each of them.
      const path = picture.gesture.kind === "brush" ? (event.getCoalescedEvents?.() ?? []) : [];
      for (const each of path.length > 0 ? path : [event]) {
        const at = picture.pointAt(each.clientX, each.clientY) ?? point;
        const next = move(picture.gesture, at, session.sheet, store.brush_size.peek());
        picture.gesture = next.gesture;
        if (next.dx !== 0 || next.dy !== 0) picture.setView((view) => pan(view, next.dx, next.dy));
      }
    }
    setCursorStyle();
    picture.redraw();
  });

  on("pointerup", (event) => {
    const { session } = picture;
    if (event.pointerId !== pointer || !session) return;
    const commit = release(picture.gesture, session.sheet);
    drop();
    if (!commit) return;
    // Its buttons are in the second script, too.
    if (commit.kind === "brush") return extra.peek()?.paint(picture, session.sheet, commit);
    if (commit.kind === "label") return selectPlaces(session.sheet, [commit.region]);
    picture.cursor = commit.cursor;
    selectPlaces(session.sheet, commit.regions);
  });

  on("pointercancel", drop);
  on("lostpointercapture", () => {
    if (picture.gesture.kind !== "idle") drop();
  });
  on("pointerleave", () => {
    picture.mouse = null;
    picture.unlead();
    picture.redraw();
  });

  on("dblclick", () => {
    // Two quick dabs of the brush are two dabs.
    if (store.tool.peek() !== "brush") picture.fit();
  });

  on(
    "wheel",
    (event) => {
      // A notebook scrolls past the picture, unless the picture has the focus or Ctrl says that it is meant.
      if (!picture.focused && !event.ctrlKey && !event.metaKey) return;
      const point = picture.pointAt(event.clientX, event.clientY);
      if (!point) return;
      const lines = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1;
      const factor = 2 ** Math.max(-1, Math.min(1, (-event.deltaY * lines) / 300));
      // At either end of the scale the page scrolls on.
      if (picture.zoom(factor, point.x, point.y) || event.ctrlKey) event.preventDefault();
      picture.mouse = { x: event.clientX, y: event.clientY };
    },
    false,
  );

  const selectPlaces = (sheet: Sheet, places: AxisRange[][]) => {
    const parts = pickedAt(sheet, places);
    if (parts) actions.selectParts(extra.peek()?.withColours(store, parts) ?? parts);
    else store.alert.value = { message: "These cells are scattered over two sorted axes. Select along one of them." };
  };

  const selectSpan = (from: Cell, to: Cell) => {
    const { session } = picture;
    if (session) selectPlaces(session.sheet, regionsOfRect(session.sheet, span(from, to)));
  };

  on("keydown", (event) => {
    const { session } = picture;
    const command = commandOf(event);
    if (!command || !session || session.sheet.cells === 0) return;
    if (command.kind === "cancel" && picture.gesture.kind === "idle" && !store.selection.peek()) return;
    event.preventDefault();
    event.stopPropagation();
    const cursor = picture.cursor ?? { row: 0, column: 0 };
    switch (command.kind) {
      case "move":
      case "end":
      case "page": {
        const { view } = session;
        const seen = view ? visible(view) : { row0: 0, row1: 1 };
        const next = moveCursor(session.sheet, cursor, command, seen.row1 - seen.row0);
        picture.cursor = next;
        picture.lead("cursor");
        picture.setView((before) => reveal(before, next.row, next.column));
        if (extra.peek()?.paintOn(picture, session.sheet, cursor, command.extend)) break;
        if (command.extend) {
          picture.anchor ??= cursor;
          selectSpan(picture.anchor, next);
        } else picture.anchor = next;
        break;
      }
      case "select":
        // Space may begin a drag that pans: it selects when it comes up without one.
        if (event.key === " ") {
          space = space === "up" ? "down" : space;
          if (!event.repeat) extra.peek()?.paintOn(picture, session.sheet, cursor, true);
        } else if (!extra.peek()?.endPaint(picture)) selectSpan(cursor, cursor);
        setCursorStyle();
        break;
      case "cancel":
        if (picture.gesture.kind !== "idle") {
          drop();
          if (space === "down") space = "dragged";
        } else void actions.selectText("");
        break;
      case "reselect":
        void actions.reselect(command.how);
        break;
      case "zoom":
        picture.zoom(command.factor);
        break;
      case "fit":
        picture.fit();
        break;
    }
    picture.redraw();
  });

  on("keyup", (event) => {
    if (event.key === "Shift") extra.peek()?.endPaint(picture);
    if (event.key !== " " || space === "up") return;
    const cursor = picture.cursor;
    // With the brush it has painted.
    if (!extra.peek()?.endPaint(picture) && store.tool.peek() !== "brush" && space === "down" && cursor)
      selectSpan(cursor, cursor);
    space = "up";
    setCursorStyle();
    event.preventDefault();
  });

  on("focus", () => {
    picture.focused = true;
    picture.cursor ??= { row: 0, column: 0 };
    picture.redraw();
  });
  on("blur", () => {
    picture.focused = false;
    space = "up";
    if (picture.gesture.kind !== "idle") drop();
    picture.gesture = IDLE;
    setCursorStyle();
    picture.redraw();
  });
}
