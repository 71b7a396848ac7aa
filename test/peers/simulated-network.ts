// A network of sitters under one simulated clock: bytes arrive in order and late, links are cut either way, processes end or stand still.

import { PeerWatch } from "../../src/peers/peer-watch.ts";
import type { PeerAddress } from "../../src/cluster/state.ts";
import type { ByteStream, StreamEnd, World } from "../../src/world/port.ts";
import type { SimulatedWorld } from "../sitter/simulated-world.ts";

interface End {
  readonly host: string;
  events: { onText(text: string): void; onEnd(how: StreamEnd): void } | undefined;
  /** What can't get through now. */
  held: (() => void)[];
  lastAt: number;
  over: boolean;
}

export interface Host {
  readonly watch: PeerWatch;
  readonly address: PeerAddress;
  changes: number;
}

export const SILENCE = { beatMs: 100, minMs: 800, maxMs: 3_000, deviations: 8 };

export class SimulatedNetwork {
  readonly world: SimulatedWorld;
  readonly hosts = new Map<string, Host>();
  /** `FROM>TO`: nothing gets through that way. */
  readonly cut = new Set<string>();
  /** Sitter and PostgreSQL have ended; the machine refuses. */
  readonly down = new Set<string>();
  /** Everything on it stands still; the machine's kernel goes on. */
  readonly frozen = new Set<string>();
  /** Every text that was written, for whoever listens on the wire. */
  readonly wire: { readonly from: string; readonly text: string; readonly stream: ByteStream }[] = [];
  delayMs: () => number = () => 1;
  readonly #ends: { a: End; b: End }[] = [];

  constructor(world: SimulatedWorld) {
    this.world = world;
  }

  add(address: PeerAddress, { secret = "secret" }: { secret?: string } = {}): Host {
    const { clock, timers, random, log, files, crypto } = this.world;
    const network = this.#networkOf(address.ip);
    const world: World = { clock, timers, random, log, files, crypto, network };
    const watch = new PeerWatch({
      world,
      self: { shard: "1.test", id: address.id, run: `run-of-${address.ip}` },
      secret: async () => secret,
      silence: SILENCE,
      intervalMs: 1_000,
      limitMs: 1_000,
      onChange: () => host.changes++,
    });
    const host: Host = { watch, address, changes: 0 };
    this.hosts.set(address.ip, host);
    watch.say(WELL);
    return host;
  }

  /** All of them follow each other. */
  join(): void {
    const all = [...this.hosts.values()];
    for (const { watch, address } of all)
      watch.follow(all.map((other) => other.address).filter(({ id }) => id !== address.id));
  }

  /** All processes of it end; its machine says so to whoever was connected. */
  kill(ip: string): void {
    this.down.add(ip);
    this.hosts.get(ip)?.watch.stop();
    for (const { a, b } of this.#ends) if (a.host === ip || b.host === ip) this.#end(a.host === ip ? b : a, "reset");
  }

  isolate(ip: string): void {
    for (const other of this.hosts.keys()) this.cut.add(`${ip}>${other}`).add(`${other}>${ip}`);
  }

  heal(): void {
    this.cut.clear();
    this.frozen.clear();
    for (const { a, b } of this.#ends) for (const end of [a, b]) for (const deliver of end.held.splice(0)) deliver();
  }

  stop(): void {
    for (const { watch } of this.hosts.values()) watch.stop();
  }

  /** A connection that somebody opens there, who need not be a sitter. */
  open(from: string, to: string): ByteStream {
    const a: End = { host: from, events: undefined, held: [], lastAt: 0, over: false };
    const b: End = { host: to, events: undefined, held: [], lastAt: 0, over: false };
    this.#ends.push({ a, b });
    this.hosts.get(to)?.watch.accept(this.#stream(b, a));
    return this.#stream(a, b);
  }

  #passes(from: string, to: string): boolean {
    return !this.cut.has(`${from}>${to}`) && !this.frozen.has(from) && !this.frozen.has(to);
  }

  #networkOf(from: string): World["network"] {
    const answer = async (to: string, limitMs: number): Promise<"open" | "refused" | "silent"> => {
      const both = this.#passes(from, to) && this.#passes(to, from);
      if (both) await this.#after(2 * this.delayMs());
      else await this.#after(limitMs);
      return !both ? "silent" : this.down.has(to) ? "refused" : "open";
    };
    return {
      probePostgres: ({ host, limitMs }) => answer(host, limitMs),
      httpGet: async ({ host, limitMs }) => {
        const kind = await answer(host, limitMs);
        const id = this.hosts.get(host)?.address.id;
        return kind === "open" ? { status: 200, body: JSON.stringify({ id, postgres: { healthy: true } }) } : kind;
      },
      openStream: async ({ host, limitMs }) => {
        const kind = await answer(host, limitMs);
        return kind === "open" ? this.open(from, host) : kind;
      },
    };
  }

  #stream(own: End, other: End): ByteStream {
    const stream: ByteStream = {
      write: (text) => {
        if (own.over) return;
        this.wire.push({ from: own.host, text, stream });
        this.#deliver(own, other, () => other.events?.onText(text));
      },
      listen: (events) => {
        own.events = events;
      },
      close: () => {
        own.over = true;
        this.#deliver(own, other, () => this.#end(other, "closed"));
      },
      abort: () => {
        own.over = true;
        this.#deliver(own, other, () => this.#end(other, "reset"));
      },
    };
    return stream;
  }

  /** In order, whatever the delay of each. */
  #deliver(own: End, other: End, then: () => void): void {
    const at = Math.max(other.lastAt, this.world.clock.now() + this.delayMs());
    other.lastAt = at;
    const deliver = (): void => {
      if (other.over) return;
      // An acknowledgement has to come back as well: what is sent into a link that is cut the other way arrives, until the window is full.
      if (this.#passes(own.host, other.host)) then();
      else other.held.push(deliver);
    };
    this.world.timers.after(at - this.world.clock.now(), deliver);
  }

  #end(end: End, how: StreamEnd): void {
    if (end.over) return;
    end.over = true;
    end.events?.onEnd(how);
  }

  #after(ms: number): Promise<void> {
    return new Promise((resolve) => void this.world.timers.after(ms, resolve));
  }
}

export const WELL = {
  postgresHealthy: true,
  role: "primary",
  generation: 1,
  wal: "1@0/3000000",
  abdicates: undefined,
  leaving: undefined,
};
