/** What a row of the tree shows of its tensor: a small histogram, and how many cells are not healthy. */
import type { ComponentChildren } from "preact";
import type { GradientRow, TensorColumns } from "../kernel/protocol";
import type { Glance } from "../state/glances";
import { count, dims, number, plural } from "./format";
import { statusWords } from "./sign";
import { percent } from "./statistics";
import type { Node } from "./tree-model";

/** `children`: what stands between the two. `narrow`: the name needs the room of the zeros. */
export function RowGlance(props: { of: Glance | undefined; narrow: boolean; children: ComponentChildren }) {
  const { of, narrow, children } = props;
  return (
    <>
      {of && <Health of={of} narrow={narrow} />}
      {children}
      {of && !of.reason ? <Bars bars={of.bars} /> : <span class="wl-bars" />}
    </>
  );
}

const WIDTH = 36;
const HEIGHT = 14;
/** Fewer zeros than that are nothing to see in a list. */
const ZEROS_SHOWN = 0.01;

function Bars({ bars }: { bars: Uint8Array }) {
  const step = WIDTH / bars.length;
  let path = "";
  bars.forEach((bar, at) => {
    if (bar > 0) path += `M${at * step} ${HEIGHT}v-${Math.max(1, (bar / 255) * HEIGHT)}h${step}V${HEIGHT}z`;
  });
  return (
    <svg class="wl-bars" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} aria-hidden="true">
      <path d={path} fill="currentColor" />
    </svg>
  );
}

function Health({ of, narrow }: { of: Glance; narrow: boolean }) {
  const zeros = of.count > 0 ? of.zero / of.count : 0;
  return (
    <>
      {of.nan > 0 && <b class="wl-bad">{short(of.nan)} NaN</b>}
      {of.inf > 0 && <b class="wl-bad">{short(of.inf)} inf</b>}
      {zeros >= ZEROS_SHOWN && of.count > 1 && !narrow && <span class="wl-zeros">{percent(zeros)} 0</span>}
    </>
  );
}

const short = (cells: number): string => (cells < 1000 ? String(cells) : "999+");

/** The same in words, for the row's name and its tooltip. */
function glanceWords(of: Glance): string[] {
  if (of.reason) return [of.reason];
  const about = of.sampled < of.count ? "about " : "";
  const words = [`${about}mean ${number(of.mean)}, std ${number(of.std)}`, `${number(of.min)} to ${number(of.max)}`];
  if (of.zero > 0) words.push(`${about}${plural(of.zero, "zero")}`);
  if (of.nan > 0) words.push(`${count(of.nan)} NaN`);
  if (of.inf > 0) words.push(`${count(of.inf)} inf`);
  if (about) words.push(`from ${count(of.sampled)} of ${count(of.count)} cells`);
  return words;
}

export interface Described {
  node: Node;
  tensors: TensorColumns | undefined;
  gradient: GradientRow | undefined;
  held: boolean;
  glance: Glance | undefined;
}

/** A row of the tree in words: its accessible name and its tooltip. */
export function rowWords({ node, tensors, gradient, held, glance }: Described): string[] {
  if (node.kind === "module" || !tensors) return [node.type ? `${node.name}: ${node.type}` : node.name];
  const at = node.tensor;
  const words = [node.name, node.kind, dims(tensors.shape[at] ?? []), `${tensors.dtype[at]} on ${tensors.device[at]}`];
  const aliases = tensors.aliases[at] ?? [];
  if (gradient) words.push(statusWords(gradient.status));
  else if (node.kind === "parameter" && !tensors.requires_grad[at]) words.push("frozen");
  if (aliases.length > 0) words.push(`tied with ${aliases.join(", ")}`);
  if (!tensors.editable[at] && tensors.reason[at]) words.push(tensors.reason[at]);
  if (held) words.push("some cells are held");
  return glance ? [...words, ...glanceWords(glance)] : words;
}
