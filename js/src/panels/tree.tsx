/** The parameter tree: foldable, filtered, and drawn only where it is in sight. */
import { useComputed, useSignal } from "@preact/signals";
import { Component } from "preact";
import { useCallback, useEffect, useMemo, useRef } from "preact/hooks";
import type { GradientRow, Status, TensorColumns } from "../kernel/protocol";
import { type Glance, glancesOf } from "../state/glances";
import type { Page } from "../state/view";
import { count, dims, plural } from "./format";
import { worstByModule } from "./gradient-rows";
import { RowGlance, rowWords } from "./row-glance";
import { KindSign, StatusSign, statusWords } from "./sign";
import { SortBar } from "./sort";
import { treeMove, typeAhead } from "./tree-keys";
import { buildTree, flatRows, foldedAtFirst, matcher, type Node, type Row, visibleRows } from "./tree-model";
import { rowsInSight, useSight } from "./use-window";

const ROW = 24;
const TYPE_PAUSE = 600;

export function Tree({ store, actions, view }: Page) {
  const filter = useSignal("");
  const hello = store.hello.value;
  const tensors = hello?.tensors;
  const modules = hello?.modules;
  const roots = useMemo(() => (tensors && modules ? buildTree(tensors, modules) : []), [tensors, modules]);
  const folded = useSignal<ReadonlySet<string>>(new Set());
  // What is folded while a filter is on is forgotten with it.
  const foldedInFilter = useSignal<ReadonlySet<string>>(new Set());
  const first = useRef(true);
  if (first.current && roots.length > 0) {
    first.current = false;
    folded.value = foldedAtFirst(roots);
  }
  const match = useMemo(() => matcher(filter.value), [filter.value]);
  const active = match ? foldedInFilter : folded;
  const order = view.order.value;
  const places = order?.places;
  const shown = useMemo(
    () => (places ? flatRows(roots, places, match) : visibleRows(roots, active.value, match)),
    [roots, active.value, match, places],
  );
  const total = tensors?.name.length ?? 0;

  return (
    <nav class="wl-side wl-left" aria-label="Model">
      <div class="wl-filter">
        <input
          type="text"
          aria-label="Filter parameters"
          placeholder="Filter parameters"
          spellcheck={false}
          autocomplete="off"
          value={filter.value}
          onInput={(event) => {
            filter.value = event.currentTarget.value;
            foldedInFilter.value = new Set();
          }}
        />
        {match && (
          <span
            class="wl-matches wl-num"
            aria-live="polite"
            title={`${count(shown.matches)} of ${plural(total, "tensor")}`}
          >
            {count(shown.matches)}
          </span>
        )}
      </div>
      <SortBar {...{ store, actions, view }} />
      {hello && shown.rows.length === 0 && (
        <p class="wl-hint">{match ? "No name has this in it. * stands for anything." : "No parameters or buffers."}</p>
      )}
      <Rows
        page={{ store, actions, view }}
        rows={shown.rows}
        tensors={tensors}
        text={order?.text}
        setFolded={(change) => {
          active.value = change(active.value);
        }}
      />
    </nav>
  );
}

interface RowsProps {
  page: Page;
  rows: Row[];
  tensors: TensorColumns | undefined;
  /** The number that the rows are sorted by; undefined in the model's order. */
  text: ((at: number) => string) | undefined;
  setFolded(change: (folded: ReadonlySet<string>) => ReadonlySet<string>): void;
}

function Rows({ page, rows, tensors, text, setFolded }: RowsProps) {
  const { store, actions, view } = page;
  const box = useRef<HTMLDivElement>(null);
  const sight = useSight(box);
  // By node, not by number: folding above it must not move it.
  const active = useSignal<Node | null>(null);
  const typed = useRef({ text: "", at: 0 });
  const status = useComputed(() => new Map(store.gradients.value?.rows.map((row) => [row.name, row])));
  const worst = useComputed(() => worstByModule(store.gradients.value?.rows ?? []));
  const held = useComputed(() => new Set(store.lab.value?.holds.map((hold) => hold.name)));
  const open = store.opening.value || store.open.value?.name;
  const position = rows.findIndex((row) => row.node === active.value);
  const [start, end] = rowsInSight(sight, rows.length, ROW);
  const glances = glancesOf(page);
  const version = glances.version.value;
  useEffect(() => {
    glances.want(
      view.id,
      rows.slice(start, end).flatMap(({ node }) => (node.tensor >= 0 ? [node.name] : [])),
    );
  }, [rows, start, end, glances, version]);

  function reveal(at: number): void {
    const element = box.current;
    if (!element) return;
    if (at * ROW < element.scrollTop) element.scrollTop = at * ROW;
    const below = (at + 1) * ROW - element.clientHeight;
    if (below > element.scrollTop) element.scrollTop = below;
  }

  // Opened from elsewhere (a cause's "Show", another view): bring it into sight, without taking the focus.
  useEffect(() => {
    const at = rows.findIndex((row) => row.node.name === open && row.node.tensor >= 0);
    if (at >= 0) reveal(at);
  }, [open]);

  function go(at: number): void {
    active.value = rows[at]?.node ?? null;
    reveal(at);
  }

  function fold(row: Row, on: boolean): void {
    setFolded((folded) => {
      const next = new Set(folded);
      if (on) next.add(row.node.name);
      else next.delete(row.node.name);
      return next;
    });
  }

  function activate(row: Row): void {
    active.value = row.node;
    if (row.node.tensor < 0) {
      if (row.node.children.length > 0) fold(row, row.expanded);
      return;
    }
    view.drawer.value = false;
    void actions.openTensor(row.node.name);
  }

  // The same function for all rows and drawings, so that a row that stays as it is is not drawn again.
  const latest = useRef(activate);
  latest.current = activate;
  const pick = useCallback((row: Row) => latest.current(row), []);

  function onKey(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const move = treeMove(event.key, rows, position);
    if (move) {
      event.preventDefault();
      if (move.do === "go") go(move.to);
      else if (move.do === "activate") activate(move.row);
      else if (move.do === "unfold-siblings") {
        for (const row of rows) if (row.node.parent === move.row.node.parent) fold(row, false);
      } else fold(move.row, move.do === "fold");
      return;
    }
    if (event.key.length !== 1 || event.key === "?") return;
    const now = Date.now();
    typed.current = { text: now - typed.current.at < TYPE_PAUSE ? typed.current.text + event.key : event.key, at: now };
    const at = typeAhead(typed.current.text, rows, position);
    if (at >= 0) go(at);
  }

  return (
    <div
      ref={box}
      class="wl-tree"
      data-wl="tree"
      role="tree"
      aria-label="Parameters"
      tabIndex={0}
      aria-activedescendant={position >= start && position < end ? `${view.id}-row-${position}` : undefined}
      onKeyDown={onKey}
      // A row that got the focus by a click would take it along when its parent is folded.
      onMouseDown={(event) => {
        event.preventDefault();
        box.current?.focus({ preventScroll: true });
      }}
      onFocus={() => {
        if (position < 0 && rows.length > 0) {
          const at = rows.findIndex((row) => row.node.name === open);
          active.value = rows[Math.max(0, at)]?.node ?? null;
        }
      }}
    >
      <div class="wl-rows" role="presentation" style={{ height: `${rows.length * ROW}px` }}>
        {rows.slice(start, end).map((row, offset) => (
          <TreeRow
            key={`${row.node.kind === "module" ? "m" : "t"} ${row.node.name}`}
            id={`${view.id}-row-${start + offset}`}
            row={row}
            top={(start + offset) * ROW}
            active={row.node === active.value}
            open={row.node.tensor >= 0 && row.node.name === open}
            gradient={row.node.tensor >= 0 ? status.value.get(row.node.name) : undefined}
            hidden={row.node.tensor < 0 && !row.expanded ? worst.value.get(row.node.name) : undefined}
            tensors={tensors}
            glance={row.node.tensor >= 0 ? glances.get(row.node.name) : undefined}
            number={text?.(row.node.tensor)}
            held={row.node.tensor >= 0 && held.value.has(row.node.name)}
            onPick={pick}
          />
        ))}
      </div>
    </div>
  );
}

interface RowProps {
  id: string;
  row: Row;
  top: number;
  active: boolean;
  open: boolean;
  gradient: GradientRow | undefined;
  /** Of a folded module: the worst status in it. */
  hidden: Status | undefined;
  tensors: TensorColumns | undefined;
  glance: Glance | undefined;
  /** In place of the shape, when the rows are sorted by one; the label is then the whole name. */
  number: string | undefined;
  held: boolean;
  onPick(row: Row): void;
}

/** Scrolling draws only the rows that come in. */
class TreeRow extends Component<RowProps> {
  override shouldComponentUpdate(next: RowProps): boolean {
    return (Object.keys(next) as (keyof RowProps)[]).some((key) => next[key] !== this.props[key]);
  }

  render({ id, row, top, active, open, gradient, hidden, tensors, glance, number, held, onPick }: RowProps) {
    const { node } = row;
    const isModule = node.kind === "module";
    const words = rowWords({ node, tensors, gradient, held, glance });
    if (hidden) words.push(`in it: ${statusWords(hidden)}`);
    return (
      <div
        id={id}
        role="treeitem"
        class={`wl-row${isModule ? " wl-module" : ""}${active ? " wl-active" : ""}`}
        style={{ top: `${top}px`, "--wl-depth": row.level - 1 }}
        tabIndex={-1}
        data-name={node.name}
        data-kind={node.kind}
        data-status={gradient?.status ?? hidden}
        aria-label={words.join(", ")}
        aria-level={row.level}
        aria-setsize={row.setsize}
        aria-posinset={row.posinset}
        aria-expanded={node.children.length > 0 ? row.expanded : undefined}
        aria-selected={open}
        title={words.join("\n")}
        onClick={() => onPick(row)}
      >
        {isModule ? (
          <Fold leaf={node.children.length === 0} open={row.expanded} />
        ) : (
          <Sign node={node} gradient={gradient} tensors={tensors} />
        )}
        <span class="wl-label wl-tail">
          <bdi dir="ltr">{number === undefined ? node.label : node.name}</bdi>
        </span>
        {isModule ? (
          <>
            <span class="wl-type">{node.type}</span>
            {hidden && <span class="wl-grow" />}
            {hidden && <StatusSign status={hidden} />}
          </>
        ) : (
          <span class="wl-marks wl-num">
            {held && (
              <svg class="wl-pin" viewBox="0 0 12 12" aria-hidden="true">
                <path d="M4 1h4l-.5 4L9.5 7v1h-7V7l2-2zM6 8v3.5" fill="currentColor" stroke="currentColor" />
              </svg>
            )}
            {(tensors?.aliases[node.tensor]?.length ?? 0) > 0 && <span class="wl-tied">tied</span>}
            <RowGlance of={glance} narrow={number !== undefined}>
              <span class="wl-dims">{number ?? dims(tensors?.shape[node.tensor] ?? [])}</span>
            </RowGlance>
          </span>
        )}
      </div>
    );
  }
}

function Fold({ leaf, open }: { leaf: boolean; open: boolean }) {
  return (
    <svg class={`wl-fold${open ? " wl-open" : ""}`} viewBox="0 0 12 12" aria-hidden="true">
      {leaf ? <path d="M4 6h4" stroke="currentColor" /> : <path d="M4.5 3 8 6l-3.5 3z" fill="currentColor" />}
    </svg>
  );
}

function Sign({
  node,
  gradient,
  tensors,
}: {
  node: Node;
  gradient: GradientRow | undefined;
  tensors: TensorColumns | undefined;
}) {
  if (gradient) return <StatusSign status={gradient.status} />;
  if (node.kind === "parameter" && tensors?.requires_grad[node.tensor] === false) return <StatusSign status="frozen" />;
  return <KindSign kind={node.kind === "module" ? "parameter" : node.kind} />;
}
