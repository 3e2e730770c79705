/** What is being done, in a word for the footer. */
import type { EditCall, HoldCall } from "../kernel/protocol";

const WORDS: Partial<Record<EditCall["edit"], string>> = {
  zero_: "zeroing",
  fill_: "filling",
  copy_: "setting values",
  clamp_: "clamping",
  mul_: "scaling",
  init_: "reinitializing",
  prune_: "pruning",
  quantize_: "quantizing",
};

export const wordsFor = (call: EditCall | HoldCall): string =>
  "edit" in call ? (WORDS[call.edit] ?? "editing") : "holding";
