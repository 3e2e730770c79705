/** Rows and columns of the table of cells: the last axis across, all others down. Pure. */

export type Axis = [start: number, stop: number, step: number];

export interface Table {
  rows: number;
  columns: number;
  /** Index of a cell of the tensor. */
  index(row: number, column: number): number[];
  /** Such as "3, 0, 1": the index without its last axis. */
  rowName(row: number): string;
  columnName(column: number): string;
}

const size = ([start, stop, step]: Axis): number => Math.max(0, Math.ceil((stop - start) / step));

export function tableOf(axes: readonly Axis[]): Table {
  const sizes = axes.map(size);
  const across = sizes.at(-1) ?? 1;
  const down = sizes.slice(0, -1).reduce((cells, each) => cells * each, 1);
  const leading = (row: number): number[] => {
    const index: number[] = [];
    let rest = row;
    for (let axis = axes.length - 2; axis >= 0; axis -= 1) {
      const [start, , step] = axes[axis] as Axis;
      index.unshift(start + (rest % (sizes[axis] as number)) * step);
      rest = Math.floor(rest / (sizes[axis] as number));
    }
    return index;
  };
  const last = (column: number): number[] => {
    const axis = axes.at(-1);
    return axis ? [axis[0] + column * axis[2]] : [];
  };
  return {
    rows: across === 0 ? 0 : down,
    columns: across,
    index: (row, column) => [...leading(row), ...last(column)],
    rowName: (row) => leading(row).join(", "),
    columnName: (column) => last(column).join(""),
  };
}

/** Row and column of a cell; null where the table does not have it. */
export function placeOf(axes: readonly Axis[], index: readonly number[]): [row: number, column: number] | null {
  let row = 0;
  let column = 0;
  for (const [axis, at] of index.entries()) {
    const [start, stop, step] = axes[axis] ?? [0, 0, 1];
    if (at < start || at >= stop || (at - start) % step !== 0) return null;
    const place = (at - start) / step;
    if (axis === axes.length - 1) column = place;
    else row = row * size([start, stop, step]) + place;
  }
  return [row, column];
}
