// The switch between the devices of a noisy network, in a process of its own: what the clients and the checkers compute must not delay a packet. Started by
// noisy-network.ts. Each datagram is an Ethernet frame; from which device it comes, its port tells.

import { createSocket } from "node:dgram";

export interface Noise {
  /** Of each direction between two devices: its latency is drawn anew from [0, jitterMs] every so often. Packets keep their order. */
  readonly jitterMs: number;
  readonly redrawMs: readonly [number, number];
  /** Share of the packets that are lost, in [0, 1]. */
  readonly loss: number;
}

export type RelayOrder =
  | { readonly kind: "unplug" | "plug"; readonly device: number }
  | { readonly kind: "cut" | "join"; readonly from: number; readonly to: number };

interface Direction {
  latencyMs: number;
  redrawAt: number;
  /** When the packet before is delivered. */
  lastAt: number;
}

/** Frames that wait are looked at so often. */
const TICK_MS = 1;
const BUFFER_BYTES = 4_000_000;

class Relay {
  readonly #noise: Noise;
  readonly #firstPort: number;
  readonly #socket = createSocket("udp4");
  readonly #deviceOf = new Map<string, number>();
  readonly #devices = new Set<number>();
  readonly #unplugged = new Set<number>();
  readonly #cuts = new Set<string>();
  readonly #directions = new Map<string, Direction>();
  #waiting: { readonly at: number; readonly to: number; readonly frame: Buffer }[] = [];

  constructor(port: number, noise: Noise) {
    this.#noise = noise;
    this.#firstPort = port + 1;
    this.#socket.on("message", (frame, { port: from }) => this.#receive(frame, from - this.#firstPort));
    // A device that is not there any more: its host has ended.
    this.#socket.on("error", () => undefined);
    this.#socket.bind(port, "127.0.0.1", () => {
      this.#socket.setRecvBufferSize(BUFFER_BYTES);
      this.#socket.setSendBufferSize(BUFFER_BYTES);
      process.send?.("ready");
    });
    setInterval(() => this.#deliver(), TICK_MS);
    process.on("message", (order: RelayOrder) => this.#obey(order));
    process.on("disconnect", () => process.exit());
  }

  #obey(order: RelayOrder): void {
    switch (order.kind) {
      case "unplug":
        this.#unplugged.add(order.device);
        return;
      case "plug":
        this.#unplugged.delete(order.device);
        return;
      case "cut":
        this.#cuts.add(`${order.from}>${order.to}`);
        return;
      case "join":
        this.#cuts.delete(`${order.from}>${order.to}`);
    }
  }

  #receive(frame: Buffer, from: number): void {
    this.#devices.add(from);
    const target = frame.toString("latin1", 0, 6);
    this.#deviceOf.set(frame.toString("latin1", 6, 12), from);
    const known = this.#deviceOf.get(target);
    // To all others where nobody is known by that address, as a broadcast.
    const to = known === undefined ? [...this.#devices].filter((device) => device !== from) : [known];
    for (const device of to) this.#forward(frame, from, device);
  }

  #forward(frame: Buffer, from: number, to: number): void {
    const name = `${from}>${to}`;
    if (this.#unplugged.has(from) || this.#unplugged.has(to) || this.#cuts.has(name)) return;
    if (Math.random() < this.#noise.loss) return;
    const now = performance.now();
    const direction = this.#directions.get(name) ?? { latencyMs: 0, redrawAt: 0, lastAt: 0 };
    this.#directions.set(name, direction);
    if (now >= direction.redrawAt) {
      const [min, max] = this.#noise.redrawMs;
      direction.latencyMs = Math.random() * this.#noise.jitterMs;
      direction.redrawAt = now + min + Math.random() * (max - min);
    }
    direction.lastAt = Math.max(direction.lastAt, now + direction.latencyMs);
    this.#waiting.push({ at: direction.lastAt, to, frame });
  }

  #deliver(): void {
    const now = performance.now();
    const due = this.#waiting.filter(({ at }) => at <= now);
    if (due.length === 0) return;
    this.#waiting = this.#waiting.filter(({ at }) => at > now);
    for (const { to, frame } of due) this.#socket.send(frame, this.#firstPort + to, "127.0.0.1");
  }
}

const [, , port, noise] = process.argv;
void new Relay(Number(port), JSON.parse(noise ?? "") as Noise);
