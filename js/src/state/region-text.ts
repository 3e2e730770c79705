/** The text of a selection made by mouse, as the kernel prints it: `[3, :, 1:2]`, `[...]` for the whole tensor. */

type Axis = [number, number, number];

export function regionText(axes: readonly Axis[], shape: readonly number[]): string {
  const parts = axes.map(([start, stop, step], axis) => {
    const size = shape[axis] ?? 0;
    if (start === 0 && stop === size && step === 1) return ":";
    // One index along an axis reads best as Python's integer.
    if (stop - start === 1) return String(start);
    return step === 1 ? `${start}:${stop}` : `${start}:${stop}:${step}`;
  });
  while (parts.at(-1) === ":") parts.pop();
  return parts.length > 0 ? `[${parts.join(", ")}]` : "[...]";
}

export function cellCount(axes: readonly Axis[]): number {
  return axes.reduce((cells, [start, stop, step]) => cells * Math.max(0, Math.ceil((stop - start) / step)), 1);
}
