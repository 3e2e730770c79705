import { expect, test } from "vitest";
import { roundTo, short, shortest, ticks } from "../src/heatmap/numbers";
import { random } from "./heatmap-seed";

/** All finite values of a type with 16 bits, from its bits. */
function* halves(exponent_bits: number, step: number): Generator<number> {
  const mantissa_bits = 15 - exponent_bits;
  const bias = 2 ** (exponent_bits - 1) - 1;
  for (let bits = 1; bits < 2 ** 15; bits += step) {
    const exponent = bits >> mantissa_bits;
    const mantissa = bits & (2 ** mantissa_bits - 1);
    if (exponent === 2 ** exponent_bits - 1) return;
    const fraction = mantissa / 2 ** mantissa_bits;
    yield exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias);
  }
}

const digitsOf = (text: string) =>
  text
    .replace(/e.*/, "")
    .replace(/[-.]/g, "")
    .replace(/^0+|0+$/g, "").length || 1;

test("roundTo float32 is Math.fround", () => {
  const next = random(31);
  for (let i = 0; i < 20_000; i++) {
    const value = (next() - 0.5) * 10 ** Math.floor(next() * 90 - 48);
    expect(roundTo(value, "float32")).toBe(Math.fround(value));
  }
  for (const value of [1e-45, 7e-46, 3.4e38, 3.5e38, 1 + 2 ** -24, 1 + 3 * 2 ** -24]) {
    expect(roundTo(value, "float32")).toBe(Math.fround(value));
  }
});

test("each half and bfloat16 is its own nearest, and midpoints go to even", () => {
  for (const [dtype, bits] of [
    ["float16", 5],
    ["bfloat16", 8],
  ] as const) {
    let before = 0;
    let even = true;
    for (const value of halves(bits, 1)) {
      // Not 60,000 expectations: they take seconds.
      const middle = roundTo((before + value) / 2, dtype);
      if (roundTo(value, dtype) !== value || middle !== (even ? before : value))
        expect.unreachable(`${dtype} ${value}`);
      before = value;
      even = !even;
    }
  }
  expect(roundTo(65520, "float16")).toBe(Number.POSITIVE_INFINITY);
});

test("the shortest text reads back, and no text with fewer digits does", () => {
  const next = random(32);
  const bits = new DataView(new ArrayBuffer(4));
  const samples: [number, string][] = [];
  for (let i = 0; i < 3000; i++) {
    bits.setUint32(0, Math.floor(next() * 2 ** 32));
    const value = bits.getFloat32(0);
    if (Number.isFinite(value) && value !== 0) samples.push([value, "float32"]);
  }
  for (let e = -149; e < 128; e++) samples.push([2 ** e, "float32"]);
  for (const value of halves(5, 17)) samples.push([value, "float16"]);
  for (const value of halves(8, 17)) samples.push([-value, "bfloat16"]);
  for (const [value, dtype] of samples) {
    const text = shortest(value, dtype) as string;
    expect(roundTo(Number(text), dtype), `${text} for ${value} ${dtype}`).toBe(value);
    // Brute force: both decimals around the value with one digit less.
    const fewer = digitsOf(text) - 1;
    if (fewer === 0) continue;
    const power = Math.floor(Math.log10(Math.abs(value)) + 1e-12) - fewer + 1;
    const around = Math.floor(Math.abs(value) / 10 ** power);
    for (let m = around - 1; m <= around + 2; m++) {
      expect(roundTo(Number(`${m}e${power}`), dtype), `${m}e${power} is shorter than ${text}`).not.toBe(
        Math.abs(value),
      );
    }
  }
}, 20_000); // a hundred thousand roundings, on a machine that may have other work

test("numbers are spelled as Python spells them", () => {
  const cases: [number, string, string][] = [
    [Math.fround(-0.041207194), "float32", "-0.041207194"],
    [Math.fround(0.1), "float32", "0.1"],
    [0, "float32", "0.0"],
    [-0, "float32", "-0.0"],
    [1, "float32", "1.0"],
    [16777216, "float32", "16777216.0"],
    [100000, "float32", "100000.0"],
    [Math.fround(1e-4), "float32", "0.0001"],
    [Math.fround(1e-5), "float32", "1e-05"],
    [Math.fround(1.5e-7), "float32", "1.5e-07"],
    [Math.fround(1e16), "float32", "1e+16"],
    [Math.fround(3.4028234663852886e38), "float32", "3.4028235e+38"],
    [1e-45, "float32", "1e-45"].map((v) => (typeof v === "number" ? Math.fround(v) : v)) as [number, string, string],
    [Number.NaN, "float32", "nan"],
    [Number.POSITIVE_INFINITY, "float16", "inf"],
    [Number.NEGATIVE_INFINITY, "bfloat16", "-inf"],
    [-3, "int8", "-3"],
    [200, "uint8", "200"],
    [1, "bool", "True"],
    [0, "bool", "False"],
  ];
  for (const [value, dtype, text] of cases) expect(shortest(value, dtype)).toBe(text);
  expect(shortest(0.5, "float64")).toBeNull();
  expect(shortest(0.5, "complex64")).toBeNull();
});

test("ticks are round, symmetric, few, and hold 0", () => {
  for (const limit of [1.274, 0.031, 7, 123456, 3e-9]) {
    const all = ticks(limit, 6);
    expect(all).toContain(0);
    expect(all.length).toBeLessThanOrEqual(8);
    expect(all.length).toBeGreaterThanOrEqual(3);
    expect(all.map((value) => (value === 0 ? 0 : -value)).reverse()).toEqual(all);
    expect(Math.max(...all)).toBeLessThanOrEqual(limit);
  }
  expect(ticks(1.274, 6)).toEqual([1, 0.5, 0, -0.5, -1]);
});

test("short numbers", () => {
  expect([1.274, -0.0412, 0, 1e-7, 123456, -1234, 0.001].map((v) => short(v))).toEqual([
    "1.27",
    "−0.0412",
    "0",
    "1e-7",
    "1.23e5",
    "−1230",
    "0.001",
  ]);
});
