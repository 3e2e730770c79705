/** What the panel says of the change between two checks. Pure. */
import { expect, test } from "vitest";
import type { Cause, GradientRow, Gradients, Status } from "../src/kernel/protocol";
import { changeWords, movedStatuses, ratioText, rowText, troubles } from "../src/panels/gradient-rows";
import { drawStrip, isZero } from "../src/panels/map-draw";
import { layMap } from "../src/panels/map-layout";

const row = (was: Status | null, status: Status): GradientRow => ({
  name: "w",
  status,
  norm: 1,
  weight: 1,
  step: null,
  ratio: null,
  was,
  zero_units: 0,
  units: 1,
});
const cause = (kind: string, severity: Cause["severity"], made: boolean): Cause => ({
  kind,
  severity,
  at: "w",
  affects: [],
  title: "",
  text: "",
  evidence: [],
  name: null,
  region: null,
  advice: "",
  mends: false,
  new: made,
});
const report = (fields: Partial<Gradients>): Gradients => ({
  loss: 1,
  loss_text: "1",
  loss_before: null,
  synthetic: null,
  rows: [],
  causes: [],
  revision: 1,
  error: null,
  output: null,
  ...fields,
});

test("statuses that moved are counted together, the worst ends first", () => {
  const rows = [row("zero", "flowing"), row("flowing", "zero"), row(null, "weak"), row("flowing", "zero")];
  expect(movedStatuses(rows)).toEqual([
    { was: "flowing", status: "zero", many: 2 },
    { was: "zero", status: "flowing", many: 1 },
  ]);
});

test("new causes come first; an old note is no trouble, a new one is told", () => {
  const causes = [
    cause("dead_relu", "error", false),
    cause("saturated", "warning", true),
    cause("invariant", "info", false),
    cause("unused_rows", "info", true),
  ];
  expect(troubles(report({ causes })).map((each) => each.kind)).toEqual(["saturated", "unused_rows", "dead_relu"]);
});

test("words of a change say loss, cosine and KL, and nothing where nothing moved", () => {
  expect(changeWords(report({}))).toBe("");
  expect(changeWords(report({ loss_before: 1, output: { cosine: 1, relative_l2: 0, kl: 0 } }))).toBe("");
  const output = { cosine: 0.98765, relative_l2: 0.5, kl: 0.0021 };
  expect(changeWords(report({ loss: 1.5, loss_before: 1, output }))).toBe(
    "loss +0.5 · output moved 50 % · cosine 0.9877 · KL 0.0021 nats",
  );
  const unlike = { cosine: null, relative_l2: 0.5, kl: null };
  expect(changeWords(report({ loss: 0.75, loss_before: 1, output: unlike }))).toBe("loss −0.25 · output moved 50 %");
});

test("a tile without values is drawn in lines, and one of zeros is known", () => {
  const picture = { rows: 1, columns: 2, codes: new Uint8Array([128, 128]), limit: 0, sampled: false };
  expect(isZero(picture)).toBe(true);
  expect(isZero({ ...picture, codes: new Uint8Array([128, 129]) })).toBe(false);
  expect(isZero({ ...picture, codes: new Uint8Array() })).toBe(false);
  expect(isZero(undefined)).toBe(false);
  const layout = layMap(["a"], 60, 60);
  const into = new Uint32Array(60 * 60);
  drawStrip(into, 60, 60, { layout, from: 0, to: 1, top: 0, dpr: 1 }, () => ({ lines: 7, ground: 9 }));
  const lines = into.filter((each) => each === 7).length;
  expect(lines).toBeGreaterThan(0);
  expect(into.filter((each) => each === 9).length).toBe(layout.side ** 2 - lines);
  expect(lines / layout.side ** 2).toBeCloseTo(0.2, 1);
});

test("a ratio beyond all digits is told as practically nothing", () => {
  const of = (ratio: number): GradientRow => ({ ...row(null, "weak"), ratio });
  expect(ratioText(of(1 / 2.4e42))).toBe("practically 0");
  expect(ratioText(of(2.4e42))).toBe("was practically 0");
  expect(ratioText(of(1e-5))).toBe("↓ 1.0e5×");
  expect(rowText(of(1 / 2.4e42))).toContain("Practically 0 beside that of the check before.");
  expect(rowText(of(2.4e42))).not.toContain("e42");
});
