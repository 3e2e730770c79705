/**
 * The picture of one tensor at a time: what is open, where the view, the pointer and the cursor are, and one drawing a
 * frame. Beside input.ts and stage.ts the only file of this folder that touches the page.
 */
import { effect, signal, untracked } from "@preact/signals";
import type { Actions } from "../state/actions";
import { extra } from "../state/extra";
import type { OpenTensor, Store } from "../state/store";
import { position } from "./axis";
import { colours } from "./colormap";
import { drawnAt } from "./drawn";
import { hit } from "./hit";
import { type Label, labels } from "./labels";
import { type Cell, cellOf, indexOf, type Sheet } from "./layout";
import { lookOf, MARKED } from "./look";
import { indexText, shortest } from "./numbers";
import { brushColour, Listed, overlayScene, type Painted } from "./over";
import { drawOverlay } from "./overlay";
import { binText, exactValue, legendOf, line } from "./reading";
import type { Reading, Readout } from "./readout";
import { drawTiles, tableOf } from "./scene";
import { alike, endSession, keyOf, openSession, type Session, sameSheet, shownBy, type TileCaches } from "./session";
import { Stage } from "./stage";
import { type Gesture, IDLE, type Point } from "./tools";
import { fitView, resize, reveal, type View, type Wanted, wantedTiles, zoom } from "./viewport";

export interface Shown {
  /** "[3, 0, 1, 2] = -0.0412"; empty when nothing is pointed at. */
  text: string;
  was: string;
  /** What the pixel stands for where levels are reduced. */
  bin: string;
}

const PATIENCE = 150;
/** Pixels of a cell that can be told from its neighbours. */
const SEEN = 6;

export class Picture {
  readonly shown = signal<Shown>({ text: "", was: "", bin: "" });
  readonly legend = signal("");
  readonly error = signal("");
  readonly stage: Stage;

  session: Session | null = null;
  gesture: Gesture = IDLE;
  cursor: Cell | null = null;
  anchor: Cell | null = null;
  /** Where the mouse is on the page; null when it is elsewhere. */
  mouse: { x: number; y: number } | null = null;
  /** The read-out follows what moved last. */
  follow: "pointer" | "cursor" | "twin" = "cursor";
  /** The picture beside this one, seen from the same place. */
  readonly twin = signal<Picture | null>(null);
  /** The cell that the read-out of this picture is about, if it is not the twin's that both follow. */
  pointed: Cell | null = null;
  focused = false;

  private frame_request = 0;
  private patience = 0;
  private readonly again = (): void => this.redraw();
  private labels: Label[] = [];
  /** What is under the mouse, found anew with each frame: the picture moves below it too. */
  private hover: Point | null = null;
  private readonly listed = new Listed();
  private painting: (Painted & { sent: boolean }) | null = null;
  private readonly stop: (() => void)[] = [];

  constructor(
    readonly host: HTMLElement,
    readonly store: Store,
    readonly actions: Actions,
    private readonly caches: TileCaches,
  ) {
    this.stage = new Stage(host, () => this.redraw());
    this.stop.push(
      actions.onChanged((changed, revision) => {
        for (const [key, cache] of this.caches) {
          const [name, shows] = shownBy(key);
          // What a view shows beside an edited cell may change, too: what was held, what stood there before.
          if (changed === "everything" || shows !== "value") cache.mark("everything", revision);
          else for (const [which, bounds] of changed) if (which === name) cache.mark(bounds, revision);
        }
        this.session?.ranges.cache.mark("everything", revision);
        this.session?.loader.retry();
        this.redraw();
      }),
    );
    this.stop.push(
      effect(() => {
        this.open(store.open.value, store.peek.value);
        // Read so that a change of any of them draws again.
        void [store.revision.value, store.reduction.value, lookOf(store), store.selection.value];
        void [store.tool.value, store.brush_size.value, store.brush_value.value, store.brush_mode.value];
        void [store.hello.value, store.lab.value, store.preview.value, store.held.value];
        void store.picked.value;
        void [store.profile.value, store.rgb.value, extra.value];
        this.redraw();
      }),
    );
    this.stop.push(effect(() => this.goTo(store.go.value)));
    Object.assign(host, {
      __wl_value: (...index: number[]) => drawnAt(this.stage, store, this.session, index),
    });
  }

  dispose(): void {
    for (const each of this.stop) each();
    cancelAnimationFrame(this.frame_request);
    // As if a frame were under way for ever: whoever still asks for one gets none.
    this.frame_request = -1;
    this.close();
    extra.peek()?.endDetails(this.stage);
    this.stage.dispose();
  }

  redraw(): void {
    this.frame_request ||= requestAnimationFrame(() => {
      this.frame_request = 0;
      this.frame();
    });
  }

  private open(open: OpenTensor | null, peek: boolean): void {
    const shows = peek ? "before" : (open?.view ?? "value");
    const before = this.session;
    if ((before?.key ?? "") === keyOf(open, shows)) return;
    const { cursor, anchor, store, actions, caches } = this;
    this.close();
    if (!open) return;
    this.session = openSession(open, shows, before, { store, actions, caches, redraw: () => this.redraw() });
    if (this.session && before && sameSheet(before, open.name, this.session.sheet)) {
      this.cursor = cursor;
      this.anchor = anchor;
      this.patience = Date.now() + PATIENCE;
    } else if (this.session && this.focused) this.cursor = { row: 0, column: 0 };
  }

  private close(): void {
    const { session } = this;
    if (!session) return;
    endSession(session);
    this.session = null;
    this.gesture = IDLE;
    this.cursor = null;
    this.anchor = null;
    this.hover = null;
    this.painting = null;
    this.error.value = "";
    // Nobody may take the last tensor's picture for the next one's, not even until the next frame.
    this.host.removeAttribute("data-painted");
  }

  /** Changes the view, if that changes anything. */
  setView(change: (view: View, sheet: Sheet, dpr: number) => View): boolean {
    const { session } = this;
    if (!session?.view) return false;
    const before = session.view;
    session.view = change(before, session.sheet, devicePixelRatio);
    this.redraw();
    const twin = this.mate;
    if (twin?.session?.view) {
      twin.session.view = resize(twin.session.sheet, session.view, twin.session.view.area, devicePixelRatio);
      twin.redraw();
    }
    const { x, y, rows, columns } = session.view;
    return (
      x !== before.x || y !== before.y || rows.scale !== before.rows.scale || columns.scale !== before.columns.scale
    );
  }

  /** The twin, while each cell lies at the same place in both. */
  private get mate(): Picture | null {
    const twin = this.twin.peek();
    return twin?.session && this.session && alike(this.session, twin.session) ? twin : null;
  }

  /** From now on both read-outs are about what this picture's pointer or cursor is at. */
  lead(by: "pointer" | "cursor"): void {
    this.follow = by;
    const twin = this.twin.peek();
    if (twin) twin.follow = "twin";
  }

  /** The pointer has left: each cursor counts again. */
  unlead(): void {
    this.follow = "cursor";
    const twin = this.twin.peek();
    if (twin) twin.follow = "cursor";
  }

  /** A cell that was searched for: into sight, and large enough to be seen. */
  private goTo(index: number[] | null): void {
    const { session } = this;
    const cell = index && session?.view ? cellOf(session.sheet, index) : null;
    if (!cell) return;
    this.cursor = cell;
    this.follow = "cursor";
    this.setView((view) => reveal(view, cell.row, cell.column));
    const { rows, columns } = (session as Session).view as View;
    const small = Math.min(rows.scale, columns.scale);
    if (small < SEEN) this.zoom(SEEN / small);
  }

  fit(): void {
    this.setView((view, sheet, dpr) => fitView(sheet, view.area, dpr));
  }

  zoom(factor: number, x?: number, y?: number): boolean {
    return this.setView((view, sheet, dpr) => {
      const at = this.cursorPosition(view);
      return zoom(sheet, view, factor, x ?? at.x, y ?? at.y, dpr);
    });
  }

  private cursorPosition(view: View): { x: number; y: number } {
    const inside = (at: number, room: number) => Math.max(0, Math.min(room, at));
    if (!this.cursor) return { x: view.area.width / 2, y: view.area.height / 2 };
    return {
      x: inside(view.x + position(view.columns, this.cursor.column + 0.5), view.area.width),
      y: inside(view.y + position(view.rows, this.cursor.row + 0.5), view.area.height),
    };
  }

  /** What lies at a position of the page. */
  pointAt(client_x: number, client_y: number): Point | null {
    const { session, host } = this;
    if (!session?.view || session.sheet.cells === 0) return null;
    const box = host.getBoundingClientRect();
    const x = client_x - box.left - host.clientLeft - session.margins.left;
    const y = client_y - box.top - host.clientTop - session.margins.top;
    return hit(session.sheet, session.view, this.labels, x, y);
  }

  /** Painted cells stay on screen until the kernel's answer is. */
  async commitBrush(cells: Set<number>, send: () => Promise<boolean>): Promise<void> {
    const painting = { cells, colour: brushColour(this.store), sent: false };
    this.painting = painting;
    this.redraw();
    const done = await send().catch(() => false);
    if (this.painting !== painting) return;
    if (done) painting.sent = true;
    else this.painting = null;
    this.redraw();
  }

  private frame(): void {
    const { session, store, host, stage } = this;
    const dpr = devicePixelRatio;
    const room = stage.height.peek();
    if (stage.width === 0 || room === 0) return;
    if (!session) {
      this.blank();
      return;
    }
    const { sheet, margins, cache } = session;
    const edges = store.profile.peek() !== null && sheet.facets === 1;
    margins.right = edges ? 72 : 12;
    // Two numbers in the read-out take two lines.
    margins.bottom = edges ? 88 : this.twin.peek() ? 62 : 40;
    const area = {
      width: Math.max(1, stage.width - margins.left - margins.right),
      height: Math.max(1, room - margins.top - margins.bottom),
    };
    if (!session.view) {
      const seen = this.mate?.session?.view;
      session.view = seen ? resize(sheet, seen, area, dpr) : fitView(sheet, area, dpr);
    }
    if (session.view.area.width !== area.width || session.view.area.height !== area.height) {
      session.view = resize(sheet, session.view, area, dpr);
    }
    const { view } = session;
    store.room.value = { rows: Math.round(area.height * dpr), columns: Math.round(area.width * dpr) };
    const wanted = wantedTiles(sheet, view, dpr);
    const planes = [store.reduction.peek()];
    session.loader.need(wanted.keys, wanted.encoding, planes);
    // Another slice of the same sheet: the last one stays in sight for a moment, so that a slider does not flash.
    if (Date.now() < this.patience && !wanted.keys.some((key) => cache.has(key))) {
      setTimeout(() => this.session && this.redraw(), PATIENCE);
      return;
    }

    const look = untracked(() => lookOf(store));
    const { width, height } = stage.pixels;
    stage.renderer.draw({
      width,
      height,
      rows: tableOf(view.rows, view.y, margins.top, area.height, dpr, height),
      columns: tableOf(view.columns, view.x, margins.left, area.width, dpr, width),
      blank: sheet.blank,
      whole: wanted.keys.every((key) => cache.has(key)),
      tiles: drawTiles(cache, view, wanted, margins, dpr, store.reduction.peek()),
      colours: look.colours,
      scale: look.scale,
      // The second script draws the marks of larger cells.
      hatched: !extra.peek() || Math.min(view.rows.scale, view.columns.scale) < MARKED,
    });

    const complete = wanted.keys.every((key) => cache.good(key, wanted.encoding, planes));
    this.error.value = session.loader.error ?? "";
    if (this.painting?.sent && (complete || session.loader.error)) this.painting = null;
    this.labels = labels(sheet, view);
    this.hover = this.mouse && this.pointAt(this.mouse.x, this.mouse.y);
    const { labels: placed, gesture, hover } = this;
    this.point();
    const theirs = this.pointed ? null : (this.mate?.pointed ?? null);
    const cursor = (this.follow === "twin" && theirs) || (this.focused ? this.cursor : theirs);
    const cells = this.painting ?? this.listed.of(store, sheet);
    drawOverlay(
      stage.overlay,
      overlayScene({ stage, store, session, view, labels: placed, gesture, hover, cursor, painted: cells }),
    );
    extra.peek()?.drawDetails({ stage, store, actions: this.actions, session, view, wanted, redraw: this.again });
    this.legend.value = legendOf(wanted, sheet);
    this.read(session, wanted, complete);
    const painted = `${session.name}@${store.revision.peek()}`;
    host.dataset["view"] = session.shows;
    if (!complete) host.removeAttribute("data-painted");
    else if (host.getAttribute("data-painted") !== painted) {
      host.setAttribute("data-painted", painted);
      store.painted.value = store.revision.peek();
    }
  }

  /** Finds the cell that the read-out is about, and tells the twin when it is another one. */
  private point(): void {
    const { hover, follow } = this;
    const under = hover?.target.kind === "cell" ? hover.target.cell : null;
    const now = follow === "pointer" && hover ? under : follow !== "twin" && this.focused ? this.cursor : null;
    if (now?.row === this.pointed?.row && now?.column === this.pointed?.column) return;
    this.pointed = now;
    this.twin.peek()?.redraw();
  }

  private blank(): void {
    const { host, store, stage } = this;
    stage.blank(colours(store.dark.peek()));
    this.labels = [];
    this.legend.value = "";
    this.show({ text: "", was: "", bin: "" });
    const open = store.open.peek();
    host.setAttribute("aria-label", open ? `${open.name}, loading` : "No tensor is open");
    host.removeAttribute("data-painted");
  }

  /** Index and value under the pointer, or at the cursor; the cursor's are also the name of the picture. */
  private read(session: Session, wanted: Wanted, complete: boolean): void {
    const { sheet, name } = session;
    const { layout } = sheet;
    const cursor = this.reading(session, session.cursor, this.cursor);
    const title = `${name} ${indexText(layout.shape)}${session.shows === "value" ? "" : `, ${session.shows}`}`;
    const at = cursor ? `, cursor ${line(cursor)}` : "";
    const label = sheet.cells === 0 ? `${title}, no cells` : title + at;
    if (this.host.getAttribute("aria-label") !== label) this.host.setAttribute("aria-label", label);
    const cell = this.pointed ?? this.mate?.pointed ?? null;
    const found = cell && cell === this.cursor ? cursor : this.reading(session, session.pointer, cell);
    // What everybody sees comes first.
    let bin = found && cell && complete ? binText(sheet, wanted, cell, session.ranges.at(wanted, cell)) : "";
    if (found && cell) {
      const { store, actions, again: redraw } = this;
      const edge = extra.peek()?.edgeText({ store, actions, session, redraw }, cell) ?? "";
      bin = [bin, edge].filter(Boolean).join(" · ");
    }
    const beside = this.hover?.target.kind === "region" ? (this.hover.target.text ?? "") : "";
    this.show({ text: found ? line(found) : beside, was: found?.was ? `was ${found.was}` : "", bin });
  }

  private show(next: Shown): void {
    const { text, was, bin } = this.shown.peek();
    if (text !== next.text || was !== next.was || bin !== next.bin) this.shown.value = next;
  }

  private reading(session: Session, readout: Readout, cell: Cell | null): Reading | null {
    const index = cell && indexOf(session.sheet, cell.row, cell.column);
    const value = cell ? exactValue(session.cache, cell) : null;
    const exact = this.store.open.peek()?.exact_text ?? false;
    const text = value !== null && exact ? shortest(value, session.dtype) : null;
    return readout.at(index, this.store.revision.peek(), text);
  }
}
