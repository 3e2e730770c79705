/** Pure parts of the findings and of the charts of depth; and the diagnosis over a fake kernel. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import messages from "../../tests/messages.json";
import type { Diagnosis, Finding, Repaired } from "../src/kernel/checkup";
import { createClient } from "../src/kernel/client";
import type { Entry, GradientRow, LabState, Status } from "../src/kernel/protocol";
import { ratios } from "../src/panels/depth-chart";
import { toldCause } from "../src/panels/finding-card";
import { headline, inForce, outcomeWords, severityTally, victims } from "../src/panels/finding-words";
import { aboveZero, barsPath, chartMove, linePath, logScale, marksOf, placeAt, placeX } from "../src/panels/flow-scale";
import { worstByModule } from "../src/panels/gradient-rows";
import { originsAt } from "../src/panels/signal-chart";
import { type Actions, createActions } from "../src/state/actions";
import { createDoctor, type Doctor, signalRows } from "../src/state/checkup";
import { createStore, type Store } from "../src/state/store";
import { FakeModel } from "./fake-model";

test("a logarithmic axis holds every positive value, and rises upwards", () => {
  for (const values of [[1], [1e-8, 3], [0.5, 0.6], [1e-300, 1], [1e30, 1e-30]]) {
    const scale = logScale(values, 100);
    for (const value of values) {
      const y = scale.y(value) as number;
      expect(y).toBeGreaterThanOrEqual(0);
      expect(y).toBeLessThanOrEqual(100);
    }
    expect(scale.y(scale.high)).toBeCloseTo(0);
    expect(scale.y(scale.low)).toBeCloseTo(100);
    expect(scale.ticks.length).toBeGreaterThanOrEqual(1);
    for (const tick of scale.ticks)
      expect(scale.y(tick)).toBeCloseTo(Math.min(100, Math.max(0, scale.y(tick) as number)));
  }
});

test("what is not positive lies on the floor, what is missing nowhere, and an axis of nothing draws nothing", () => {
  const scale = logScale([1, 100, null, Number.NaN, Number.POSITIVE_INFINITY], 80);
  expect(scale.y(0)).toBe(80);
  expect(scale.y(-1)).toBe(80);
  expect(scale.y(null)).toBeNull();
  expect(scale.y(Number.NaN)).toBeNull();
  expect(scale.y(Number.POSITIVE_INFINITY)).toBe(0);
  expect(logScale([0, null], 80).y(1)).toBeNull();
});

test("the place under the pointer is the one that is drawn there", () => {
  for (const count of [1, 7, 240]) {
    for (let at = 0; at < count; at += 1) expect(placeAt(placeX(at, count, 233), count, 233)).toBe(at);
    expect(placeAt(-5, count, 233)).toBe(0);
    expect(placeAt(999, count, 233)).toBe(count - 1);
  }
});

test("a line breaks where a value is missing, and bars leave it out", () => {
  expect(linePath([1, null, 3, 4], 40)).toBe("M5.0 1.0M25.0 3.0L35.0 4.0");
  expect(linePath([null, null], 40)).toBe("");
  expect(barsPath([1, null], [5, null], 40, 0.5)).toBe("M5.0 1.0h10.0V5.0h-10.0z");
  expect(barsPath([1], [1], 40, 1)).toContain("V2.0");
  expect([1, 0, -1, null].map(aboveZero)).toEqual([1, null, null, null]);
});

test("arrows, pages and ends move the cursor of a chart and stay in it", () => {
  expect(chartMove("ArrowRight", -1, 5)).toBe(0);
  expect(chartMove("ArrowRight", 4, 5)).toBe(4);
  expect(chartMove("ArrowLeft", 0, 5)).toBe(0);
  expect(chartMove("PageDown", 3, 100)).toBe(13);
  expect(chartMove("End", 3, 100)).toBe(99);
  expect(chartMove("a", 3, 100)).toBeNull();
});

test("of marks that follow one another alike the first has the words, and none lies on another", () => {
  const notes = ["", "lost", "lost", "", "lost"];
  expect(marksOf(notes, 500, 120)).toEqual([
    { at: 1, text: "lost" },
    { at: 2, text: "" },
    { at: 4, text: "lost" },
  ]);
  expect(marksOf(notes, 100, 120).map(({ text }) => text)).toEqual(["lost", "", ""]);
});

const gradient = (name: string, status: Status, more: Partial<GradientRow> = {}): GradientRow => ({
  name,
  status,
  norm: 0.5,
  weight: 2,
  step: null,
  ratio: null,
  was: null,
  zero_units: 0,
  units: 4,
  ...more,
});

test("a folded module tells the worst that it hides, at every level", () => {
  const worst = worstByModule([
    gradient("a.b.weight", "partial"),
    gradient("a.b.bias", "zero"),
    gradient("a.c.weight", "flowing"),
    gradient("d.weight", "frozen"),
    gradient("weight", "zero"),
  ]);
  expect([...worst]).toEqual([
    ["a.b", "zero"],
    ["a", "zero"],
  ]);
});

test("the share that a step moves is the optimizer's where it is known, else the gradient's", () => {
  expect(ratios([gradient("a", "flowing"), gradient("b", "zero", { weight: 0 })])).toMatchObject({
    label: "gradient / weight",
    values: [0.25, null],
  });
  expect(ratios([gradient("a", "flowing", { step: 0.002 }), gradient("b", "unreached", { norm: null })])).toMatchObject(
    {
      label: "update / weight",
      values: [0.001, null],
    },
  );
});

const finding = (more: Partial<Finding> = {}): Finding => ({
  kind: "zero_weight",
  severity: "warning",
  name: "conv.weight",
  at: "conv.weight",
  title: "conv.weight[3] is zero",
  text: "conv.weight[3] is exactly zero.",
  evidence: [],
  affects: ["conv.weight", "bn.weight"],
  affected: 2,
  repair: "Draw it.",
  advice: "",
  show: "conv.weight",
  region: "[3]",
  ...more,
});

test("findings are counted by severity, in words; the origin is no victim of itself", () => {
  expect(severityTally([finding({ severity: "error" }), finding(), finding(), finding({ severity: "info" })])).toBe(
    "1 error · 2 warnings · 1 note",
  );
  expect(severityTally([])).toBe("");
  expect(headline(finding())).toBe("conv.weight[3] is zero");
  expect(headline(finding({ title: "", kind: "rank_collapse" }))).toBe("rank collapse of conv.weight");
  expect(victims(finding())).toEqual(["bn.weight"]);
  expect(victims(finding({ name: "extra.weight", at: "extra", affects: ["extra.weight", "extra.bias"] }))).toEqual([
    "extra.weight",
    "extra.bias",
  ]);
});

test("a cause of the check takes the repair that the diagnosis knows for it", () => {
  const cause = {
    kind: "zero_weight",
    at: "conv.weight",
    affects: ["bn.weight"],
    severity: "warning" as const,
    title: "",
    text: finding().text,
    evidence: [],
    name: "conv.weight",
    region: "[3]",
    advice: "Initialise it.",
    mends: true,
    new: false,
  };
  expect(toldCause(cause, [finding()])).toMatchObject({ repair: "Draw it.", mends: true, show: "conv.weight" });
  expect(toldCause(cause, [finding({ repair: null })])).toMatchObject({ repair: null, mends: false });
  expect(toldCause(cause, [])).toMatchObject({ repair: null, mends: true, advice: "Initialise it." });
});

const repaired = (left: boolean[]): Repaired => ({
  entry: 7,
  helped: !left.includes(true),
  findings: left.map((each, at) => ({ kind: "k", name: `n${at}`, title: "", repair: "", left: each })),
  others: [],
});

test("an outcome says whether it helped, while its entry is in force", () => {
  expect(outcomeWords(repaired([false]))).toBe("It helped: not found any more.");
  expect(outcomeWords(repaired([true]))).toBe("It did not help: still found.");
  expect(outcomeWords(repaired([false, false]))).toBe("It helped: 2 findings repaired.");
  expect(outcomeWords(repaired([true, false, false]))).toBe("2 of 3 repaired, 1 still found.");
  const entries = [{ id: 3 }, { id: 7 }] as Entry[];
  expect(inForce(repaired([false]), { entries, position: 2 })?.id).toBe(7);
  expect(inForce(repaired([false]), { entries, position: 1 })).toBeNull();
  expect(inForce(null, { entries, position: 2 })).toBeNull();
});

const replies = messages.replies as unknown as { op: string; message: Record<string, unknown> }[];
const reply = (op: string): Record<string, unknown> => {
  const { id: _, revision: __, ...body } = replies.find((each) => each.op === op)?.message ?? {};
  return body;
};

function buffer(rows: number): DataView {
  const view = new DataView(new ArrayBuffer(rows * 128));
  for (let at = 0; at < rows * 16; at += 1) view.setFloat64(at * 8, at < 16 ? at + 1 : Number.NaN, true);
  return view;
}

test("numbers of the signal are read as they were packed; none stays none", () => {
  const { diagnosis } = reply("diagnose") as unknown as { diagnosis: Diagnosis };
  const [first, second] = signalRows(diagnosis, buffer(2));
  expect(first).toMatchObject({
    name: "conv",
    weight: "conv.weight",
    activation: [1, 2, 3, 4, 5],
    gradient: [6, 7, 8, 9, 10],
    variance: 11,
    gradient_variance: 12,
    expected: 13,
    expected_gradient: 14,
    passed_gradient: 15,
  });
  expect(second).toMatchObject({ gradient: null, expected: null, note: "signal lost here" });
  expect(originsAt(signalRows(diagnosis, buffer(2)), diagnosis)).toEqual(["warning", null]);
});

let model: FakeModel;
let store: Store;
let actions: Actions;
let doctor: Doctor;
const settle = () => vi.advanceTimersByTimeAsync(0);
const sent = (op: string): number => model.sent.filter(({ content }) => content["op"] === op).length;
const state = (more: Partial<LabState>): LabState => ({ ...(reply("diagnose")["state"] as LabState), ...more });

beforeEach(async () => {
  vi.useFakeTimers();
  model = new FakeModel();
  store = createStore();
  actions = createActions(store, createClient(model));
  actions.connect();
  model.answer("hello", reply("hello"));
  await settle();
  doctor = createDoctor(store, actions);
});
afterEach(() => {
  vi.useRealTimers();
});

test("a diagnosis is asked for once, and its findings and signal are kept", async () => {
  void doctor.diagnose();
  void doctor.diagnose();
  expect(sent("diagnose")).toBe(1);
  expect(doctor.doing.value).toBe("diagnosing");
  model.answer("diagnose", reply("diagnose"), 1, [buffer(2)]);
  await settle();
  expect(doctor.doing.value).toBe("");
  expect(doctor.diagnosis.value?.findings[0]?.kind).toBe("zero_weight");
  expect(doctor.rows.value).toHaveLength(2);
  expect(sent("findings")).toBe(0);
});

test("what somebody else diagnosed is fetched when a push tells of it", async () => {
  const told = state({ diagnosed: { number: 1, revision: 1 } });
  model.emit({ v: 1, push: "changed", revision: 1, changed: [], state: told });
  expect(sent("findings")).toBe(1);
  model.answer("findings", { ...reply("diagnose") }, 1, [buffer(2)]);
  await settle();
  expect(doctor.diagnosis.value?.number).toBe(1);
  model.emit({ v: 1, push: "changed", revision: 1, changed: [], state: { ...told } });
  expect(sent("findings")).toBe(1);
});

test("one that waits for a step of training is asked about again with every push, and can be given up", async () => {
  void doctor.diagnose();
  model.answer(
    "diagnose",
    { ...reply("findings"), waits: true, state: state({ diagnosed: { number: 0, revision: -1 } }) },
    1,
  );
  await settle();
  expect(doctor.waits.value).toBe(true);
  model.emit({
    v: 1,
    push: "changed",
    revision: 1,
    changed: [],
    state: state({ diagnosed: { number: 0, revision: -1 } }),
  });
  expect(sent("findings")).toBeGreaterThanOrEqual(1);
  void doctor.stop();
  expect(model.last("diagnose").content["stop"]).toBe(true);
});

test("a repair sends the words of the finding, and tells pictures what changed", async () => {
  const changes: unknown[] = [];
  actions.onChanged((changed) => changes.push(changed));
  void doctor.repair(finding());
  expect(model.last("repair").content["finding"]).toEqual({
    kind: "zero_weight",
    name: "conv.weight",
    at: "conv.weight",
    text: "conv.weight[3] is exactly zero.",
  });
  const [first] = messages.sequences as unknown as { why: string; reply: Record<string, unknown> }[];
  const { id: _, revision: __, ...done } = first?.reply ?? {};
  model.answer("repair", done, 1, [buffer(2)]);
  await settle();
  expect(doctor.repaired.value?.helped).toBe(true);
  expect(doctor.diagnosis.value?.findings).toEqual([]);
  expect(changes).toEqual([(done["entry"] as Entry).changed]);
});

test("a repair that is refused is an alert, and nothing else changes", async () => {
  void doctor.repairAll();
  model.refuse("repair_all", "EditRefused", "conv.weight: zero_weight has no repair of its own.");
  await settle();
  expect(store.alert.value?.message).toContain("no repair of its own");
  expect(doctor.doing.value).toBe("");
  expect(doctor.diagnosis.value).toBeNull();
});

test.each([
  [0.1, 2],
  [3, 1],
])("after an edit a diagnosis of %f s is made again behind the check: asked %i times", async (seconds, asked) => {
  void doctor.diagnose();
  const body = reply("diagnose") as { diagnosis: Diagnosis };
  model.answer("diagnose", { ...body, diagnosis: { ...body.diagnosis, seconds } }, 1, [buffer(2)]);
  await settle();
  const of = (revision: number): LabState => {
    const gradients = { ...state({}).gradients, revision } as LabState["gradients"];
    return state({ auto_check: true, gradients, diagnosed: { number: 1, revision: 1 } });
  };
  store.revision.value = 2;
  const unwatch = doctor.watch();
  store.lab.value = of(1);
  unwatch();
  store.lab.value = of(2);
  expect(sent("diagnose")).toBe(1);
  // Whoever begins to look finds it as new as the check.
  doctor.watch();
  expect(sent("diagnose")).toBe(asked);
});

test("three sentences about a kind are asked for once", async () => {
  const first = doctor.explain("dead_relu");
  const second = doctor.explain("dead_relu");
  model.answer("explain", reply("explain"));
  expect(await first).toContain("ReLU");
  expect(await second).toBe(await first);
  expect(sent("explain")).toBe(1);
});

test("a wish to cancel what has not begun is told again until it is heard", async () => {
  void doctor.diagnose();
  void doctor.cancel();
  expect(doctor.ending.value).toBe(true);
  model.answer("cancel", { cancelled: false }, 1);
  await vi.advanceTimersByTimeAsync(1000);
  expect(sent("cancel")).toBe(2);
  expect(model.last("cancel").content["request"]).toBe(model.last("diagnose").content["id"]);
  model.answer("cancel", { cancelled: true }, 1);
  await vi.advanceTimersByTimeAsync(1000);
  expect(sent("cancel")).toBe(2);
  model.refuse("diagnose", "Cancelled", "Cancelled while diagnosing.");
  await settle();
  expect(doctor.ending.value).toBe(false);
});
