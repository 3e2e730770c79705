/**
 * The number under the pointer. Exact: from a float32 tile where that is exact, else from the kernel, with one question
 * under way and the latest one next. A text is shown only with the index that it was read for.
 */

export interface Reading {
  index: number[];
  /** null while it is on its way. */
  text: string | null;
  /** What stood there before the last change. */
  was: string | null;
}

interface Known {
  key: string;
  text: string;
  revision: number;
}

export class Readout {
  private target: number[] | null = null;
  private known: Known | null = null;
  private was: { key: string; text: string } | null = null;
  private busy = false;
  private failed: string | null = null;
  private revision = 0;
  private stopped = false;

  constructor(
    private readonly read: (cells: number[][]) => Promise<string[]>,
    private readonly onText: () => void,
  ) {}

  /** What to show for a cell at a revision. `local` is the text from the tile, null when it has none. */
  at(index: number[] | null, revision: number, local: string | null): Reading | null {
    this.target = index;
    this.revision = revision;
    if (!index) return null;
    const key = index.join(",");
    if (local !== null) this.learn({ key, text: local, revision });
    const text = this.known?.key === key && this.known.revision === revision ? this.known.text : null;
    if (text === null) void this.ask();
    return { index, text, was: this.was?.key === key && text !== null ? this.was.text : null };
  }

  dispose(): void {
    this.stopped = true;
  }

  private learn(known: Known): void {
    const before = this.known;
    if (before?.key !== known.key) this.was = null;
    else if (known.revision > before.revision && before.text !== known.text)
      this.was = { key: known.key, text: before.text };
    this.known = known;
  }

  private async ask(): Promise<void> {
    const { target, revision } = this;
    if (!target || this.busy || this.stopped) return;
    const key = target.join(",");
    // Refused once at this revision: asking again would only repeat it.
    if (this.failed === `${key}@${revision}`) return;
    this.busy = true;
    try {
      const [text] = await this.read([target]);
      // The pointer may have moved on, and the cell may have changed: then this answers a question nobody asks any more.
      const current = this.revision === revision && this.target?.join(",") === key;
      if (text !== undefined && current) this.learn({ key, text, revision });
    } catch {
      this.failed = `${key}@${revision}`;
    } finally {
      this.busy = false;
    }
    if (!this.stopped) this.onText();
  }
}
