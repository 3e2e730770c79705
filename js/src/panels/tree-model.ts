/** Dotted names as a tree; which of its rows show. Pure: no DOM, no store. */
import type { Kind, ModuleColumns, TensorColumns } from "../kernel/protocol";

export interface Node {
  name: string;
  /** The last part of the name. */
  label: string;
  /** The name in small letters: a filter looks at every one with each keystroke. */
  lower: string;
  kind: "module" | Kind;
  /** Class name of a module; empty for tensors. */
  type: string;
  /** Index into the tensor columns; -1 for modules. */
  tensor: number;
  parent: Node | null;
  children: Node[];
}

export interface Row {
  node: Node;
  /** From 1, as aria-level counts. */
  level: number;
  setsize: number;
  posinset: number;
  expanded: boolean;
}

/** Modules in the order given; in each, its own tensors come before its submodules. Missing parents are made. */
export function buildTree(tensors: TensorColumns, modules: ModuleColumns): Node[] {
  const types = new Map(modules.name.map((name, at) => [name, modules.type[at] ?? ""]));
  const made = new Map<string, Node>();
  const roots: Node[] = [];

  function attach(node: Node): Node {
    (node.parent?.children ?? roots).push(node);
    return node;
  }

  function moduleAt(name: string): Node | null {
    if (name === "") return null;
    const known = made.get(name);
    if (known) return known;
    const parent = moduleAt(parentOf(name));
    const type = types.get(name) ?? "";
    const node: Node = {
      name,
      label: labelOf(name),
      lower: name.toLowerCase(),
      kind: "module",
      type,
      tensor: -1,
      parent,
      children: [],
    };
    made.set(name, node);
    return attach(node);
  }

  for (const name of modules.name) moduleAt(name);
  tensors.name.forEach((name, tensor) => {
    const kind = tensors.kind[tensor] ?? "parameter";
    attach({
      name,
      label: labelOf(name),
      lower: name.toLowerCase(),
      kind,
      type: "",
      tensor,
      parent: moduleAt(parentOf(name)),
      children: [],
    });
  });
  // Stable: tensors keep their order, and so do modules.
  const tensorsFirst = (nodes: Node[]): void => {
    nodes.sort((a, b) => Number(a.kind === "module") - Number(b.kind === "module"));
    for (const node of nodes) tensorsFirst(node.children);
  };
  tensorsFirst(roots);
  return roots;
}

function parentOf(name: string): string {
  const dot = name.lastIndexOf(".");
  return dot < 0 ? "" : name.slice(0, dot);
}

function labelOf(name: string): string {
  return name.slice(name.lastIndexOf(".") + 1);
}

/** Any part of the name, case ignored, `*` for anything; given names in small letters. Null when the filter is empty. */
export function matcher(filter: string): ((lower: string) => boolean) | null {
  const text = filter.trim().toLowerCase();
  if (text === "") return null;
  const parts = text.split("*");
  return (lower) => {
    let from = 0;
    for (const part of parts) {
      const at = lower.indexOf(part, from);
      if (at < 0) return false;
      from = at + part.length;
    }
    return true;
  };
}

export interface Shown {
  rows: Row[];
  /** Tensors that match; all of them without a filter. */
  matches: number;
}

/** The rows to draw, in order. With a filter: matching rows and their ancestors, unfolded unless in `folded`. */
export function visibleRows(
  roots: Node[],
  folded: ReadonlySet<string>,
  match: ((lower: string) => boolean) | null,
): Shown {
  const keep = new Set<Node>();
  let matches = 0;
  const mark = (node: Node): boolean => {
    let kept = match === null || match(node.lower);
    if (kept && node.tensor >= 0) matches += 1;
    for (const child of node.children) if (mark(child)) kept = true;
    if (kept) keep.add(node);
    return kept;
  };
  for (const root of roots) mark(root);

  const rows: Row[] = [];
  const walk = (nodes: Node[], level: number): void => {
    const siblings = nodes.filter((node) => keep.has(node));
    siblings.forEach((node, at) => {
      const expanded = node.children.length > 0 && !folded.has(node.name);
      rows.push({ node, level, setsize: siblings.length, posinset: at + 1, expanded });
      if (expanded) walk(node.children, level + 1);
    });
  };
  walk(roots, 1);
  return { rows, matches };
}

/** Tensors only, in a given order, as a list without levels. */
export function flatRows(roots: Node[], places: readonly number[], match: ((lower: string) => boolean) | null): Shown {
  const nodes: Node[] = [];
  const collect = (node: Node): void => {
    if (node.tensor >= 0) nodes[node.tensor] = node;
    node.children.forEach(collect);
  };
  roots.forEach(collect);
  const kept = places.flatMap((at) => {
    const node = nodes[at];
    return node && (!match || match(node.lower)) ? [node] : [];
  });
  const rows = kept.map((node, at) => ({
    node,
    level: 1,
    setsize: kept.length,
    posinset: at + 1,
    expanded: false,
  }));
  return { rows, matches: rows.length };
}

/** A tree this long starts folded at its second level: a page of leaves says nothing about a model. */
const LONG = 1500;

export function foldedAtFirst(roots: Node[]): Set<string> {
  let total = 0;
  const deep: string[] = [];
  const walk = (nodes: Node[], level: number): void => {
    for (const node of nodes) {
      total += 1;
      if (level >= 2 && node.children.length > 0) deep.push(node.name);
      walk(node.children, level + 1);
    }
  };
  walk(roots, 1);
  return new Set(total > LONG ? deep : []);
}
