/** What can stand beside the picture. */
import type { Page } from "../state/view";

export function Details(_: Page) {
  return null;
}
