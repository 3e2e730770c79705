/** A stand-in for anywidget's model: what was sent can be read, and answered by hand. */
import type { Channel } from "../src/kernel/client";

export interface Sent {
  content: Record<string, unknown>;
  buffers: ArrayBufferView[];
}

type Listener = (content: unknown, buffers: DataView[]) => void;

export class FakeModel implements Channel {
  sent: Sent[] = [];
  dead = false;
  traits: Record<string, unknown> = {};
  private listeners = new Map<string, Listener[]>();

  send(content: unknown, _callbacks?: unknown, buffers: ArrayBufferView[] = []): void {
    if (this.dead) throw new Error("Cannot send: the comm is closed");
    // As the wire would: what is not JSON does not arrive.
    this.sent.push({ content: JSON.parse(JSON.stringify(content)), buffers });
  }
  on(event: string, callback: (...args: never[]) => void): void {
    this.listeners.set(event, [...(this.listeners.get(event) ?? []), callback as Listener]);
  }
  off(event: string, callback: (...args: never[]) => void): void {
    this.listeners.set(
      event,
      (this.listeners.get(event) ?? []).filter((other) => other !== callback),
    );
  }
  get(key: string): unknown {
    return this.traits[key];
  }
  set(key: string, value: unknown): void {
    this.traits[key] = value;
  }
  save_changes(): void {}

  listening(): number {
    return [...this.listeners.values()].flat().length;
  }
  emit(content: unknown, buffers: DataView[] = []): void {
    for (const each of this.listeners.get("msg:custom") ?? []) each(content, buffers);
  }
  /** The last request of this operation. */
  last(op: string): Sent {
    const found = this.sent.findLast((sent) => sent.content["op"] === op);
    if (!found) throw new Error(`no ${op} was sent`);
    return found;
  }
  answer(op: string, body: object, revision = 0, buffers: DataView[] = []): void {
    this.emit({ v: 1, id: this.last(op).content["id"], ok: true, revision, ...body }, buffers);
  }
  refuse(op: string, kind: string, message: string, revision = 0): void {
    this.emit({ v: 1, id: this.last(op).content["id"], ok: false, revision, error: { kind, message } });
  }
}
