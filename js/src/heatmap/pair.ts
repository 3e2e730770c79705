/** Two pictures of one tensor that are seen from the same place: pan, zoom and the cell that is pointed at go from one to the other. */
import type { Picture } from "./picture";

export class Pair {
  private readonly members: Picture[] = [];

  /** Returns the way out. */
  join(picture: Picture): () => void {
    this.members.push(picture);
    this.tell();
    return () => {
      this.members.splice(this.members.indexOf(picture), 1);
      picture.twin.value = null;
      this.tell();
    };
  }

  private tell(): void {
    const [one, other] = this.members;
    for (const each of this.members) each.twin.value = (each === one ? other : one) ?? null;
  }
}
