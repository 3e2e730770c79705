/** Numbers as text: exact in the read-out, short on the colour bar. */

/** Bits of the significand with its leading one, exponent of the smallest normal number, largest finite value. */
const FLOATS: Record<string, { bits: number; least: number; max: number }> = {
  float32: { bits: 24, least: -126, max: (2 - 2 ** -23) * 2 ** 127 },
  float16: { bits: 11, least: -14, max: 65504 },
  bfloat16: { bits: 8, least: -126, max: (2 - 2 ** -7) * 2 ** 127 },
  float8_e4m3fn: { bits: 4, least: -6, max: 448 },
  float8_e5m2: { bits: 3, least: -14, max: 57344 },
};
const INTEGERS = new Set(["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]);

/** The nearest number of a floating-point type, ties to even; steps below the smallest normal number do not shrink. */
export function roundTo(value: number, dtype: string): number {
  const type = FLOATS[dtype];
  if (!type || !Number.isFinite(value) || value === 0) return value;
  const exponent = Math.max(Math.floor(Math.log2(Math.abs(value))), type.least);
  // log2 may be off by one next to a power of two: one step finer or coarser rounds the same there, but for the check below.
  const fix =
    Math.abs(value) >= 2 ** (exponent + 1) ? exponent + 1 : Math.abs(value) < 2 ** exponent ? exponent - 1 : exponent;
  const step = 2 ** (Math.max(fix, type.least) - type.bits + 1);
  const scaled = Math.abs(value) / step;
  let whole = Math.floor(scaled);
  const rest = scaled - whole;
  if (rest > 0.5 || (rest === 0.5 && whole % 2 !== 0)) whole++;
  const size = whole * step;
  return Math.sign(value) * (size > type.max ? Number.POSITIVE_INFINITY : size);
}

/** Decimal digits and exponent of the first digit, as Python writes them: 0.0001, 1e-05, 1e+16. */
function write(negative: boolean, digits: string, exponent: number): string {
  const sign = negative ? "-" : "";
  const bare = digits.replace(/0+$/, "") || "0";
  if (exponent < -4 || exponent >= 16) {
    const mantissa = bare.length > 1 ? `${bare[0]}.${bare.slice(1)}` : bare;
    const size = String(Math.abs(exponent)).padStart(2, "0");
    return `${sign}${mantissa}e${exponent < 0 ? "-" : "+"}${size}`;
  }
  if (exponent < 0) return `${sign}0.${"0".repeat(-exponent - 1)}${bare}`;
  const padded = bare.padEnd(exponent + 1, "0");
  return `${sign}${padded.slice(0, exponent + 1)}.${padded.slice(exponent + 1) || "0"}`;
}

/**
 * The shortest text that reads back as the same number of `dtype`, in Python's spelling; null when this dtype is not one
 * that a float32 holds exactly, so that the kernel has to be asked. Among texts of one length the closest.
 *
 * `toPrecision` gives the nearest decimal with p digits. Below a power of two numbers lie twice as close as above, so that
 * the nearest may miss where its neighbour above reads back: both neighbours are tried too.
 */
export function shortest(value: number, dtype: string): string | null {
  if (dtype === "bool") return value === 0 ? "False" : "True";
  if (INTEGERS.has(dtype)) return String(value === 0 ? 0 : value);
  if (!FLOATS[dtype]) return null;
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  if (value === 0) return Object.is(value, -0) ? "-0.0" : "0.0";
  const size = Math.abs(value);
  for (let p = 1; p <= 17; p++) {
    const [digits = "", power = "0"] = size.toExponential(p - 1).split("e");
    const nearest = Number(digits.replace(".", ""));
    for (const candidate of [nearest, nearest + 1, nearest - 1]) {
      if (candidate <= 0) continue;
      const exponent = Number(power);
      if (roundTo(Number(`${candidate}e${exponent - p + 1}`), dtype) === size) {
        const text = String(candidate);
        return write(value < 0, text, exponent + text.length - p);
      }
    }
  }
  return write(value < 0, size.toExponential(16).replace(/\.|e.*/g, ""), Math.floor(Math.log10(size)));
}

/** For axes and remarks: three significant digits, a true minus. */
export function short(value: number, digits = 3): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "−inf";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text =
    size >= 1e5 || size < 1e-3
      ? size
          .toExponential(digits - 1)
          .replace(/\.?0+e/, "e")
          .replace("e+", "e")
      : String(Number(size.toPrecision(digits)));
  return value < 0 ? `−${text}` : text;
}

/** Round numbers (1, 2 or 5 times a power of ten) from -limit to limit, about `count` of them, 0 among them. */
export function ticks(limit: number, count: number): number[] {
  const raw = (2 * limit) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5, 10].find((each) => each * power >= raw * (1 - 1e-9)) ?? 10);
  const most = Math.floor(limit / step + 1e-9);
  const out: number[] = [];
  for (let i = most; i >= -most; i--) out.push(i === 0 ? 0 : Number((i * step).toPrecision(12)));
  return out;
}

/** 1234567 as 1,234,567. */
export const grouped = (n: number): string => String(n).replace(/\B(?=(\d{3})+$)/g, ",");

export const indexText = (index: number[]): string => `[${index.join(", ")}]`;
