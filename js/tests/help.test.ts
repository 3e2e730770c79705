import { expect, test } from "vitest";
import { commandOf } from "../src/heatmap/keyboard";
import { KEYS } from "../src/panels/help";

test("every key of the picture is on the card", () => {
  const told = new Set(KEYS.flatMap(([keys]) => keys.flat()));
  const names = {
    ArrowUp: "↑",
    ArrowDown: "↓",
    ArrowLeft: "←",
    ArrowRight: "→",
    "-": "−",
    " ": "Space",
    Escape: "Esc",
  };
  const plain = { shiftKey: false, ctrlKey: false, metaKey: false, altKey: false };
  const letters = [..."abcdefghijklmnopqrstuvwxyz0123456789+-", " "];
  const known = [...letters, "Enter", "Escape", "Home", "End", "PageUp", "PageDown", ...Object.keys(names)];
  for (const key of known) {
    if (!commandOf({ key, ...plain })) continue;
    expect(told).toContain((names as Record<string, string>)[key] ?? (key.length === 1 ? key.toUpperCase() : key));
  }
});
