/** Which of the selected cells an edit means: all, or those that a condition picks. */
import type { NumberText, Where } from "../kernel/protocol";
import type { Store } from "../state/store";

const KINDS: readonly [Where["kind"] | "", string][] = [
  ["", "selection"],
  ["below", "|w| <"],
  ["above", "|w| >"],
  ["smallest", "smallest"],
  ["largest", "largest"],
  ["nan", "NaN"],
];

/** Brushed on the colour bar: an interval is no number to be typed here. */
const BRUSHED: Record<string, string> = { between: "between", size_between: "|w| between" };

const plain = (where: Where | null): NumberText => (Array.isArray(where?.value) ? "" : (where?.value ?? ""));

export function TargetChoice({ store }: { store: Store }) {
  const where = store.where.value;
  const listed = store.selection.value?.cells !== undefined;
  const typed = where !== null && where.kind !== "nan" && !BRUSHED[where.kind] && !listed;
  const brushed = where && BRUSHED[where.kind];
  return (
    <span class="wl-target">
      <select
        aria-label="Target"
        title="Which of the selected cells are meant"
        disabled={listed || !store.open.value}
        value={listed ? "" : (where?.kind ?? "")}
        onChange={(event) => {
          const kind = event.currentTarget.value as Where["kind"] | "";
          store.where.value = kind === "" ? null : { kind, value: kind === "nan" ? null : plain(where) };
        }}
      >
        {KINDS.map(([kind, text]) => (
          <option key={kind} value={kind}>
            {text}
          </option>
        ))}
        {brushed && <option value={where.kind}>{brushed}</option>}
      </select>
      {typed && (
        <input
          class="wl-num wl-short"
          type="text"
          aria-label="Target number"
          placeholder={where.kind === "below" || where.kind === "above" ? "0.001" : "10"}
          spellcheck={false}
          autocomplete="off"
          value={plain(where)}
          onInput={(event) => {
            store.where.value = { ...where, value: event.currentTarget.value };
          }}
        />
      )}
    </span>
  );
}
