/** Why an edit changed nothing: its cells held these values already, or it was about none. */
import type { Client } from "../kernel/client";
import type { Target, Where } from "../kernel/protocol";

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

export async function whyUnchanged(client: Client, target: Target): Promise<string> {
  const same = "No cell changed: they already held these values.";
  if ("cells" in target) return same;
  const { name, region: text, where } = target;
  try {
    const { reply } = await client.request("region", { name, text, ...(where ? { where } : {}) });
    if (reply.region.numel > 0) return same;
  } catch {
    return same;
  }
  const value = Array.isArray(where?.value) ? where.value.join(" and ") : String(where?.value ?? "");
  return `No cell is meant: ${where ? NONE[where.kind](value) : "the region has none"}.`;
}
