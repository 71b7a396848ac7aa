// The life of one session: kept over one connection after the other, ended by the store's word, by our own clock or by the caller.
//
// The end by our own clock: the store counts from when it last heard of the session, which can't be before we sent what it then answered. So the
// session may be over its time after the *sending* of the newest exchange that the leader had part in and that was answered; what was not answered
// counts for nothing. docs/decisions/0002-own-zookeeper-client.md says what this can't know.

import { explainError, ManateeError } from "../../base/errors.ts";
import type { Ms } from "../../base/units.ts";
import type { Clock, Log, Random, Timers } from "../../world/port.ts";
import type { SessionStatus, SessionTicket } from "../port.ts";
import { Connection } from "./connection.ts";
import type { ConnectString } from "./connect-string.ts";
import type { Credentials } from "./credentials.ts";
import type { Dial } from "./dial.ts";
import { Itinerary } from "./itinerary.ts";
import { CLOSE_LIMIT_MS, LOG_INTERVAL_MS, STALL_MS } from "./limits.ts";
import { OP, type ConnectAnswer, type NodeEvent } from "./messages.ts";
import { formatSessionId, readTicket, writeTicket, type SessionKey } from "./ticket.ts";

export interface LifetimeContext {
  readonly description: string;
  readonly target: ConnectString;
  readonly dial: Dial;
  readonly credentials: Credentials;
  readonly log: Log;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
}

export interface LifetimeEvents {
  /** What is sent during this call goes out before anything that callers ask. `lastZxid`: the newest change that this session has seen. */
  reconnecting(connection: Connection, lastZxid: bigint): void;
  /** After the status says so. */
  connected(): void;
  event(event: NodeEvent): void;
  /** The session is over or closed. */
  ended(): void;
}

/** What a new session says in place of a password. */
const NO_KEY: SessionKey = { sessionId: 0n, password: new Uint8Array(16) };
const BY_OWN_CLOCK = "no answer from the store for the session's time, by the own clock";
const BY_STORE = "the store says so";

export class Lifetime {
  private readonly context: LifetimeContext;
  private readonly events: LifetimeEvents;
  private readonly itinerary: Itinerary;
  private readonly requestedTimeoutMs: Ms;
  private readonly listeners = new Set<(status: SessionStatus) => void>();
  private current: SessionStatus;
  private connection: Connection | undefined;
  private key: SessionKey = NO_KEY;
  /** Of the ticket, until that session is met or found to be gone. */
  private resuming: boolean;
  private negotiatedMs: Ms;
  private lastZxid = 0n;
  /** The store had heard of this session at this moment or later; undefined: it was never connected. */
  private confirmedAt: Ms | undefined;
  private lastLoggedAt: Ms | undefined;
  private closing: { readonly promise: Promise<void>; readonly finish: () => void } | undefined;
  private failure: Error | undefined;
  private cancelAttempt: () => void = () => {};
  private cancelDeadline: () => void = () => {};

  constructor(
    context: LifetimeContext,
    options: { sessionTimeoutMs: Ms; resume: SessionTicket | undefined; events: LifetimeEvents },
  ) {
    const { resume, sessionTimeoutMs, events } = options;
    this.context = context;
    this.events = events;
    this.requestedTimeoutMs = this.negotiatedMs = Math.round(sessionTimeoutMs);
    this.current = { kind: "connecting", since: context.clock.now() };
    this.itinerary = new Itinerary(context.target.servers, context.random);
    const key = resume === undefined ? undefined : readTicket(resume);
    this.resuming = key !== undefined;
    this.key = key ?? NO_KEY;
    if (resume !== undefined && key === undefined)
      context.log.warn("the ticket of the former session is malformed: a new session is made");
    this.attempt();
  }

  get id(): string | undefined {
    return this.confirmedAt === undefined ? undefined : formatSessionId(this.key.sessionId);
  }

  /** Timers can be late: who asks is told by the clock. */
  get status(): SessionStatus {
    if (this.deadlinePassed()) this.expire(BY_OWN_CLOCK);
    return this.current;
  }

  get timeoutMs(): Ms {
    return this.negotiatedMs;
  }

  get ticket(): SessionTicket | undefined {
    return this.confirmedAt === undefined || this.isFinal ? undefined : writeTicket(this.key);
  }

  get isClosing(): boolean {
    return this.closing !== undefined;
  }

  /** Why the last connection ended, or the last attempt failed; undefined while connected. */
  get lastFailure(): Error | undefined {
    return this.failure;
  }

  /** undefined: nothing can be sent now. */
  get ready(): Connection | undefined {
    return this.status.kind === "connected" && this.connection?.isReady === true ? this.connection : undefined;
  }

  get isFinal(): boolean {
    return this.current.kind === "expired" || this.current.kind === "closed";
  }

  onStatus(listener: (status: SessionStatus) => void): () => void {
    // A function of its own for each call: the same listener may be given twice.
    const own = (status: SessionStatus): void => listener(status);
    this.listeners.add(own);
    return () => void this.listeners.delete(own);
  }

  close(limitMs: Ms = CLOSE_LIMIT_MS): Promise<void> {
    if (this.closing !== undefined) return this.closing.promise;
    if (this.isFinal) return Promise.resolve();
    let resolve: () => void = () => {};
    const promise = new Promise<void>((settle) => {
      resolve = settle;
    });
    const cancel = this.context.timers.after(limitMs, () => this.finishClose());
    const finish = (): void => {
      cancel();
      resolve();
    };
    this.closing = { promise, finish };
    if (this.connection?.isReady === true) this.sendClose(this.connection);
    // There is no session that could be ended.
    else if (this.key.sessionId === 0n) this.finishClose();
    return promise;
  }

  /** Also ends a `close` that is under way. */
  abandon(): void {
    this.finishClose();
  }

  private attempt(): void {
    const { clock, timers } = this.context;
    const delayMs = this.itinerary.delayMs(clock.now(), this.negotiatedMs);
    this.cancelAttempt();
    // Never at once: a failure can be told from within the attempt.
    this.cancelAttempt = timers.after(delayMs, () => this.connect());
  }

  private connect(): void {
    const { clock, timers, dial, credentials } = this.context;
    if (this.isFinal) return;
    const { server, handshakeLimitMs } = this.itinerary.next(clock.now(), this.requestedTimeoutMs);
    const connection: Connection = new Connection({
      server,
      dial,
      clock,
      timers,
      handshakeLimitMs,
      hello: { lastZxid: this.lastZxid, timeoutMs: this.requestedTimeoutMs, ...this.key },
      credential: credentials.digest,
      authenticator: credentials.sasl?.(),
      events: {
        ready: (answer, sentAt) => this.becomeConnected(connection, answer, sentAt),
        sessionOver: () => this.hearItIsOver(),
        confirmed: (sentAt) => {
          if (this.confirmedAt === undefined || sentAt > this.confirmedAt) this.confirmedAt = sentAt;
        },
        sawZxid: (zxid) => {
          if (zxid > this.lastZxid) this.lastZxid = zxid;
        },
        event: (event) => this.events.event(event),
        gone: (error) => this.becomeCutOff(error),
      },
    });
    this.connection = connection;
  }

  private becomeConnected(connection: Connection, answer: ConnectAnswer, sentAt: Ms): void {
    const { clock, log, description } = this.context;
    // The store may still have it; those who were told by our clock must not find it alive again.
    if (this.deadlinePassed()) return this.expire(BY_OWN_CLOCK);
    const isNew = this.key.sessionId !== answer.sessionId;
    this.key = { sessionId: answer.sessionId, password: answer.password };
    this.negotiatedMs = answer.timeoutMs;
    this.confirmedAt = sentAt;
    this.resuming = false;
    this.itinerary.arrived();
    this.failure = undefined;
    this.lastLoggedAt = undefined;
    this.armDeadline();
    if (this.isClosing) return this.sendClose(connection);
    this.events.reconnecting(connection, this.lastZxid);
    log.info("connected to the store", {
      store: description,
      server: connection.server,
      sessionId: this.id,
      isNewSession: isNew,
      sessionTimeoutMs: this.negotiatedMs,
    });
    this.change({ kind: "connected", since: clock.now(), server: connection.server });
    this.events.connected();
  }

  private becomeCutOff(error: Error): void {
    this.connection = undefined;
    this.failure = error;
    if (this.deadlinePassed()) return this.expire(BY_OWN_CLOCK);
    if (this.current.kind === "connected") this.change({ kind: "connecting", since: this.context.clock.now() });
    this.logFailure(error);
    this.attempt();
  }

  /** Once when it begins, then once a minute; each single attempt only for those who debug. */
  private logFailure(error: Error): void {
    const { clock, log, description } = this.context;
    const now = clock.now();
    const needsOperator = error instanceof ManateeError && error.remedy === "operator";
    log.debug("a connection to the store failed", { store: description, error: explainError(error) });
    if (this.lastLoggedAt !== undefined && now - this.lastLoggedAt < LOG_INTERVAL_MS) return;
    this.lastLoggedAt = now;
    log[needsOperator ? "error" : "warn"]("the store can't be reached", {
      store: description,
      sessionId: this.id,
      cutOffForMs: Math.round(now - this.current.since),
      error: explainError(error),
      ...(needsOperator && { code: error.code, hint: error.hint }),
    });
  }

  private hearItIsOver(): void {
    this.connection = undefined;
    if (!this.resuming) return this.expire(BY_STORE);
    const { log } = this.context;
    log.info("the former session is gone: a new one is made", { sessionId: formatSessionId(this.key.sessionId) });
    this.resuming = false;
    this.key = NO_KEY;
    if (this.isClosing) this.finishClose();
    else this.attempt();
  }

  private deadlinePassed(): boolean {
    if (this.confirmedAt === undefined || this.isFinal) return false;
    return this.context.clock.now() >= this.confirmedAt + this.negotiatedMs;
  }

  private armDeadline(): void {
    const { clock, timers } = this.context;
    this.cancelDeadline();
    const due = (this.confirmedAt ?? clock.now()) + this.negotiatedMs;
    const judge = (): void => {
      if (this.deadlinePassed()) this.expire(BY_OWN_CLOCK);
      else this.armDeadline();
    };
    this.cancelDeadline = timers.after(Math.max(due - clock.now(), 1), () => {
      // After a stall of our own process, an answer that moves the end may still be unread.
      if (clock.now() - due > STALL_MS) this.cancelDeadline = timers.after(1, judge);
      else judge();
    });
  }

  private expire(reason: string): void {
    if (this.isClosing) return this.finishClose();
    const { clock, log, description } = this.context;
    log.warn("the session with the store is over", { store: description, sessionId: this.id, reason });
    this.end({ kind: "expired", since: clock.now(), reason });
  }

  private sendClose(connection: Connection): void {
    connection.send({
      type: OP.closeSession,
      write: () => {},
      settle: (answer) => {
        // Without an answer it is said again on the next connection, where the limit allows.
        if (answer.kind === "answered") this.finishClose();
      },
    });
  }

  private finishClose(): void {
    if (!this.isFinal) this.end({ kind: "closed", since: this.context.clock.now() });
    this.closing?.finish();
  }

  private end(status: SessionStatus): void {
    const connection = this.connection;
    this.connection = undefined;
    this.cancelAttempt();
    this.cancelDeadline();
    this.change(status);
    this.events.ended();
    connection?.drop(new Error("the session ended"));
  }

  private change(status: SessionStatus): void {
    this.current = status;
    queueMicrotask(() => {
      for (const listener of this.listeners) listener(status);
    });
  }
}
