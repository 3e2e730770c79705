/** Which of the selected cells an edit means: all, or those that a condition picks. */
import type { NumberText, Where } from "../kernel/protocol";
import type { Store } from "../state/store";
import { count } from "./format";

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

/** With `told`, what is wrong with the number stands below it; a form tells it itself. */
export function TargetChoice({ store, told = false }: { store: Store; told?: boolean }) {
  const where = store.where.value;
  const listed = store.selection.value?.cells !== undefined;
  const typed = where !== null && where.kind !== "nan" && !BRUSHED[where.kind] && !listed;
  const brushed = where && BRUSHED[where.kind];
  const error = where ? (store.picked.value?.error ?? "") : "";
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
          aria-invalid={error !== ""}
          placeholder={where.kind === "below" || where.kind === "above" ? "0.001" : "10"}
          spellcheck={false}
          autocomplete="off"
          value={plain(where)}
          onInput={(event) => {
            store.where.value = { ...where, value: event.currentTarget.value };
          }}
        />
      )}
      {told && error && (
        <span class="wl-target-error" role="alert">
          {error}
        </span>
      )}
    </span>
  );
}

/** `12 of 240 cells` where a target picks among them. */
export function meantCells(store: Store, all: number): string {
  const numel = store.selection.value?.region.numel ?? all;
  const picked = store.where.value ? store.picked.value?.cells : null;
  return picked === null || picked === undefined ? cells(numel) : `${count(picked)} of ${cells(numel)}`;
}

function cells(many: number): string {
  // The exact number of a large tensor would push the selects away, and nobody reads its last digits here.
  if (many >= 1e6) return `${(many / 1e6).toPrecision(3)} M cells`;
  return `${count(many)} ${many === 1 ? "cell" : "cells"}`;
}
