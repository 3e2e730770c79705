/** Exact texts of the selected cells, or of the whole tensor: only what is in sight is read. */
import { useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { viewed } from "../state/store";
import type { Page } from "../state/view";
import { count, plural } from "./format";
import { type Axis, placeOf, tableOf } from "./table-window";
import { useSight } from "./use-window";

const ROW = 22;
/** The least width of a column, and what of it is not text. */
const COLUMN = 104;
const PADDING = 22;
const HEAD = 92;
/** Browsers lay out no more than some ten million pixels. */
const MOST_ROWS = 400_000;
const MOST_ACROSS = 8_000_000;
/** Cells of one request. */
const BATCH = 256;
const PAUSE = 40;

export function CellTable({ store, actions }: Page) {
  const box = useRef<HTMLDivElement>(null);
  const sight = useSight(box);
  const texts = useRef(new Map<string, string>());
  const version = useSignal(0);
  const scrolled = useSignal(0);
  // An exact number is of no use without its last digits: as wide as the longest text that came.
  const wide = useSignal(COLUMN);
  const column = wide.value;
  const open = store.open.value;
  const tensors = store.hello.value?.tensors;
  const shape = tensors?.shape[tensors.name.indexOf(open?.name ?? "")] ?? [];
  // What a search found is selected: the table goes there, and does not shrink to that one cell.
  const chosen = store.selection.value?.region;
  const found = store.go.value !== null && chosen?.numel === 1;
  const axes: Axis[] = (!found && chosen?.axes) || shape.map((size) => [0, size, 1]);
  const key = JSON.stringify(axes);
  const table = useMemo(() => tableOf(axes), [key]);
  const rows = Math.min(table.rows, MOST_ROWS);
  const columns = Math.min(table.columns, Math.floor(MOST_ACROSS / column));
  const { name = "", view = "value" } = open ?? {};
  const revision = store.revision.value;

  const across = box.current?.clientWidth || 600;
  const left = scrolled.value;
  const row0 = Math.max(0, Math.floor(sight.top / ROW) - 1);
  const row1 = Math.min(rows, Math.ceil((sight.top + sight.height) / ROW));
  const column0 = Math.max(0, Math.floor(left / column));
  const column1 = Math.min(columns, Math.ceil((left + across - HEAD) / column) + 1);

  useEffect(() => {
    texts.current.clear();
    wide.value = COLUMN;
    version.value += 1;
  }, [name, view, revision]);

  useEffect(() => {
    const cells: number[][] = [];
    for (let row = row0; row < row1; row += 1) {
      for (let at = column0; at < column1; at += 1) {
        const index = table.index(row, at);
        if (!texts.current.has(index.join())) cells.push(index);
      }
    }
    if (cells.length === 0 || !name) return;
    const ended = new AbortController();
    const read = async (): Promise<void> => {
      for (let at = 0; at < cells.length && !ended.signal.aborted; at += BATCH) {
        const some = cells.slice(at, at + BATCH);
        const asked = { name, ...viewed(view), cells: some };
        const { reply } = await actions.request("read", asked, { signal: ended.signal });
        for (const [i, index] of some.entries()) texts.current.set(index.join(), reply.texts[i] ?? "");
        const longest = Math.max(0, ...reply.texts.map((text) => text.length));
        if (box.current) wide.value = Math.max(wide.value, Math.ceil(longest * letterOf(box.current)) + PADDING);
        version.value += 1;
      }
    };
    const timer = setTimeout(() => read().catch(() => {}), PAUSE);
    return () => {
      clearTimeout(timer);
      ended.abort();
    };
  }, [name, view, revision, table, row0, row1, column0, column1]);

  // Columns that grow leave the one that is in sight where it is.
  const before = useRef(column);
  useLayoutEffect(() => {
    if (box.current) box.current.scrollLeft *= column / before.current;
    before.current = column;
  }, [column]);

  // A search jumps to its cell: the table follows where it has it.
  const target = store.go.value;
  useEffect(() => {
    const place = target && placeOf(axes, target);
    const element = box.current;
    if (!place || !element) return;
    element.scrollTop = Math.max(0, place[0] * ROW - element.clientHeight / 3);
    element.scrollLeft = Math.max(0, place[1] * column - element.clientWidth / 3);
  }, [target]);

  void version.value;
  const placeAcross = (at: number) => ({ left: `${HEAD + at * column}px`, width: `${column}px` });
  const marked = target?.join();
  const range = (from: number, to: number): number[] =>
    Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);
  return (
    <div
      ref={box}
      class="wl-cells wl-scroll"
      role="grid"
      aria-label={`Cells of ${name}`}
      aria-rowcount={table.rows}
      aria-colcount={table.columns}
      tabIndex={0}
      onScroll={(event) => {
        scrolled.value = event.currentTarget.scrollLeft;
      }}
    >
      <div
        class="wl-cells-all"
        role="presentation"
        style={{ height: `${(rows + 1) * ROW}px`, width: `${HEAD + columns * column}px` }}
      >
        <div class="wl-cells-head" role="row">
          <span class="wl-cells-corner" role="columnheader" title={corner(table.rows, rows, table.columns, columns)}>
            {plural(table.rows, "row")}
          </span>
          {range(column0, column1).map((at) => (
            <span key={at} role="columnheader" style={placeAcross(at)}>
              {table.columnName(at)}
            </span>
          ))}
        </div>
        {range(row0, row1).map((row) => (
          <div key={row} role="row" aria-rowindex={row + 1} style={{ top: `${(row + 1) * ROW}px` }}>
            <span role="rowheader">{table.rowName(row) || name.slice(name.lastIndexOf(".") + 1)}</span>
            {range(column0, column1).map((nth) => {
              const at = table.index(row, nth).join();
              const text = texts.current.get(at);
              return (
                <span
                  key={nth}
                  role="gridcell"
                  aria-colindex={nth + 1}
                  aria-selected={at === marked}
                  class={text && /nan|inf/.test(text) ? "wl-bad" : ""}
                  style={placeAcross(nth)}
                  title={text}
                >
                  {text ?? "…"}
                </span>
              );
            })}
          </div>
        ))}
      </div>
    </div>
  );
}

/** Width of a digit; all signs of numbers are as wide. */
function letterOf(element: HTMLElement): number {
  const context = element.ownerDocument.createElement("canvas").getContext("2d");
  if (!context) return 0;
  const { fontSize, fontFamily } = getComputedStyle(element);
  context.font = `${fontSize} ${fontFamily}`;
  return context.measureText("0").width;
}

function corner(rows: number, shownRows: number, columns: number, shownColumns: number): string {
  if (rows === shownRows && columns === shownColumns) return `${count(rows)} × ${count(columns)} cells`;
  return `The first ${count(shownRows)} × ${count(shownColumns)} of ${count(rows)} × ${count(columns)} cells: select a part to see others`;
}
