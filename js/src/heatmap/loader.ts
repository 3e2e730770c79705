/**
 * Asks for tiles: one request under way, and when it ends the next for what is then missing. What is no longer wanted at
 * all is aborted, so that a pan or zoom does not wait for pictures that nobody sees.
 */
import { Refused } from "../kernel/client";
import type { LayoutCall, TileKey, TilePlane } from "../kernel/protocol";
import type { Actions } from "../state/actions";
import type { TileCache } from "./tile-cache";

/** The wire takes at most this many in one request. */
const MOST = 64;

interface Want {
  keys: TileKey[];
  encoding: "f32" | "q8";
  planes: readonly TilePlane[];
}

const sameKind = (one: Omit<Want, "keys">, other: Omit<Want, "keys">): boolean =>
  one.encoding === other.encoding && one.planes.join() === other.planes.join();

export class Loader {
  private want: Want = { keys: [], encoding: "q8", planes: [] };
  private asked: (Omit<Want, "keys"> & { keys: Set<string>; abort: AbortController }) | null = null;
  /** Why the last request failed; tried again only when something new is wanted, or the picture changes. */
  error: string | null = null;
  /** Whether that was the user's own wish. */
  cancelled = false;
  private stopped = false;

  constructor(
    private readonly name: string,
    private readonly cache: TileCache,
    private readonly ask: Actions["tiles"],
    private readonly onLoad: () => void,
    private readonly view = "value",
    private readonly call: LayoutCall | undefined = undefined,
  ) {}

  get loading(): boolean {
    return this.asked !== null;
  }

  /** All tiles that the screen needs, nearest first, and which planes of them. */
  need(keys: TileKey[], encoding: "f32" | "q8", planes: readonly TilePlane[]): void {
    const want = { keys, encoding, planes };
    if (this.error !== null && !(sameKind(want, this.want) && keys.join(";") === this.want.keys.join(";"))) {
      this.error = null;
    }
    this.want = want;
    if (this.asked) {
      const useful = keys.some((key) => this.asked?.keys.has(key.join(",")));
      if (useful && sameKind(this.asked, want)) return;
      this.asked.abort.abort();
      this.asked = null;
    }
    void this.next();
  }

  /** Try again after a failure. */
  retry(): void {
    this.error = null;
  }

  dispose(): void {
    this.stopped = true;
    this.asked?.abort.abort();
    this.asked = null;
  }

  private async next(): Promise<void> {
    const { keys, encoding, planes } = this.want;
    const missing = keys.filter((key) => !this.cache.good(key, encoding, planes)).slice(0, MOST);
    if (this.stopped || this.asked || this.error !== null || missing.length === 0) return;
    const abort = new AbortController();
    const request = { keys: new Set(missing.map((key) => key.join(","))), encoding, planes, abort };
    this.asked = request;
    try {
      const { name, view, call } = this;
      const reply = await this.ask({ name, tiles: missing, encoding, planes: [...planes] }, abort.signal, view, call);
      if (this.stopped) return;
      // An aborted request that answers all the same still brought good tiles.
      this.cache.put(reply.tiles, reply.buffer, reply.revision, this.want.keys);
      // A kernel that sends nothing and leaves nothing would be asked for ever.
      if (reply.tiles.length === 0 && this.asked === request) this.error = "the kernel sent no tiles";
    } catch (error) {
      if (this.stopped || abort.signal.aborted) return;
      if (this.asked !== request) return;
      this.error = error instanceof Error ? error.message : String(error);
      this.cancelled = error instanceof Refused && error.kind === "Cancelled";
    } finally {
      if (this.asked === request) this.asked = null;
    }
    if (this.stopped) return;
    this.onLoad();
    void this.next();
  }
}
