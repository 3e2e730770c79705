/** Numbers and sizes as people read them. Exact values come from the kernel; these are for overviews. */

const MINUS = "−";

/** About four significant digits: `0.183`, `−0.0011`, `3.1e-5`. */
export function number(value: number | null, digits = 4): string {
  if (value === null) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (!Number.isFinite(size)) return Number.isNaN(size) ? "NaN" : value > 0 ? "inf" : `${MINUS}inf`;
  const text = size >= 1e-3 && size < 1e5 ? String(Number(size.toPrecision(digits))) : scientific(size, digits - 1);
  return (value < 0 ? MINUS : "") + text;
}

/** Two digits and an exponent, the same width for every norm: `3.1e-2`. */
export function scientific(value: number, digits = 2): string {
  return value.toExponential(digits - 1).replace("e+", "e");
}

/** A positive number in at most six characters: `0.183`, `12.4`, `3.1e-5`. */
export function short(value: number): string {
  return value >= 0.01 && value < 1000 ? value.toPrecision(3) : scientific(value);
}

/** The end of a long dotted name, cut at a dot: `…0._bn1.weight`. */
export function nameTail(name: string, most = 20): string {
  if (name.length <= most) return name;
  const parts = name.split(".");
  let tail = parts.pop() ?? "";
  for (let part = parts.pop(); part !== undefined && part.length + tail.length + 2 <= most; part = parts.pop()) {
    tail = `${part}.${tail}`;
  }
  // Not even the last two parts fit: the end of both still tells one layer from another.
  return tail.includes(".") ? `…${tail}` : `…${name.slice(1 - most)}`;
}

/** `4,652,008`, the same in every locale: numbers on the page match those in the notebook. */
export function count(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ",");
}

export function plural(value: number, word: string, words = `${word}s`): string {
  return `${count(value)} ${value === 1 ? word : words}`;
}

export function bytes(value: number): string {
  if (value < 1000) return `${value} B`;
  const units = ["KB", "MB", "GB", "TB"];
  let size = value / 1024;
  let unit = 0;
  while (size >= 999.5 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${size < 10 ? Number(size.toFixed(1)) : Math.round(size)} ${units[unit]}`;
}

/** `32×3×3×3`; a tensor without axes is a scalar. */
export function dims(shape: readonly number[]): string {
  return shape.length > 0 ? shape.join("×") : "scalar";
}

/** `[32 out, 3 in, 3, 3]`: sizes with the layout's axis labels, where an axis has one. */
export function labelledShape(shape: readonly number[], labels: readonly string[]): string {
  return `[${shape.map((size, axis) => (labels[axis] ? `${size} ${labels[axis]}` : String(size))).join(", ")}]`;
}

export function numel(shape: readonly number[]): number {
  return shape.reduce((cells, size) => cells * size, 1);
}
