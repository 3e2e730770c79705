/** Where the picture is drawn: the renderer's canvas below, the overlay's above, and the room that they have. */
import { signal } from "@preact/signals";
import { createCanvas2d } from "./canvas2d";
import type { Colours } from "./colormap";
import type { Theme } from "./overlay";
import type { Renderer } from "./renderer";
import { makeScale } from "./scale";
import { createWebgl } from "./webgl";

const UNIT = makeScale(-1, 1, "linear", true);

export class Stage {
  /** Height in CSS pixels, so that the colour bar can space its numbers. */
  readonly height = signal(0);
  readonly overlay: HTMLCanvasElement;
  width = 0;
  renderer: Renderer;
  private readonly observer: ResizeObserver;
  /** The canvas whose context the browser took away; kept, because it may give it back. */
  private lost: HTMLCanvasElement | null = null;
  private closed = false;

  constructor(
    readonly host: HTMLElement,
    private readonly redraw: () => void,
  ) {
    this.renderer = this.createRenderer(this.canvas());
    this.host.dataset["renderer"] = this.renderer.kind;
    host.prepend(this.renderer.canvas);
    this.overlay = host.ownerDocument.createElement("canvas");
    this.overlay.className = "wl-overlay";
    host.append(this.overlay);
    this.observer = new ResizeObserver(() => {
      this.width = host.clientWidth;
      this.height.value = host.clientHeight;
      redraw();
    });
    this.observer.observe(host);
  }

  /** Size in device pixels. */
  get pixels(): { width: number; height: number } {
    const dpr = devicePixelRatio;
    return { width: Math.round(this.width * dpr), height: Math.round(this.height.peek() * dpr) };
  }

  blank(of: Colours): void {
    const { width, height } = this.pixels;
    const none = (n: number) => new Int32Array(n).fill(-1);
    this.renderer.draw({
      width,
      height,
      rows: none(height),
      columns: none(width),
      blank: { row: 0, column: 0 },
      tiles: [],
      whole: true,
      colours: of,
      scale: UNIT,
      hatched: false,
    });
    this.overlay.width = width;
    this.overlay.height = height;
  }

  theme(): Theme {
    const style = getComputedStyle(this.host);
    const of = (name: string) => style.getPropertyValue(`--wl-${name}`).trim();
    return { text: of("text"), dim: of("dim"), accent: of("accent"), background: of("bg"), mono: of("mono") };
  }

  dispose(): void {
    this.closed = true;
    this.observer.disconnect();
    this.renderer.dispose();
    this.renderer.canvas.remove();
    this.overlay.remove();
  }

  private canvas(): HTMLCanvasElement {
    const canvas = this.host.ownerDocument.createElement("canvas");
    canvas.className = "wl-cells";
    return canvas;
  }

  private createRenderer(canvas: HTMLCanvasElement): Renderer {
    return createWebgl(canvas, () => this.fallBack(canvas)) ?? createCanvas2d(this.canvas());
  }

  /**
   * Too many contexts on the page, or the driver went away: the other renderer draws the same picture, until the browser gives
   * the context back. It does so when others are freed, or the driver is there again.
   */
  private fallBack(canvas: HTMLCanvasElement): void {
    this.lost = canvas;
    const back = (): void => {
      this.lost = null;
      const renderer = this.createRenderer(canvas);
      // The view was closed meanwhile: nobody draws with it, and others may need it.
      if (this.closed) renderer.dispose();
      else this.take(renderer);
    };
    canvas.addEventListener("webglcontextrestored", back, { once: true });
    this.take(createCanvas2d(this.canvas()));
  }

  private take(renderer: Renderer): void {
    const { renderer: before, host } = this;
    before.canvas.remove();
    // A lost canvas keeps its context: disposed of, it could not come back.
    if (before.canvas !== this.lost) before.dispose();
    this.renderer = renderer;
    host.prepend(renderer.canvas);
    host.dataset["renderer"] = renderer.kind;
    this.redraw();
  }
}
