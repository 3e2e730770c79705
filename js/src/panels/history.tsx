/** What was done, newest first. Entries that can be redone stand above the present one, dimmed. */
import type { Entry } from "../kernel/protocol";
import type { Page } from "../state/view";
import { count, plural } from "./format";

export function History({ store, actions }: Page) {
  const history = store.lab.value?.history;
  const entries = history?.entries ?? [];
  const position = history?.position ?? 0;
  return (
    <section class="wl-section wl-history">
      <h4>
        History
        <span class="wl-grow" />
        {entries.length > 0 && <span class="wl-num">{plural(position, "edit")}</span>}
      </h4>
      {/* biome-ignore lint/a11y/noRedundantRoles: Safari forgets that a list without bullets is one. */}
      <ol class="wl-scroll" data-wl="history" role="list" aria-label="History">
        {entries
          .map((entry, at) => (
            <Item
              key={entry.id}
              entry={entry}
              number={at + 1}
              current={at === position - 1}
              undone={at >= position}
              onPick={() => void actions.jump(entry.id)}
            />
          ))
          .reverse()}
        <li class="wl-entry wl-base" aria-current={position === 0 ? "true" : undefined}>
          <span class="wl-num">0</span>
          <span class="wl-text">as loaded</span>
        </li>
      </ol>
    </section>
  );
}

interface ItemProps {
  entry: Entry;
  number: number;
  current: boolean;
  undone: boolean;
  onPick(): void;
}

function Item({ entry, number, current, undone, onPick }: ItemProps) {
  return (
    <li
      class={`wl-entry${undone ? " wl-undone" : ""}`}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: a button in each row would read twice; the row itself is picked.
      tabIndex={0}
      aria-current={current ? "true" : undefined}
      title={[entry.text, undone ? "undone: Redo brings it back" : "", entry.names.join(", ")]
        .filter(Boolean)
        .join("\n")}
      onClick={onPick}
      onKeyDown={(event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          onPick();
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
      <span class="wl-text">{entry.text}</span>
      <span class="wl-num">{count(entry.cells)}</span>
    </li>
  );
}
