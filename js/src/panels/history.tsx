/** What was done, newest first. Any entry is a place to go to; those that can be redone stand above the present one, dimmed. */
import { useLayoutEffect, useRef } from "preact/hooks";
import type { Entry, History as Past } from "../kernel/protocol";
import type { Alert } from "../state/store";
import type { Page } from "../state/view";
import { Exports } from "./exports";
import { count } from "./format";
import { kernelGone } from "./kernel-gone";

export function History(page: Page) {
  const { store, actions } = page;
  const history = store.lab.value?.history;
  const entries = history?.entries ?? [];
  const position = history?.position ?? 0;
  const conflict = conflictAt(store.alert.value, history);
  const gone = kernelGone(store);
  const list = useRef<HTMLOListElement>(null);
  // The present stays in sight; where it is in sight already, nothing moves.
  useLayoutEffect(() => {
    const box = list.current;
    const row = box?.querySelector<HTMLElement>('[aria-current="true"]');
    if (box && row) reveal(row, box);
  }, [position, entries.length]);
  return (
    <section class="wl-section wl-history">
      <div class="wl-head">
        <h4>
          History
          {entries.length > 0 && <span class="wl-num">{position}</span>}
        </h4>
        <Exports page={page} empty={entries.length === 0} />
      </div>
      {/* biome-ignore lint/a11y/noRedundantRoles: Safari forgets that a list without bullets is one. */}
      <ol ref={list} class="wl-scroll" data-wl="history" role="list" aria-label="History">
        {entries
          .map((entry, at) => (
            <Item
              key={entry.id}
              entry={entry}
              number={at + 1}
              current={at === position - 1}
              undone={at >= position}
              conflict={conflict === entry.id}
              gone={gone}
              go={() => void actions.jump(entry.id)}
            />
          ))
          .reverse()}
        <Item
          number={0}
          current={position === 0}
          undone={false}
          conflict={conflict === 0}
          gone={gone}
          go={() => void actions.jump(0)}
        />
      </ol>
    </section>
  );
}

/** The list alone scrolls, and no further than it must: `scrollIntoView` would move the notebook, too. */
function reveal(row: HTMLElement, box: HTMLElement): void {
  const top = row.offsetTop - box.offsetTop;
  box.scrollTop = Math.max(top + row.offsetHeight - box.clientHeight, Math.min(box.scrollTop, top));
}

/** The entry that a conflict is about: the step that was refused, or where a jump was to go. */
export function conflictAt(alert: Alert | null, history: Past | undefined): number | undefined {
  if (!alert?.retry || !history) return undefined;
  if (alert.retry === "jump") return alert.entry;
  return history.entries[history.position - (alert.retry === "undo" ? 1 : 0)]?.id;
}

/** Cells that an entry changed, or else those that it holds or releases. */
export const touched = ({ cells, held }: Entry): number => cells || Math.abs(held);

interface ItemProps {
  /** Absent: the model as loaded. */
  entry?: Entry;
  number: number;
  current: boolean;
  undone: boolean;
  conflict: boolean;
  /** Why nothing can be gone to; empty while the kernel is there. */
  gone: string;
  go(): void;
}

function Item({ entry, number, current, undone, conflict, gone, go }: ItemProps) {
  const title = entry
    ? [entry.text, undone ? "undone: go here to bring it back" : "", entry.names.join(", "), entry.code]
    : ["the model as loaded"];
  const pick = (): void => {
    if (!current && !gone) go();
  };
  return (
    <li
      class={`wl-entry${undone ? " wl-undone" : ""}${conflict ? " wl-conflict" : ""}`}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: a button in each row would read twice; the row itself is picked.
      tabIndex={0}
      aria-current={current ? "true" : undefined}
      aria-disabled={gone !== ""}
      title={gone || title.filter(Boolean).join("\n")}
      onClick={pick}
      onKeyDown={(event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          pick();
          return;
        }
        const step =
          event.key === "ArrowDown" ? "nextElementSibling" : event.key === "ArrowUp" ? "previousElementSibling" : null;
        const next = step && event.currentTarget[step];
        if (next instanceof HTMLElement) {
          event.preventDefault();
          next.focus();
        }
      }}
    >
      <span class="wl-num">{number}</span>
      <span class="wl-text">{entry?.text ?? "as loaded"}</span>
      {conflict ? (
        <span class="wl-mark">conflict</span>
      ) : (
        entry && touched(entry) > 0 && <span class="wl-num">{count(touched(entry))}</span>
      )}
    </li>
  );
}
