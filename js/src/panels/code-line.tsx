/** The line of PyTorch that does the same as the last edit, and what the edit did. */
import { useSignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import type { Entry } from "../kernel/protocol";
import type { Page } from "../state/view";
import { plural } from "./format";

export function CodeLine({ page, refused }: { page: Page; refused: string }) {
  const { store, actions, view } = page;
  const history = store.lab.value?.history;
  const entry = history?.entries[history.position - 1];
  const behind = entry && store.behind.value?.entry === entry.id ? store.behind.value : null;
  const code = useRef<HTMLElement>(null);
  const copied = useSignal(false);
  const words = refused || store.notice.value || offered(outcome(entry), behind?.norm);
  const empty = entry?.held
    ? "a hold acts after each optimizer step: plain PyTorch has no line for it"
    : "the PyTorch of the last edit stands here";
  /** The entry whose code is unfolded over the picture: another one begins folded. */
  const unfolded = useSignal<number | null>(null);
  const cut = useSignal(false);
  const whole = entry !== undefined && unfolded.value === entry.id;
  const further = (entry?.code.split("\n").length ?? 1) - 1;
  const line = useRef<HTMLParagraphElement>(null);
  /** The words that are unfolded over the code: others begin folded. */
  const told = useSignal("");
  const told_cut = useSignal(false);
  const told_whole = words !== "" && told.value === words;
  useLayoutEffect(() => {
    const box = code.current;
    const below = line.current;
    if (!box || !below) return;
    box.scrollTo(0, 0);
    const look = (): void => {
      if (unfolded.peek() === null) cut.value = overflows(box);
      if (told.peek() === "") told_cut.value = overflows(below);
    };
    const observer = new ResizeObserver(look);
    observer.observe(box);
    observer.observe(below);
    look();
    return () => observer.disconnect();
  }, [entry?.code, words]);

  async function copy(): Promise<void> {
    try {
      // Missing on plain http; refused without permission. Then the text is selected, and Ctrl+C does it.
      await navigator.clipboard.writeText(entry?.code ?? "");
      copied.value = true;
      setTimeout(() => {
        copied.value = false;
      }, 1200);
    } catch {
      if (code.current) getSelection()?.selectAllChildren(code.current);
    }
  }

  return (
    <div class={`wl-codeline${whole ? " wl-whole" : ""}`}>
      <code ref={code} class="wl-num" data-wl="code" data-empty={empty} title={entry?.code}>
        {entry?.code ?? ""}
      </code>
      {entry?.code && (further > 0 || cut.value || whole) && (
        <button
          type="button"
          class="wl-fold-code"
          aria-expanded={whole}
          title={whole ? "One line" : "The whole code"}
          onClick={() => {
            unfolded.value = whole ? null : entry.id;
          }}
        >
          {whole ? "fold" : further > 0 ? `+${plural(further, "line")}` : "more"}
        </button>
      )}
      <button type="button" class="wl-copy" disabled={!entry?.code} onClick={() => void copy()} title="Copy this line">
        <span aria-live="polite">{copied.value ? "Copied" : "Copy"}</span>
      </button>
      <span class="wl-aside">
        {(told_cut.value || told_whole) && (
          <button
            type="button"
            class="wl-offer"
            aria-expanded={told_whole}
            aria-label={told_whole ? "Less of the outcome" : "The whole outcome"}
            onClick={() => {
              told.value = told_whole ? "" : words;
            }}
          >
            {told_whole ? "fold" : "more"}
          </button>
        )}
        {behind && (
          <button
            type="button"
            class="wl-offer"
            title={`${behind.norm} still puts out its shift for the zeroed channels: its scale, shift and running mean, too`}
            onClick={() => void actions.zeroBehind()}
          >
            Also zero {behind.norm}
          </button>
        )}
        {view.room.value !== "tight" && <Moments page={page} />}
      </span>
      <p
        ref={line}
        class={`wl-outcome${refused ? " wl-refused" : ""}${told_whole ? " wl-told" : ""}`}
        aria-live="polite"
        title={words}
      >
        {words}
      </p>
    </div>
  );
}

const overflows = (box: HTMLElement): boolean =>
  box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight + 1;

/** In the bar above where that has a second row, with room for it. */
export function Moments({ page: { store } }: { page: Page }) {
  if (!store.lab.value?.moments) return null;
  return (
    <select
      aria-label="Moments"
      title="What an edit does to the optimizer's moments of its cells: by itself zero where it made a cell 0"
      value={store.moments.value}
      onChange={(event) => {
        store.moments.value = event.currentTarget.value as "" | "keep" | "zero";
      }}
    >
      <option value="">moments: auto</option>
      <option value="keep">moments: keep</option>
      <option value="zero">moments: zero</option>
    </select>
  );
}

/** What a note says in Python is a button here, while that offers it. */
export const offered = (words: string, norm: string | undefined): string =>
  norm === undefined ? words : words.replace("zero_(linked=True)", `"Also zero ${norm}"`);

/** `27 cells changed · asked 1.003, stored 1.0 (27 rounded) · also decoder.weight · note` */
export function outcome(entry: Entry | undefined): string {
  if (!entry) return "";
  const { cells, held } = entry;
  const parts = cells > 0 ? [`${plural(cells, "cell")} changed`] : held === 0 ? [entry.text] : [];
  if (held !== 0) parts.push(`${plural(Math.abs(held), "cell")} ${held > 0 ? "held" : "released"}`);
  if (entry.rounded > 0) {
    const at = entry.requested.findIndex((text, index) => text !== entry.stored[index]);
    const example = at >= 0 ? `asked ${entry.requested[at]} → stored ${entry.stored[at]}` : "";
    parts.push(`${example}${example ? ", " : ""}${plural(entry.rounded, "cell")} rounded`);
  }
  // A stroke or a repair writes several tensors; names that none of its parts wrote are tied to one that was.
  const written = new Set(entry.changed.map(([name]) => name));
  const others = entry.names.filter((name) => !written.has(name));
  if (written.size > 1) parts[0] += ` in ${written.size} tensors`;
  if (written.size > 0 && others.length > 0) parts.push(`also ${others.join(", ")} (tied)`);
  return [...parts, ...entry.notes].join(" · ");
}
