/** What a row of the tree shows of its tensor: a small histogram, and how many cells are not healthy. */
import type { ComponentChildren } from "preact";
import type { Glance } from "../state/glances";
import { count, number, plural } from "./format";
import { percent } from "./statistics";

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
export function glanceWords(of: Glance): string[] {
  if (of.reason) return [of.reason];
  const about = of.sampled < of.count ? "about " : "";
  const words = [`${about}mean ${number(of.mean)}, std ${number(of.std)}`, `${number(of.min)} to ${number(of.max)}`];
  if (of.zero > 0) words.push(`${about}${plural(of.zero, "zero")}`);
  if (of.nan > 0) words.push(`${count(of.nan)} NaN`);
  if (of.inf > 0) words.push(`${count(of.inf)} inf`);
  if (about) words.push(`from ${count(of.sampled)} of ${count(of.count)} cells`);
  return words;
}
