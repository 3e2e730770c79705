/** Which of the selected cells an edit means: all, or those that a condition picks. */
import type { Where } from "../kernel/protocol";
import type { Store } from "../state/store";

const KINDS: readonly [Where["kind"] | "", string][] = [
  ["", "selection"],
  ["below", "|w| <"],
  ["above", "|w| >"],
  ["smallest", "smallest"],
  ["largest", "largest"],
  ["nan", "NaN"],
];

export function TargetChoice({ store }: { store: Store }) {
  const where = store.where.value;
  const listed = store.selection.value?.cells !== undefined;
  const typed = where !== null && where.kind !== "nan" && !listed;
  return (
    <span class="wl-target">
      <select
        aria-label="Target"
        title="Which of the selected cells are meant"
        disabled={listed || !store.open.value}
        value={listed ? "" : (where?.kind ?? "")}
        onChange={(event) => {
          const kind = event.currentTarget.value as Where["kind"] | "";
          store.where.value = kind === "" ? null : { kind, value: kind === "nan" ? null : (where?.value ?? "") };
        }}
      >
        {KINDS.map(([kind, text]) => (
          <option key={kind} value={kind}>
            {text}
          </option>
        ))}
      </select>
      {typed && (
        <input
          class="wl-num wl-short"
          type="text"
          aria-label="Target number"
          placeholder={where.kind === "below" || where.kind === "above" ? "0.001" : "10"}
          spellcheck={false}
          autocomplete="off"
          value={where.value ?? ""}
          onInput={(event) => {
            store.where.value = { ...where, value: event.currentTarget.value };
          }}
        />
      )}
    </span>
  );
}
