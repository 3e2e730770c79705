/**
 * The picture of one tensor at a time: keeps view, tiles and renderer together and draws at most once a frame. The only
 * file of this folder, beside input.ts, that touches the page.
 */
import { effect, signal } from "@preact/signals";
import type { Actions } from "../state/actions";
import { cellCount } from "../state/region-text";
import type { OpenTensor, Store } from "../state/store";
import { position } from "./axis";
import { createCanvas2d } from "./canvas2d";
import { colours, css, entryOf, limitOf, type Rgb, rgb } from "./colormap";
import { hit } from "./hit";
import { type Label, labels, marginFor } from "./labels";
import { type AxisRange, type Cell, cellOf, cellsOfFlat, indexOf, makeSheet, type Sheet } from "./layout";
import { Loader } from "./loader";
import { indexText, shortest } from "./numbers";
import { drawOverlay, type Margins, type Theme } from "./overlay";
import { binOf, binText, exactValue, keyAt, legendOf, line } from "./reading";
import { type Reading, Readout } from "./readout";
import { rectsOfRegion, regionOfRect } from "./regions";
import type { Renderer } from "./renderer";
import { drawTiles, tableOf } from "./scene";
import { type CachedTile, shownPlane, TileCache } from "./tile-cache";
import { footprint, type Gesture, IDLE, type Point, span } from "./tools";
import { fitView, resize, type View, visible, type Wanted, wantedTiles, zoom } from "./viewport";
import { createWebgl } from "./webgl";

/** Tiles of tensors shown before, by name, so that coming back shows them at once. */
export type TileCaches = Map<string, TileCache>;

export interface Shown {
  /** "[3, 0, 1, 2] = -0.0412"; empty when nothing is pointed at. */
  text: string;
  was: string;
  /** What the pixel stands for where levels are reduced. */
  bin: string;
}

/** What is drawn for a cell, for tests: see `valueAt`. */
export interface Drawn {
  value: number;
  color: Rgb;
  x: number;
  y: number;
}

/** Over cells that something is about to happen to, in both themes. */
const PICKED = "rgb(240 160 20 / 42%)";
const KEPT_CACHES = 6;
const KEPT_BYTES = 8 * 2 ** 20;

interface Session {
  name: string;
  /** What of the tensor is drawn: its values, or another view of it. */
  shows: string;
  key: string;
  sheet: Sheet;
  dtype: string;
  cache: TileCache;
  loader: Loader;
  pointer: Readout;
  cursor: Readout;
  margins: Margins;
  view: View | null;
}

export class Picture {
  readonly shown = signal<Shown>({ text: "", was: "", bin: "" });
  readonly legend = signal("");
  readonly error = signal("");
  /** Height of the stage, so that the colour bar can space its numbers. */
  readonly height = signal(0);

  session: Session | null = null;
  gesture: Gesture = IDLE;
  cursor: Cell | null = null;
  anchor: Cell | null = null;
  /** Where the mouse is on the page; null when it is elsewhere. */
  mouse: { x: number; y: number } | null = null;
  /** The read-out follows what moved last. */
  follow: "pointer" | "cursor" = "cursor";
  focused = false;

  private renderer: Renderer;
  private readonly overlay: HTMLCanvasElement;
  private frame_request = 0;
  private labels: Label[] = [];
  /** What is under the mouse, found anew with each frame: the picture moves below it too. */
  private hover: Point | null = null;
  private width = 0;
  private stage_height = 0;
  private listed: { from: ArrayBufferView; sheet: Sheet; cells: number[] } | null = null;
  private painting: { cells: Set<number>; colour: string; sent: boolean } | null = null;
  private readonly stop: (() => void)[] = [];

  constructor(
    readonly host: HTMLElement,
    readonly store: Store,
    readonly actions: Actions,
    private readonly caches: TileCaches,
  ) {
    this.renderer = this.createRenderer();
    this.overlay = host.ownerDocument.createElement("canvas");
    this.overlay.className = "wl-overlay";
    host.append(this.overlay);
    const observer = new ResizeObserver(() => {
      this.width = host.clientWidth;
      this.stage_height = host.clientHeight;
      this.height.value = this.stage_height;
      this.redraw();
    });
    observer.observe(host);
    this.stop.push(() => observer.disconnect());
    this.stop.push(
      actions.onChanged((changed, revision) => {
        for (const [name, cache] of this.caches) {
          // What a view shows beside an edited cell may change, too: what was held, what stood there before.
          if (changed === "everything" || name.includes(" ")) cache.mark("everything", revision);
          else for (const [which, bounds] of changed) if (which === name) cache.mark(bounds, revision);
        }
        this.session?.loader.retry();
        this.redraw();
      }),
    );
    this.stop.push(
      effect(() => {
        this.open(store.open.value, store.peek.value);
        // Read so that a change of any of them draws again.
        void [store.revision.value, store.reduction.value, store.range.value, store.dark.value, store.selection.value];
        void [store.tool.value, store.brush_size.value, store.brush_value.value, store.brush_mode.value];
        void [store.hello.value, store.lab.value, store.preview.value];
        this.redraw();
      }),
    );
    Object.assign(host, { __wl_value: (...index: number[]) => this.valueAt(index) });
  }

  dispose(): void {
    for (const each of this.stop) each();
    cancelAnimationFrame(this.frame_request);
    this.close();
    this.renderer.dispose();
    this.renderer.canvas.remove();
    this.overlay.remove();
  }

  redraw(): void {
    this.frame_request ||= requestAnimationFrame(() => {
      this.frame_request = 0;
      this.frame();
    });
  }

  private createRenderer(software = false): Renderer {
    const make = (): HTMLCanvasElement => {
      const canvas = this.host.ownerDocument.createElement("canvas");
      canvas.className = "wl-cells";
      return canvas;
    };
    const lost = () => {
      // Too many contexts on the page, or the driver went away: the other renderer draws the same picture.
      this.renderer.canvas.remove();
      this.renderer = this.createRenderer(true);
      this.redraw();
    };
    const made = (software ? null : createWebgl(make(), lost)) ?? createCanvas2d(make());
    this.host.prepend(made.canvas);
    return made;
  }

  private open(open: OpenTensor | null, peek: boolean): void {
    const shows = peek ? "before" : (open?.view ?? "value");
    const key = open?.layout ? `${open.name} ${shows} ${JSON.stringify(open.layout)}` : "";
    const before = this.session;
    if (before?.key === key) return;
    const { cursor, anchor } = this;
    this.close();
    if (!open?.layout) return;
    const sheet = makeSheet(open.layout);
    const { name } = open;
    // Another view of the same sheet is seen from the same place.
    const stays = before?.name === name && JSON.stringify(before.sheet.layout) === JSON.stringify(open.layout);
    const cache = this.cacheOf(shows === "value" ? name : `${name} ${shows}`, sheet);
    const columns = this.store.hello.peek()?.tensors;
    const redraw = () => this.redraw();
    const read = (cells: number[][]) => this.actions.read(name, cells, shows);
    this.session = {
      name,
      shows,
      key,
      sheet,
      dtype: columns?.dtype[columns.name.indexOf(name)] ?? "",
      cache,
      loader: new Loader(name, cache, this.actions.tiles, redraw, shows),
      pointer: new Readout(read, redraw),
      cursor: new Readout(read, redraw),
      margins: { left: marginFor(sheet), top: 26, right: 12, bottom: 40 },
      view: stays ? before.view : null,
    };
    if (stays) {
      this.cursor = cursor;
      this.anchor = anchor;
    } else if (this.focused) this.cursor = { row: 0, column: 0 };
  }

  /** Tiles by name, and for other views by name and view: a space is in no dotted name. */
  private cacheOf(key: string, sheet: Sheet): TileCache {
    const old = this.caches.get(key);
    const same = old !== undefined && JSON.stringify(old.sheet.layout) === JSON.stringify(sheet.layout);
    const cache = same ? old : new TileCache(sheet);
    cache.trim(64 * 2 ** 20);
    this.caches.delete(key);
    this.caches.set(key, cache);
    for (const each of this.caches.keys()) {
      if (this.caches.size <= KEPT_CACHES) break;
      this.caches.delete(each);
    }
    return cache;
  }

  private close(): void {
    const { session } = this;
    if (!session) return;
    session.loader.dispose();
    session.pointer.dispose();
    session.cursor.dispose();
    session.cache.trim(KEPT_BYTES);
    this.session = null;
    this.gesture = IDLE;
    this.cursor = null;
    this.anchor = null;
    this.hover = null;
    this.painting = null;
    this.error.value = "";
  }

  /** Changes the view, if that changes anything. */
  setView(change: (view: View, sheet: Sheet, dpr: number) => View): boolean {
    const { session } = this;
    if (!session?.view) return false;
    const before = session.view;
    session.view = change(before, session.sheet, devicePixelRatio);
    this.redraw();
    const { x, y, rows, columns } = session.view;
    return (
      x !== before.x || y !== before.y || rows.scale !== before.rows.scale || columns.scale !== before.columns.scale
    );
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
    const painting = { cells, colour: this.brushColour(), sent: false };
    this.painting = painting;
    this.redraw();
    const done = await send().catch(() => false);
    if (this.painting !== painting) return;
    if (done) painting.sent = true;
    else this.painting = null;
    this.redraw();
  }

  private brushColour(): string {
    const { store } = this;
    // Only a value that is set is known before the kernel answers.
    if (store.brush_mode.peek() !== "set") return PICKED;
    const value = Number(store.brush_value.peek().trim() || "NaN");
    const of = colours(store.dark.peek());
    return css(rgb(of, entryOf(value, limitOf(store.range.peek(), store.open.peek()?.summary ?? null))));
  }

  private frame(): void {
    const { session, store, host } = this;
    const dpr = devicePixelRatio;
    if (this.width === 0 || this.stage_height === 0) return;
    if (!session) {
      this.blank();
      return;
    }
    const { sheet, margins, cache } = session;
    const area = {
      width: Math.max(1, this.width - margins.left - margins.right),
      height: Math.max(1, this.stage_height - margins.top - margins.bottom),
    };
    if (!session.view) session.view = fitView(sheet, area, dpr);
    else if (session.view.area.width !== area.width || session.view.area.height !== area.height) {
      session.view = resize(sheet, session.view, area, dpr);
    }
    const { view } = session;
    const wanted = wantedTiles(sheet, view, dpr);
    session.loader.need(wanted.keys, wanted.encoding);

    const of = colours(store.dark.peek());
    const limit = limitOf(store.range.peek(), store.open.peek()?.summary ?? null);
    const width = Math.round(this.width * dpr);
    const height = Math.round(this.stage_height * dpr);
    this.renderer.draw({
      width,
      height,
      rows: tableOf(view.rows, view.y, margins.top, area.height, dpr, height),
      columns: tableOf(view.columns, view.x, margins.left, area.width, dpr, width),
      blank: sheet.blank,
      tiles: drawTiles(cache, view, wanted, margins, dpr, store.reduction.peek()),
      colours: of,
      limit,
    });

    const complete = wanted.keys.every((key) => cache.good(key, wanted.encoding));
    this.error.value = session.loader.error ?? "";
    if (this.painting?.sent && (complete || session.loader.error)) this.painting = null;
    this.labels = labels(sheet, view);
    this.hover = this.mouse && this.pointAt(this.mouse.x, this.mouse.y);
    this.drawOver(session, view, wanted, dpr);
    this.legend.value = legendOf(wanted, sheet);
    this.read(session, wanted);
    const painted = `${session.name}@${store.revision.peek()}`;
    host.dataset["view"] = session.shows;
    if (!complete) host.removeAttribute("data-painted");
    else if (host.getAttribute("data-painted") !== painted) {
      host.setAttribute("data-painted", painted);
      store.painted.value = store.revision.peek();
    }
  }

  private blank(): void {
    const { host, store } = this;
    const dpr = devicePixelRatio;
    const width = Math.round(this.width * dpr);
    const height = Math.round(this.stage_height * dpr);
    const none = (n: number) => new Int32Array(n).fill(-1);
    const of = colours(store.dark.peek());
    const blank = { row: 0, column: 0 };
    this.renderer.draw({
      width,
      height,
      rows: none(height),
      columns: none(width),
      blank,
      tiles: [],
      colours: of,
      limit: 1,
    });
    this.overlay.width = width;
    this.overlay.height = height;
    this.labels = [];
    this.legend.value = "";
    this.show({ text: "", was: "", bin: "" });
    const open = store.open.peek();
    host.setAttribute("aria-label", open ? `${open.name}, loading` : "No tensor is open");
    host.removeAttribute("data-painted");
  }

  private drawOver(session: Session, view: View, wanted: Wanted, dpr: number): void {
    const { store, gesture, hover } = this;
    const { sheet } = session;
    const seen = visible(view);
    const gap = { rows: 1 / (view.rows.scale * dpr), columns: 1 / (view.columns.scale * dpr) };
    const rects = (ranges: AxisRange[] | null) => (ranges ? rectsOfRegion(sheet, ranges, seen, gap) : []);
    const selection = store.selection.peek();
    const dragged =
      gesture.kind === "select" && gesture.dragged
        ? regionOfRect(sheet, span(gesture.from, gesture.to))
        : gesture.kind === "label"
          ? gesture.region
          : null;
    const brush =
      store.tool.peek() === "brush" && hover?.target.kind === "cell"
        ? footprint(hover.nearest, store.brush_size.peek())
        : null;
    const painted = gesture.kind === "brush" ? { cells: gesture.cells, colour: this.brushColour() } : this.painting;
    const preview = store.preview.peek();
    const held = (store.lab.peek()?.holds ?? []).filter((hold) => hold.name === session.name);
    const bad: CachedTile[] = [];
    if (wanted.row_level + wanted.column_level === 0) {
      for (const key of wanted.keys) {
        const tile = session.cache.get(key);
        if (tile && tile.bad > 0) bad.push(tile);
      }
    }
    drawOverlay(this.overlay, {
      width: this.width,
      height: this.stage_height,
      dpr,
      margins: session.margins,
      sheet,
      view,
      labels: this.labels,
      colours: colours(store.dark.peek()),
      theme: themeOf(this.host),
      selected: dragged || gesture.kind === "brush" || selection?.cells ? [] : rects(selection?.region.axes ?? null),
      preview: rects(dragged ?? (preview && preview.picked.byteLength === 0 ? preview.region.axes : null)),
      held: held.map((hold) => ({ rects: rects(hold.axes), whole: cellCount(hold.axes) === hold.cells })),
      cursor: this.focused ? this.cursor : null,
      brush,
      painted: painted ?? this.picked(sheet),
      bad,
    });
  }

  /** Cells that a preview or a selection lists one by one. */
  private picked(sheet: Sheet): { cells: number[]; colour: string } | null {
    const { store } = this;
    const preview = store.preview.peek();
    const from = preview?.picked.byteLength ? preview.picked : store.selection.peek()?.cells;
    if (!from) return null;
    if (this.listed?.from !== from || this.listed.sheet !== sheet) {
      const bytes = from.buffer.slice(from.byteOffset, from.byteOffset + from.byteLength) as ArrayBuffer;
      this.listed = { from, sheet, cells: cellsOfFlat(sheet, new Float64Array(bytes)) };
    }
    return { cells: this.listed.cells, colour: PICKED };
  }

  /** Index and value under the pointer, or at the cursor; the cursor's are also the name of the picture. */
  private read(session: Session, wanted: Wanted): void {
    const { sheet, name } = session;
    const { layout } = sheet;
    const cursor = this.reading(session, session.cursor, this.cursor);
    const title = `${name} ${indexText(layout.shape)}${session.shows === "value" ? "" : `, ${session.shows}`}`;
    const at = cursor ? `, cursor ${line(cursor)}` : "";
    const label = sheet.cells === 0 ? `${title}, no cells` : title + at;
    if (this.host.getAttribute("aria-label") !== label) this.host.setAttribute("aria-label", label);
    const pointed = this.hover?.target.kind === "cell" ? this.hover.target.cell : null;
    const use_pointer = this.follow === "pointer" && this.hover !== null;
    const found = use_pointer ? this.reading(session, session.pointer, pointed) : this.focused ? cursor : null;
    const cell = use_pointer ? pointed : this.cursor;
    const bin = found && cell ? binText(session.cache, wanted, cell) : "";
    this.show({ text: found ? line(found) : "", was: found?.was ? `was ${found.was}` : "", bin });
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

  /**
   * What is drawn for a tensor index: the value of its bin, the colour of the pixel at the cell's middle as the renderer
   * drew it, and that place in client coordinates. null when the cell is not on screen or its tile has not come.
   */
  private valueAt(index: number[]): Drawn | null {
    const { session } = this;
    const view = session?.view;
    if (!session || !view || index.length !== session.sheet.layout.shape.length || session.sheet.cells === 0)
      return null;
    const { row, column } = cellOf(session.sheet, index);
    const x = view.x + position(view.columns, column) + Math.max(0.25, view.columns.scale / 2 - 0.5);
    const y = view.y + position(view.rows, row) + Math.max(0.25, view.rows.scale / 2 - 0.5);
    if (x < 0 || y < 0 || x >= view.area.width || y >= view.area.height) return null;
    const dpr = devicePixelRatio;
    const wanted = wantedTiles(session.sheet, view, dpr);
    const tile = session.cache.get(keyAt(wanted, row, column));
    if (!tile) return null;
    const value = shownPlane(tile, this.store.reduction.peek())[binOf(tile, row, column)] ?? Number.NaN;
    const left = session.margins.left + x;
    const top = session.margins.top + y;
    const box = this.host.getBoundingClientRect();
    return {
      value,
      color: this.renderer.readPixel(Math.floor(left * dpr), Math.floor(top * dpr)),
      x: box.left + this.host.clientLeft + left,
      y: box.top + this.host.clientTop + top,
    };
  }
}

function themeOf(host: HTMLElement): Theme {
  const style = getComputedStyle(host);
  const of = (name: string, otherwise: string) => style.getPropertyValue(name).trim() || otherwise;
  return {
    text: of("--wl-text", "#1f2430"),
    dim: of("--wl-dim", "#6b7280"),
    accent: of("--wl-accent", "#1a6fd4"),
    background: of("--wl-bg", "#fff"),
    mono: of("--wl-mono", "ui-monospace, monospace"),
  };
}
