// A store in this process, for simulations and unit tests: the real sessions and the real tree, on handed-in time, with the faults
// that real stores have. Deterministic: what happens follows from the calls, the clock and the random numbers handed in.

import type { Ms } from "../../base/units.ts";
import type { Clock, Log, Random, Timers } from "../../world/port.ts";
import type { Coordination, NodePath, NodeValue } from "../port.ts";
import type { ClientFrame, Connect, Link, LinkListeners, StoreFrame } from "./frames.ts";
import { storeServer } from "./server.ts";
import { openSession } from "./session.ts";
import { copyTree, emptyTree, listChildren, readNode, type Tree } from "./tree.ts";

export interface MemoryStoreOptions {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  /** Of one message, one way; asked for each. Messages of one connection never overtake each other. Default 0: within the same turn of time. */
  readonly latencyMs?: () => Ms;
}

/**
 * What becomes of the next write of a client whose answer it never sees (the connection breaks, and the outcome is
 * `unknown`). `lost`: it never happens. `done`: it has happened. A number: it happens so many ms later, on whatever the
 * tree is by then, unless the session is over.
 */
export type WriteFault = "lost" | "done" | { readonly lateMs: Ms };

/** The store as all clients share it. As {@link Coordination} it is the client called `client`. */
export interface MemoryStore extends Coordination {
  /** The way into the store of one process, whose connections can be cut apart from those of others. */
  as(client: string): Coordination;
  /**
   * Breaks the client's connections, and lets no new one come up. `silent`: nothing says so; messages vanish. `inFlight`: of
   * messages on their way to the store, whether they still arrive (default: by lot).
   */
  cut(client: string, options?: { silent?: boolean; inFlight?: "arrive" | "lost" }): void;
  restore(client: string): void;
  /** The next write of that client ends so. */
  faultNextWrite(client: string, fault: WriteFault): void;
  /**
   * That client's server falls behind: what it reads and lists stays as it is now, and it hears of no change, until it
   * writes, reads `confirmed`, or {@link catchUp} is called.
   */
  lag(client: string): void;
  catchUp(client: string): void;
  /** Ends the client's sessions, as if their time were over. */
  expire(client: string): void;
  /** The whole store is away: connections break, no session ends meanwhile, each has its whole time when it returns. */
  stop(): void;
  start(): void;

  /** What stands in the store, without a session. */
  peek(path: NodePath): NodeValue | undefined;
  children(path: NodePath): readonly string[] | undefined;
  readonly sessionIds: readonly string[];
}

export function memoryStore(options: MemoryStoreOptions): MemoryStore {
  return new Memory(options);
}

interface Client {
  readonly name: string;
  cut: "no" | "broken" | "silent";
  writeFault: WriteFault | undefined;
  /** What its server has, where that is behind. */
  behind: Tree | undefined;
  readonly withheld: (() => void)[];
  readonly wires: Set<Wire>;
  readonly sessionIds: Set<string>;
}

class Memory implements MemoryStore {
  readonly description = "memory";
  readonly #options: MemoryStoreOptions;
  readonly #tree = emptyTree();
  readonly #clients = new Map<string, Client>();
  #server: ReturnType<typeof storeServer> | undefined;
  #sessions: ReturnType<typeof storeServer>["sessions"] = [];

  constructor(options: MemoryStoreOptions) {
    this.#options = options;
    this.start();
  }

  open(options: Parameters<Coordination["open"]>[0]): ReturnType<Coordination["open"]> {
    return this.as("client").open(options);
  }

  as(name: string): Coordination {
    const client = this.#client(name);
    const { clock, timers, log } = this.#options;
    return {
      description: `memory (${name})`,
      open: ({ sessionTimeoutMs, resume }) =>
        openSession({
          connect: this.#connectOf(client),
          clock,
          timers,
          log: log.child({ client: name }),
          sessionTimeoutMs,
          resume,
          evaluationOnly: false,
        }),
    };
  }

  cut(name: string, { silent = false, inFlight }: { silent?: boolean; inFlight?: "arrive" | "lost" } = {}): void {
    const client = this.#client(name);
    client.cut = silent ? "silent" : "broken";
    const arrive = (inFlight ?? (this.#options.random.number() < 0.5 ? "arrive" : "lost")) === "arrive";
    for (const wire of Array.from(client.wires)) {
      if (silent) wire.mute(arrive);
      else wire.break("the connection was reset", arrive);
    }
  }

  restore(name: string): void {
    const client = this.#client(name);
    client.cut = "no";
    // What vanished meanwhile can't be put back into a stream: such a connection is broken for good.
    for (const wire of Array.from(client.wires)) if (wire.muted) wire.break("the connection was reset", false);
  }

  faultNextWrite(name: string, fault: WriteFault): void {
    this.#client(name).writeFault = fault;
  }

  lag(name: string): void {
    this.#client(name).behind = copyTree(this.#tree);
  }

  catchUp(name: string): void {
    this.#caughtUp(this.#client(name));
  }

  expire(name: string): void {
    for (const id of this.#client(name).sessionIds) this.#server?.expire(id);
  }

  stop(): void {
    if (!this.#server) return;
    this.#sessions = this.#server.sessions;
    this.#server.stop();
    this.#server = undefined;
    for (const { wires } of this.#clients.values())
      for (const wire of Array.from(wires)) wire.break("the store stopped", false);
  }

  start(): void {
    if (this.#server) return;
    this.#server = storeServer({
      ...this.#options,
      name: "memory",
      tree: this.#tree,
      sessions: this.#sessions,
      journal: { append: () => {}, whenDurable: (callback) => callback() },
    });
  }

  peek(path: NodePath): NodeValue | undefined {
    return readNode(this.#tree, path);
  }

  children(path: NodePath): readonly string[] | undefined {
    return listChildren(this.#tree, path);
  }

  get sessionIds(): readonly string[] {
    return (this.#server?.sessions ?? this.#sessions).map(({ id }) => id);
  }

  #client(name: string): Client {
    let client = this.#clients.get(name);
    if (!client) {
      client = {
        name,
        cut: "no",
        writeFault: undefined,
        behind: undefined,
        withheld: [],
        wires: new Set(),
        sessionIds: new Set(),
      };
      this.#clients.set(name, client);
    }
    return client;
  }

  #connectOf(client: Client): Connect {
    return (listeners) => {
      const wire: Wire = new Wire({
        ...this.#options,
        listeners,
        connected: () => {
          if (client.cut === "silent") {
            wire.mute(false);
            return;
          }
          if (client.cut === "broken" || !this.#server) {
            wire.break("the connection was refused", false);
            return;
          }
          const inlet = this.#server.accept({
            send: (frame) => {
              if (frame.kind === "welcome") client.sessionIds.add(frame.ticket.sessionId);
              if (frame.kind === "changed" && client.behind) client.withheld.push(() => wire.toClient(frame));
              else wire.toClient(frame);
            },
            end: () => wire.endedByStore(),
          });
          wire.attach({
            ended: () => inlet.closed(),
            receive: (frame) => {
              const stale = client.behind && answerFrom(client.behind, frame);
              if (stale) wire.toClient(stale);
              else if (frame.kind === "write" && client.writeFault !== undefined)
                this.#writeWithFault(client, wire, frame);
              else {
                if (frame.kind === "write" || frame.kind === "read") this.#caughtUp(client);
                inlet.receive(frame);
              }
            },
          });
        },
        gone: () => client.wires.delete(wire),
      });
      client.wires.add(wire);
      return wire;
    };
  }

  #caughtUp(client: Client): void {
    client.behind = undefined;
    for (const tell of client.withheld.splice(0)) tell();
  }

  #writeWithFault(client: Client, wire: Wire, { operations }: ClientFrame & { kind: "write" }): void {
    const fault = client.writeFault as WriteFault;
    client.writeFault = undefined;
    const sessionId = wire.sessionId ?? "";
    if (fault === "done") this.#server?.applyLate(sessionId, operations);
    else if (fault !== "lost")
      this.#options.timers.after(fault.lateMs, () => this.#server?.applyLate(sessionId, operations));
    wire.break("the connection was reset", false);
  }
}

/** What a server that is behind answers by itself; undefined: it has to ask. */
function answerFrom(tree: Tree, frame: ClientFrame): StoreFrame | undefined {
  if (frame.kind === "list") {
    const names = listChildren(tree, frame.path);
    return { kind: "answer", call: frame.call, answer: { kind: "names", names } };
  }
  if (frame.kind !== "read" || frame.confirmed) return undefined;
  return { kind: "answer", call: frame.call, answer: { kind: "node", node: readNode(tree, frame.path) } };
}

interface StoreEnd {
  receive(frame: ClientFrame): void;
  ended(): void;
}

interface WireOptions extends MemoryStoreOptions {
  readonly listeners: LinkListeners;
  /** The connection request arrived at the store. */
  readonly connected: () => void;
  readonly gone: () => void;
}

/** One connection: two queues of messages under way, and whether they still arrive. */
class Wire implements Link {
  readonly #options: WireOptions;
  #storeEnd: StoreEnd | undefined;
  readonly #towards: { readonly store: (() => void)[]; readonly client: (() => void)[] } = { store: [], client: [] };
  /** Messages to either side arrive not before these. */
  #storeHearsAt = 0;
  #clientHearsAt = 0;
  /** From the client on, to the store on: false once nothing arrives there any more. */
  #storeHears = true;
  #clientHears = true;
  #open = true;
  muted = false;
  sessionId: string | undefined;

  constructor(options: WireOptions) {
    this.#options = options;
    this.#towardsStore(() => options.connected());
  }

  attach(storeEnd: StoreEnd): void {
    this.#storeEnd = storeEnd;
    this.#towardsClient(() => this.#options.listeners.opened());
  }

  send(frame: ClientFrame): void {
    if (!this.#open || this.muted) return;
    this.#towardsStore(() => this.#storeEnd?.receive(frame));
  }

  toClient(frame: StoreFrame): void {
    if (frame.kind === "welcome") this.sessionId = frame.ticket.sessionId;
    if (this.#open && !this.muted) this.#towardsClient(() => this.#options.listeners.received(frame));
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#clientHears = false;
    // What was sent before still arrives, as on a socket that is closed in order.
    this.#towardsStore(() => this.#endStore());
  }

  /** From now on messages vanish, and neither end learns of it. */
  mute(inFlightArrives: boolean): void {
    this.muted = true;
    this.#clientHears = false;
    if (!inFlightArrives) this.#storeHears = false;
  }

  break(reason: string, inFlightArrives: boolean): void {
    const wasOpen = this.#open;
    this.#open = false;
    this.#clientHears = false;
    if (wasOpen) this.#later(0, () => this.#options.listeners.closed(reason));
    if (inFlightArrives && this.#storeHears) this.#towardsStore(() => this.#endStore());
    else {
      this.#storeHears = false;
      this.#endStore();
    }
  }

  endedByStore(): void {
    if (!this.#open) return;
    this.#towardsClient(() => {
      if (!this.#open) return;
      this.#open = false;
      this.#clientHears = false;
      this.#options.listeners.closed("the store closed the connection");
    });
    this.#options.gone();
  }

  #endStore(): void {
    this.#storeEnd?.ended();
    this.#storeEnd = undefined;
    this.#options.gone();
  }

  #towardsStore(arrive: () => void): void {
    this.#storeHearsAt = this.#deliver(this.#towards.store, this.#storeHearsAt, () => {
      if (this.#storeHears) arrive();
    });
  }

  #towardsClient(arrive: () => void): void {
    this.#clientHearsAt = this.#deliver(this.#towards.client, this.#clientHearsAt, () => {
      if (this.#clientHears) arrive();
    });
  }

  /** Whichever callback of the clock comes first takes the oldest message: the order is the queue's. */
  #deliver(queue: (() => void)[], notBefore: Ms, arrive: () => void): Ms {
    const now = this.#options.clock.now();
    const at = Math.max(notBefore, now + this.#latencyMs());
    queue.push(arrive);
    this.#later(at - now, () => queue.shift()?.());
    return at;
  }

  #latencyMs(): Ms {
    return this.#options.latencyMs?.() ?? 0;
  }

  /** Never during the call; without a delay still in this instant of the clock. */
  #later(delayMs: Ms, callback: () => void): void {
    if (delayMs > 0) this.#options.timers.after(delayMs, callback);
    else void Promise.resolve().then(callback);
  }
}
