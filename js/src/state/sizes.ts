/** Sizes that the user gave to parts of the page, remembered by the browser for this host. */

const KEY = "weightlab.sizes";

/** Hosts may forbid storage, and other code may have written anything there. */
export function remembered(): Record<string, number> {
  try {
    const found: unknown = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    if (typeof found !== "object" || found === null) return {};
    const numbers = Object.entries(found).filter(([, size]) => typeof size === "number" && Number.isFinite(size));
    return Object.fromEntries(numbers) as Record<string, number>;
  } catch {
    return {};
  }
}

/** Null forgets it. */
export function remember(name: string, size: number | null): void {
  const all = remembered();
  if (size === null) delete all[name];
  else all[name] = Math.round(size);
  try {
    localStorage.setItem(KEY, JSON.stringify(all));
  } catch {
    // It holds for this page, then.
  }
}
