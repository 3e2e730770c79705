/** Why an edit changed nothing: its cells held these values already, or it was about none. */
import type { Client } from "../kernel/client";
import type { EditCall, HoldCall, Target, Where } from "../kernel/protocol";

const NONE: Record<Where["kind"], (value: string) => string> = {
  below: (value) => `none of them has |w| < ${value}`,
  above: (value) => `none of them has |w| > ${value}`,
  smallest: () => "the target asks for 0 of them",
  largest: () => "the target asks for 0 of them",
  nan: () => "none of them is NaN",
  zero: () => "none of them is 0",
  between: (value) => `none of them lies between ${value}`,
  size_between: (value) => `|w| of none of them lies between ${value}`,
};

export async function whyUnchanged(
  client: Client,
  target: Target,
  call: EditCall | HoldCall,
  buffers: ArrayBufferView[],
  dtype: string,
): Promise<string> {
  const same = async (): Promise<string> => {
    const held = "No cell changed: they already held these values.";
    // Zeros are stored as they are in every type.
    if (!("edit" in call) || call.edit === "zero_") return held;
    const told = await client.request("preview", { ...target, ...call }, { buffers }).catch(() => null);
    const { rounded = 0, requested, stored } = told?.reply.preview ?? {};
    return rounded > 0 ? `Asked ${requested}, which ${dtype} stores as ${stored}: no cell changed.` : held;
  };
  if ("cells" in target) return same();
  const { name, region: text, where } = target;
  try {
    const { reply } = await client.request("region", { name, text, ...(where ? { where } : {}) });
    if (reply.region.numel > 0) return same();
  } catch {
    return same();
  }
  const value = Array.isArray(where?.value) ? where.value.join(" and ") : String(where?.value ?? "");
  return `No cell is meant: ${where ? NONE[where.kind](value) : "the region has none"}.`;
}
