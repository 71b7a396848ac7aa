// A store of our own: sessions, watches and the tree behind one server. Where its writes go to last is the journal's business
// (memory/: nowhere; local/: a file); an answer never leaves before what it tells is there.

import type { Ms } from "../../base/units.ts";
import type { Clock, Log, Random, Timers } from "../../world/port.ts";
import type { StoreOperation } from "../port.ts";
import type { Answer, ClientFrame, StoreFrame, WatchKey } from "./frames.ts";
import { SESSION_MAX_MS, SESSION_MIN_MS, STALL_MS, storeTimeoutMs } from "./limits.ts";
import { applyWrite, endSession, listChildren, readNode, type Tree } from "./tree.ts";

/** What must be there after a restart. In order; replaying them on an empty tree makes the tree and the sessions. */
export type JournalRecord =
  | { readonly kind: "session"; readonly id: string; readonly secret: string; readonly timeoutMs: Ms }
  | { readonly kind: "end"; readonly id: string }
  | {
      readonly kind: "write";
      readonly session: string;
      readonly wallMs: number;
      readonly operations: readonly StoreOperation[];
    };

export interface Journal {
  append(record: JournalRecord): void;
  /** Calls back when all that was appended so far is durable: at once where there is nothing to wait for. In order. */
  whenDurable(callback: () => void): void;
}

export interface StoredSession {
  readonly id: string;
  readonly secret: string;
  readonly timeoutMs: Ms;
}

export interface StoreServerOptions {
  readonly name: string;
  readonly tree: Tree;
  /** Sessions taken over from a former server: each gets its whole time again. */
  readonly sessions: readonly StoredSession[];
  readonly journal: Journal;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
}

/** The far end of a connection, as the server writes to it. */
export interface Outlet {
  send(frame: StoreFrame): void;
  /** The server ends it: the session moved to another connection, or is over. */
  end(): void;
}

/** The near end: what arrived goes in here. */
export interface Inlet {
  receive(frame: ClientFrame): void;
  closed(): void;
}

export interface StoreServer {
  accept(outlet: Outlet): Inlet;
  readonly connections: number;
  readonly sessions: readonly StoredSession[];
  /** Ends a session as if its time were over. */
  expire(sessionId: string): void;
  /** Gives every session its whole time again: the store itself had been away. */
  extendAll(): void;
  /** Applies a write that nobody waits for any more, if its session still lives. */
  applyLate(sessionId: string, operations: readonly StoreOperation[]): void;
  /** Ends all connections and timers; the sessions stay in the journal. */
  stop(): void;
}

interface LiveSession extends StoredSession {
  lastHeard: Ms;
  connection: Connection | undefined;
  cancelTimer: () => void;
}

interface Connection {
  readonly outlet: Outlet;
  readonly watches: Set<string>;
  session: LiveSession | undefined;
  open: boolean;
}

export function storeServer(options: StoreServerOptions): StoreServer {
  return new Server(options);
}

class Server implements StoreServer {
  readonly #options: StoreServerOptions;
  readonly #sessions = new Map<string, LiveSession>();
  readonly #connections = new Set<Connection>();

  constructor(options: StoreServerOptions) {
    this.#options = options;
    for (const session of options.sessions) this.#begin(session);
  }

  get connections(): number {
    return this.#connections.size;
  }

  get sessions(): readonly StoredSession[] {
    return [...this.#sessions.values()].map(({ id, secret, timeoutMs }) => ({ id, secret, timeoutMs }));
  }

  accept(outlet: Outlet): Inlet {
    const connection: Connection = { outlet, watches: new Set(), session: undefined, open: true };
    this.#connections.add(connection);
    return {
      receive: (frame) => {
        if (connection.open) this.#receive(connection, frame);
      },
      closed: () => this.#drop(connection),
    };
  }

  expire(sessionId: string): void {
    const session = this.#sessions.get(sessionId);
    if (session) this.#finish(session, "the store ended it");
  }

  extendAll(): void {
    for (const session of this.#sessions.values()) session.lastHeard = this.#options.clock.now();
  }

  applyLate(sessionId: string, operations: readonly StoreOperation[]): void {
    if (this.#sessions.has(sessionId)) this.#apply(sessionId, operations);
  }

  stop(): void {
    for (const session of this.#sessions.values()) session.cancelTimer();
    for (const connection of this.#connections) {
      this.#drop(connection);
      connection.outlet.end();
    }
  }

  // --- connections

  #receive(connection: Connection, frame: ClientFrame): void {
    if (frame.kind === "hello") {
      this.#hello(connection, frame);
      return;
    }
    const session = connection.session;
    if (!session) return;
    session.lastHeard = this.#options.clock.now();
    switch (frame.kind) {
      case "ping":
        this.#answer(connection, frame.call, { kind: "done" });
        return;
      case "read":
        this.#answer(connection, frame.call, { kind: "node", node: readNode(this.#options.tree, frame.path) });
        return;
      case "list":
        this.#answer(connection, frame.call, { kind: "names", names: listChildren(this.#options.tree, frame.path) });
        return;
      case "write":
        this.#answer(connection, frame.call, this.#apply(session.id, frame.operations));
        return;
      case "watch":
        connection.watches.add(watchName(frame));
        return;
      case "unwatch":
        connection.watches.delete(watchName(frame));
        return;
      case "close":
        connection.session = undefined;
        this.#finish(session, "closed");
        this.#answer(connection, frame.call, { kind: "done" });
        return;
      default:
        frame satisfies never;
    }
  }

  #hello(connection: Connection, { resume, orNew, timeoutMs }: ClientFrame & { kind: "hello" }): void {
    const known = resume && this.#sessions.get(resume.sessionId);
    let session = known && known.secret === resume.secret ? known : undefined;
    if (!session) {
      if (!orNew) {
        this.#send(connection, { kind: "gone", reason: "the store no longer has it" });
        return;
      }
      const { random, journal } = this.#options;
      const bounded = Math.min(Math.max(timeoutMs, SESSION_MIN_MS), SESSION_MAX_MS);
      const stored = { id: random.hex(8), secret: random.hex(16), timeoutMs: bounded };
      journal.append({ kind: "session", ...stored });
      session = this.#begin(stored);
    }
    const former = session.connection;
    if (former && former !== connection) {
      this.#drop(former);
      former.outlet.end();
    }
    session.lastHeard = this.#options.clock.now();
    session.connection = connection;
    connection.session = session;
    const ticket = { sessionId: session.id, secret: session.secret };
    this.#send(connection, { kind: "welcome", ticket, timeoutMs: session.timeoutMs, server: this.#options.name });
  }

  #drop(connection: Connection): void {
    connection.open = false;
    this.#connections.delete(connection);
    if (connection.session?.connection === connection) connection.session.connection = undefined;
    connection.session = undefined;
  }

  #answer(connection: Connection, call: number, answer: Answer): void {
    this.#send(connection, { kind: "answer", call, answer });
  }

  #send(connection: Connection, frame: StoreFrame): void {
    this.#options.journal.whenDurable(() => {
      if (connection.open) connection.outlet.send(frame);
    });
  }

  // --- writes

  #apply(session: string, operations: readonly StoreOperation[]): Answer {
    const { tree, clock, journal } = this.#options;
    const context = { session, wallMs: clock.wall() };
    const result = applyWrite(tree, operations, context);
    if (result.kind === "no") return result;
    journal.append({ kind: "write", operations, ...context });
    this.#announce(result.changed);
    return { kind: "yes", results: result.results };
  }

  #announce(changed: readonly WatchKey[]): void {
    const keys = new Map(changed.map((key) => [watchName(key), key]));
    for (const connection of this.#connections)
      for (const [name, { path, what }] of keys)
        if (connection.watches.has(name)) this.#send(connection, { kind: "changed", path, what });
  }

  // --- sessions

  #begin(stored: StoredSession): LiveSession {
    const { clock } = this.#options;
    const session: LiveSession = { ...stored, lastHeard: clock.now(), connection: undefined, cancelTimer: () => {} };
    this.#sessions.set(session.id, session);
    this.#await(session, storeTimeoutMs(session.timeoutMs));
    return session;
  }

  #await(session: LiveSession, delayMs: Ms): void {
    const { clock, timers } = this.#options;
    const due = clock.now() + delayMs;
    session.cancelTimer = timers.after(delayMs, () => {
      // Held up ourselves: what the sessions said meanwhile is still to be read.
      if (clock.now() - due > STALL_MS) this.extendAll();
      const left = session.lastHeard + storeTimeoutMs(session.timeoutMs) - clock.now();
      if (left > 0) this.#await(session, left);
      else this.#finish(session, "nothing was heard of it for its time");
    });
  }

  #finish(session: LiveSession, reason: string): void {
    const { journal, tree, log } = this.#options;
    session.cancelTimer();
    this.#sessions.delete(session.id);
    journal.append({ kind: "end", id: session.id });
    this.#announce(endSession(tree, session.id));
    log.debug("session ended", { sessionId: session.id, reason });
    const connection = session.connection;
    if (connection?.session !== session) return;
    connection.session = undefined;
    this.#send(connection, { kind: "gone", reason });
  }
}

function watchName({ path, what }: WatchKey): string {
  return `${what} ${path}`;
}
