// A session with a store of our own: connects, keeps alive, connects again, and knows its end by its own clock. Every promise it
// gives settles: with the answer, with the end of the connection, of the session, or of the caller's patience.

import type { ManateeError } from "../../base/errors.ts";
import type { Ms } from "../../base/units.ts";
import type { Clock, Log, Timers } from "../../world/port.ts";
import type {
  NodePath,
  NodeValue,
  Session,
  SessionStatus,
  SessionTicket,
  StoreOperation,
  WriteOutcome,
} from "../port.ts";
import { callAborted, outcomeUnknown, sessionClosed, sessionExpired, unreachable } from "./errors.ts";
import type { Answer, ClientFrame, Connect, Link, StoreFrame, WatchKey, WatchKind } from "./frames.ts";
import {
  CLOSE_LIMIT_MS,
  FIRST_PAUSE_MS,
  LAST_PAUSE_MS,
  LOG_INTERVAL_MS,
  pingIntervalMs,
  readLimitMs,
  welcomeLimitMs,
} from "./limits.ts";
import { assertPath } from "./tree.ts";

export interface SessionOptions {
  readonly connect: Connect;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  readonly sessionTimeoutMs: Ms;
  readonly resume: SessionTicket | undefined;
  readonly evaluationOnly: boolean;
}

/** A call on its way. `sentAt` tells until when its answer proves the session. */
interface Call {
  readonly sentAt: Ms;
  readonly answered: (answer: Answer) => void;
  /** There will be no answer. */
  readonly failed: (error: ManateeError) => void;
}

interface Attempt {
  link: Link;
  welcome: boolean;
  startedAt: Ms;
  lastSentAt: Ms;
  lastHeardAt: Ms;
}

export function openSession(options: SessionOptions): Session {
  return new StoreSession(options);
}

class StoreSession implements Session {
  readonly #options: SessionOptions;
  readonly #statusListeners = new Set<(status: SessionStatus) => void>();
  readonly #watches = new Map<string, { readonly key: WatchKey; readonly listeners: Set<() => void> }>();
  readonly #calls = new Map<number, Call>();
  #status: SessionStatus;
  #ticket: SessionTicket | undefined;
  /** The ticket is of this object's own session, not one to be resumed. */
  #established = false;
  #timeoutMs: Ms;
  #attempt: Attempt | undefined;
  #lastCall = 0;
  #pauseMs = FIRST_PAUSE_MS;
  /** The store keeps the session at least until then. */
  #goodUntil = Number.POSITIVE_INFINITY;
  #cancelWake: () => void = () => {};
  #cancelRetry: () => void = () => {};
  #lastLogAt = Number.NEGATIVE_INFINITY;
  #closing: Promise<void> | undefined;
  #onConnected: (() => void) | undefined;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#ticket = options.resume;
    this.#timeoutMs = options.sessionTimeoutMs;
    this.#status = { kind: "connecting", since: options.clock.now() };
    // Not during the call that opens it: listeners come first.
    void Promise.resolve().then(() => {
      if (this.#status.kind === "connecting") this.#tryToConnect();
    });
  }

  get id(): string | undefined {
    return this.#established ? this.#ticket?.sessionId : undefined;
  }

  get status(): SessionStatus {
    return this.#status;
  }

  get timeoutMs(): Ms {
    return this.#timeoutMs;
  }

  get ticket(): SessionTicket | undefined {
    return this.#ticket;
  }

  get evaluationOnly(): boolean {
    return this.#options.evaluationOnly;
  }

  onStatus(listener: (status: SessionStatus) => void): () => void {
    const own = (status: SessionStatus) => listener(status);
    this.#statusListeners.add(own);
    return () => this.#statusListeners.delete(own);
  }

  async read(path: NodePath, options?: { confirmed?: boolean; signal?: AbortSignal }): Promise<NodeValue | undefined> {
    assertPath(path);
    const confirmed = options?.confirmed ?? false;
    const answer = await this.#ask((call) => ({ kind: "read", call, path, confirmed }), options?.signal);
    return answer.kind === "node" ? answer.node : undefined;
  }

  async list(path: NodePath, options?: { signal?: AbortSignal }): Promise<readonly string[] | undefined> {
    assertPath(path);
    const answer = await this.#ask((call) => ({ kind: "list", call, path }), options?.signal);
    return answer.kind === "names" ? answer.names : undefined;
  }

  watch(path: NodePath, what: WatchKind, listener: () => void): () => void {
    assertPath(path);
    const name = `${what} ${path}`;
    let watch = this.#watches.get(name);
    if (!watch) {
      watch = { key: { path, what }, listeners: new Set() };
      this.#watches.set(name, watch);
      if (this.#status.kind === "connected") this.#send({ kind: "watch", path, what });
    }
    const { listeners } = watch;
    const own = () => listener();
    listeners.add(own);
    return () => {
      if (!listeners.delete(own) || listeners.size > 0 || this.#watches.get(name)?.listeners !== listeners) return;
      this.#watches.delete(name);
      if (this.#status.kind === "connected") this.#send({ kind: "unwatch", path, what });
    };
  }

  async write(operations: readonly StoreOperation[], options?: { signal?: AbortSignal }): Promise<WriteOutcome> {
    for (const { path } of operations) assertPath(path);
    const refused = this.#refuseCall(options?.signal);
    if (refused) return { kind: "unsent", error: refused };
    try {
      const answer = await this.#call((call) => ({ kind: "write", call, operations }), options?.signal);
      if (answer.kind === "yes" || answer.kind === "no") return answer;
      return { kind: "unknown", error: outcomeUnknown("the store answered something else") };
    } catch (error) {
      return { kind: "unknown", error: asUnknown(error as ManateeError) };
    }
  }

  close(options?: { limitMs?: Ms }): Promise<void> {
    this.#closing ??= this.#close(options?.limitMs ?? CLOSE_LIMIT_MS);
    return this.#closing;
  }

  abandon(): Promise<void> {
    this.#closing ??= Promise.resolve();
    this.#end({ kind: "closed", since: this.#now() }, sessionClosed());
    return this.#closing;
  }

  // --- calls

  #ask(frameOf: (call: number) => ClientFrame, signal: AbortSignal | undefined): Promise<Answer> {
    const refused = this.#refuseCall(signal);
    if (refused) return Promise.reject(refused);
    return this.#call(frameOf, signal);
  }

  /** Nothing is queued while cut off: what the caller wanted may be wrong by the time it could be sent. */
  #refuseCall(signal: AbortSignal | undefined): ManateeError | undefined {
    if (signal?.aborted) return callAborted();
    switch (this.#status.kind) {
      case "connected":
        return this.#closing && sessionClosed();
      case "connecting":
        return unreachable("there is no connection to the store");
      case "expired":
        return sessionExpired(this.#status.reason);
      case "closed":
        return sessionClosed();
      default:
        return this.#status satisfies never;
    }
  }

  #call(frameOf: (call: number) => ClientFrame, signal?: AbortSignal): Promise<Answer> {
    const call = ++this.#lastCall;
    return new Promise((resolve, reject) => {
      const aborted = () => settle(() => reject(callAborted()));
      const settle = (how: () => void) => {
        this.#calls.delete(call);
        signal?.removeEventListener("abort", aborted);
        how();
      };
      this.#calls.set(call, {
        sentAt: this.#now(),
        answered: (answer) => settle(() => resolve(answer)),
        failed: (error) => settle(() => reject(error)),
      });
      signal?.addEventListener("abort", aborted, { once: true });
      this.#send(frameOf(call));
    });
  }

  #failCalls(error: ManateeError): void {
    for (const call of Array.from(this.#calls.values())) call.failed(error);
  }

  // --- the connection

  #tryToConnect(): void {
    const attempt: Attempt = {
      link: { send: () => {}, close: () => {} },
      welcome: false,
      startedAt: this.#now(),
      lastSentAt: this.#now(),
      lastHeardAt: this.#now(),
    };
    this.#attempt = attempt;
    attempt.link = this.#options.connect({
      opened: () => {
        if (this.#attempt !== attempt) return;
        const { sessionTimeoutMs } = this.#options;
        attempt.lastSentAt = this.#now();
        // Once a session was had, another in its place would not be the same: its nodes are gone.
        this.#send({ kind: "hello", timeoutMs: sessionTimeoutMs, resume: this.#ticket, orNew: !this.#established });
      },
      received: (frame) => {
        if (this.#attempt === attempt) this.#receive(attempt, frame);
      },
      closed: (reason) => {
        if (this.#attempt === attempt) this.#lost(reason);
      },
    });
    this.#wakeInTime();
  }

  #receive(attempt: Attempt, frame: StoreFrame): void {
    if (this.#now() >= this.#goodUntil) {
      this.#expire("nothing was heard from the store for the session's time");
      return;
    }
    attempt.lastHeardAt = this.#now();
    switch (frame.kind) {
      case "welcome":
        this.#welcome(attempt, frame);
        return;
      case "gone":
        this.#expire(frame.reason);
        return;
      case "answer": {
        const call = this.#calls.get(frame.call);
        if (!call) return;
        this.#proven(call.sentAt);
        call.answered(frame.answer);
        return;
      }
      case "changed":
        for (const listener of this.#watches.get(`${frame.what} ${frame.path}`)?.listeners ?? []) listener();
        return;
      default:
        frame satisfies never;
    }
  }

  #welcome(attempt: Attempt, { ticket, timeoutMs, server }: StoreFrame & { kind: "welcome" }): void {
    this.#ticket = ticket;
    this.#timeoutMs = timeoutMs;
    this.#established = true;
    this.#pauseMs = FIRST_PAUSE_MS;
    attempt.welcome = true;
    this.#goodUntil = attempt.lastSentAt + timeoutMs;
    for (const { key } of this.#watches.values()) this.#send({ kind: "watch", ...key });
    this.#wakeInTime();
    this.#setStatus({ kind: "connected", since: this.#now(), server });
    const watches = Array.from(this.#watches.values());
    for (const { listeners } of watches) for (const listener of listeners) listener();
    this.#onConnected?.();
  }

  #lost(reason: string): void {
    this.#attempt?.link.close();
    this.#attempt = undefined;
    if (this.#status.kind === "connected") this.#setStatus({ kind: "connecting", since: this.#now() });
    this.#failCalls(unreachable(`the connection to the store was lost: ${reason}`));
    if (this.#status.kind !== "connecting") return;
    if (this.#now() - this.#lastLogAt >= LOG_INTERVAL_MS) {
      this.#lastLogAt = this.#now();
      this.#options.log.warn("no connection to the store", { reason });
    }
    this.#cancelRetry = this.#options.timers.after(this.#pauseMs, () => this.#tryToConnect());
    this.#pauseMs = Math.min(this.#pauseMs * 2, LAST_PAUSE_MS);
    this.#wakeInTime();
  }

  #send(frame: ClientFrame): void {
    const attempt = this.#attempt;
    if (!attempt) return;
    attempt.lastSentAt = this.#now();
    attempt.link.send(frame);
  }

  // --- time

  /** The store had the session when it took what was sent then. */
  #proven(sentAt: Ms): void {
    this.#goodUntil = Math.max(this.#goodUntil, sentAt + this.#timeoutMs);
  }

  /** One timer for whatever comes first: the ping, the end of patience with a silent connection, the end of the session. */
  #wakeInTime(): void {
    this.#cancelWake();
    const attempt = this.#attempt;
    const at = Math.min(
      this.#goodUntil,
      attempt ? this.#silenceLimit(attempt) : Number.POSITIVE_INFINITY,
      attempt?.welcome ? attempt.lastSentAt + pingIntervalMs(this.#timeoutMs) : Number.POSITIVE_INFINITY,
    );
    if (at === Number.POSITIVE_INFINITY) return;
    this.#cancelWake = this.#options.timers.after(Math.max(0, at - this.#now()), () => this.#wake());
  }

  #silenceLimit(attempt: Attempt): Ms {
    if (!attempt.welcome) return attempt.startedAt + welcomeLimitMs(this.#timeoutMs);
    return attempt.lastHeardAt + readLimitMs(this.#timeoutMs);
  }

  #wake(): void {
    const attempt = this.#attempt;
    const now = this.#now();
    if (now >= this.#goodUntil) {
      this.#expire("nothing was heard from the store for the session's time");
      return;
    }
    if (attempt && now >= this.#silenceLimit(attempt)) {
      this.#lost("the store does not answer");
      return;
    }
    if (attempt?.welcome && now >= attempt.lastSentAt + pingIntervalMs(this.#timeoutMs))
      this.#call((call) => ({ kind: "ping", call })).catch(() => {});
    this.#wakeInTime();
  }

  #now(): Ms {
    return this.#options.clock.now();
  }

  // --- the end

  async #close(limitMs: Ms): Promise<void> {
    if (this.#status.kind === "connecting" && this.#established) await this.#connectedWithin(limitMs);
    if (this.#status.kind === "connected") {
      const limit = new AbortController();
      const cancel = this.#options.timers.after(limitMs, () => limit.abort());
      await this.#call((call) => ({ kind: "close", call }), limit.signal).catch(() => {});
      cancel();
    }
    this.#end({ kind: "closed", since: this.#now() }, sessionClosed());
  }

  #connectedWithin(limitMs: Ms): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#options.timers.after(limitMs, () => this.#onConnected?.());
      this.#onConnected = () => {
        this.#onConnected = undefined;
        cancel();
        resolve();
      };
    });
  }

  #expire(reason: string): void {
    this.#options.log.warn("session with the store expired", { reason });
    this.#end({ kind: "expired", since: this.#now(), reason }, sessionExpired(reason));
  }

  #end(status: SessionStatus, error: ManateeError): void {
    if (this.#status.kind === "closed" || this.#status.kind === "expired") return;
    this.#cancelWake();
    this.#cancelRetry();
    this.#attempt?.link.close();
    this.#attempt = undefined;
    this.#setStatus(status);
    this.#failCalls(error);
    this.#onConnected?.();
    this.#watches.clear();
  }

  /** Listeners are called later than the call that brought the change, and find the status of then. */
  #setStatus(status: SessionStatus): void {
    this.#status = status;
    const listeners = [...this.#statusListeners];
    void Promise.resolve().then(() => {
      for (const listener of listeners) if (this.#statusListeners.has(listener)) listener(status);
    });
  }
}

function asUnknown(error: ManateeError): ManateeError {
  return outcomeUnknown(`a write was sent, and no answer came: ${error.message}`);
}
