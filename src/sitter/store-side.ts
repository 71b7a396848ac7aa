// The coordination store as this sitter sees it: one session after the other, what was last read through them, and the writes to the state.
// It answers `observe` from what it has: nothing here is waited for by the loop.

import { explainError, ManateeError } from "../base/errors.ts";
import type { Ms } from "../base/units.ts";
import type { StoreAction } from "../cluster/decision.ts";
import type { Announcement, ElectionEntry, ShardView, StoreObservation } from "../cluster/observation.ts";
import type { PeerAddress } from "../cluster/state.ts";
import type { Coordination, Session, SessionStatus, SessionTicket, WriteOutcome } from "../coordination/port.ts";
import type { ShardStore } from "../shard/port.ts";
import type { World } from "../world/port.ts";
import { pause, withLimit } from "../world/waiting.ts";
import { type ReadView, STORE_CALL_LIMIT_MS, StoreSession } from "./store-session.ts";
import type { TicketFile } from "./ticket.ts";
import { TakeoverCount } from "./takeover-count.ts";

/** A store that ends each session as soon as it is made must not be asked in a tight loop. */
const REOPEN_MS: Ms = 1_000;
const LEAVE_LIMIT_MS: Ms = 2_000;

export interface StoreSideOptions {
  readonly coordination: Coordination;
  readonly makeShardStore: (session: Session) => ShardStore;
  readonly sessionTimeoutMs: Ms;
  readonly self: PeerAddress;
  readonly tickets: TicketFile;
  readonly world: World;
  readonly onChange: () => void;
  /** Asked before this peer's node is made. Rejects where another, living sitter bears its name. */
  readonly checkIdentity: () => Promise<void>;
  /** This peer must not go on. */
  readonly onFatal: (error: unknown) => void;
}

type LastWrite = NonNullable<StoreObservation["lastWrite"]>;

export class StoreSide {
  readonly #options: StoreSideOptions;
  readonly #world: World;
  readonly #takeovers: TakeoverCount;
  #current: StoreSession | undefined;
  #openedAt: Ms = Number.NEGATIVE_INFINITY;
  #closed = false;
  #cutOffSince: Ms;
  #wasConnected = false;
  /** The session of which the log has told that it is there. */
  #toldOf: Session | undefined;
  #view: ShardView = { kind: "unread" };
  #election: readonly ElectionEntry[] = [];
  #lastWrite: LastWrite | undefined;
  /** The outcome of the last write, told once a confirmed read has shown what the store holds after it. */
  #settled: { readonly token: string; readonly outcome: "yes" | "no"; readonly at: Ms } | undefined;
  /** No other sitter answers under our name; looked at once a session. */
  #identity: "unchecked" | "checking" | "ours" = "unchecked";
  #resumed: SessionTicket | undefined;

  constructor(options: StoreSideOptions) {
    this.#options = options;
    this.#world = options.world;
    this.#cutOffSince = options.world.clock.now();
    this.#takeovers = new TakeoverCount(options.world);
  }

  /** Opens the first session: the one that a ticket is kept of, where the store still has it. */
  async open(): Promise<void> {
    this.#resumed = await this.#options.tickets.read();
    this.#openSession(this.#resumed);
  }

  get session(): Session | undefined {
    return this.#current?.session;
  }

  get shard(): ShardStore | undefined {
    return this.#current?.shard;
  }

  /** Connected, and the shard was read since. */
  get connected(): boolean {
    return this.#current?.currentSince !== undefined;
  }

  observe(): StoreObservation {
    const since = this.#current?.currentSince;
    return {
      connection: since === undefined ? { kind: "cut-off", since: this.#cutOffSince } : { kind: "connected", since },
      sessionTimeoutMs: this.#current?.session.timeoutMs ?? this.#options.sessionTimeoutMs,
      shard: this.#view,
      election: this.#election,
      announced: this.#current?.announced,
      lastWrite: this.#lastWrite,
      takeoversLastHour: this.#takeovers.lastHour(),
    };
  }

  announce(wanted: Announcement | undefined): void {
    if (!this.connected) return;
    if (this.#identity === "ours") this.#current?.announce(wanted);
    else if (this.#identity === "unchecked") void this.#checkIdentity();
  }

  /**
   * Begins the write, or notes that it was not sent. An earlier one may still be without its answer (its effect was read before that
   * came): each is conditional on its version, and only the last one's outcome is told.
   */
  write(action: StoreAction): void {
    const shard = this.#current?.shard;
    if (!shard || !this.connected) return this.notSent(action);
    this.#lastWrite = { token: action.token, outcome: "sent" };
    void this.#write(shard, action);
  }

  /** That write was decided on and given up before anything was sent: nothing of it happened, nor will. */
  notSent(action: StoreAction): void {
    this.#lastWrite = { token: action.token, outcome: "no" };
  }

  /** Deletes this peer's election node and ends the session, so that others need not wait for its time. Bounded, never rejects. */
  async close(): Promise<void> {
    const current = this.#end();
    if (!current) return;
    if (current.session.status.kind === "connected")
      await withLimit({ limitMs: LEAVE_LIMIT_MS, timers: this.#world.timers }, () => current.shard.leave()).catch(
        () => undefined,
      );
    await current.session.close({ limitMs: LEAVE_LIMIT_MS });
    await this.#options.tickets.keep(undefined);
  }

  /** Leaves the session to the store, to be taken up again with its ticket. Never rejects. */
  async abandon(): Promise<void> {
    await this.#end()?.session.abandon();
  }

  #end(): StoreSession | undefined {
    this.#closed = true;
    const current = this.#current;
    current?.end();
    return current;
  }

  #openSession(resume?: SessionTicket): void {
    const { coordination, makeShardStore, sessionTimeoutMs, self } = this.#options;
    this.#openedAt = this.#world.clock.now();
    const session = coordination.open({ sessionTimeoutMs, ...(resume && { resume }) });
    const opened = new StoreSession({
      session,
      shard: makeShardStore(session),
      self,
      world: this.#world,
      events: {
        onStatus: (status) => this.#noticeStatus(status),
        onRead: (read) => this.#take(read),
        onAnnounced: this.#options.onChange,
        onNodeLost: () => this.#noticeLostNode(),
      },
    });
    this.#identity = "unchecked";
    this.#current = opened;
    opened.begin();
  }

  #noticeStatus(status: SessionStatus): void {
    const { log } = this.#world;
    const { session } = this.#current as StoreSession;
    if (status.kind === "connected") {
      const again = session === this.#toldOf;
      this.#toldOf = session;
      const resumed = this.#resumed !== undefined && session.id === this.#resumed.sessionId;
      log.info(again ? "connected to the store again" : "session with the store", {
        server: status.server,
        ...(!again && { sessionTimeoutMs: session.timeoutMs, resumed }),
      });
      void this.#options.tickets.keep(session.ticket);
    } else {
      if (status.kind === "connecting")
        log.warn("cut off from the store", { store: this.#options.coordination.description });
      if (this.#wasConnected) this.#cutOffSince = this.#world.clock.now();
    }
    this.#wasConnected = status.kind === "connected";
    if (status.kind === "expired") void this.#reopen(status.reason);
    this.#options.onChange();
  }

  /** Perhaps by another sitter that bears our name: that is looked at again before the node is made again. */
  #noticeLostNode(): void {
    this.#world.log.warn("this peer's election node was deleted by somebody else");
    this.#resumed = undefined;
    this.#identity = "unchecked";
  }

  async #reopen(reason: string): Promise<void> {
    this.#world.log.warn("the store ended the session: opening a new one", { reason });
    this.#current?.end();
    const wait = this.#openedAt + REOPEN_MS - this.#world.clock.now();
    if (wait > 0) await pause(this.#world.timers, wait);
    if (!this.#closed) this.#openSession();
  }

  #take(read: { view: ReadView; election: readonly ElectionEntry[]; confirmed: boolean; startedAt: Ms }): void {
    const { view, election, confirmed, startedAt } = read;
    // A member of the store that lags must not take us back: what contradicts what we know has to be confirmed.
    if (!confirmed && isOlder(view, this.#view)) {
      this.#current?.readAgain({ confirmed: true });
      return;
    }
    this.#view = view.kind === "document" ? { ...view, readAt: startedAt } : view;
    this.#election = election;
    if (this.#settled && confirmed && startedAt >= this.#settled.at) {
      if (this.#lastWrite?.token === this.#settled.token)
        this.#lastWrite = { ...this.#lastWrite, outcome: this.#settled.outcome };
      this.#settled = undefined;
    }
    if (view.kind === "document" && this.#current) this.#takeovers.notice(view.state.generation, this.#current.shard);
    this.#options.onChange();
  }

  async #write(shard: ShardStore, action: StoreAction): Promise<void> {
    const { state, version, token } = action;
    const outcome = await this.#bounded((signal) =>
      shard.writeState({ state, version, by: this.#options.self.id, signal }),
    );
    const now = this.#world.clock.now();
    this.#logOutcome(action, outcome);
    if (this.#lastWrite?.token === token) {
      if (outcome.kind === "yes" || outcome.kind === "no") this.#settled = { token, outcome: outcome.kind, at: now };
      else this.#lastWrite = { ...this.#lastWrite, outcome: outcome.kind === "unsent" ? "no" : "unknown" };
    }
    this.#current?.readAgain({ confirmed: true });
    this.#options.onChange();
  }

  async #bounded(write: (signal: AbortSignal) => Promise<WriteOutcome>): Promise<WriteOutcome> {
    const late = (cause?: unknown): WriteOutcome => ({
      kind: "unknown",
      error: new ManateeError({
        code: "STORE_WRITE_UNANSWERED",
        message: `no answer to a write within ${STORE_CALL_LIMIT_MS} ms`,
        remedy: "reobserve",
        hint: "Check the coordination store; the sitter reads again what became of the write.",
        cause,
      }),
    });
    try {
      return (await withLimit({ limitMs: STORE_CALL_LIMIT_MS, timers: this.#world.timers }, write)) ?? late();
    } catch (error) {
      return late(error);
    }
  }

  #logOutcome({ state, version }: StoreAction, outcome: WriteOutcome): void {
    const fields = { generation: state.generation, version, rule: state.rule };
    const { log } = this.#world;
    if (outcome.kind === "yes") log.info("state written", fields);
    else if (outcome.kind === "no") log.info("state not written", { ...fields, refusal: outcome.refusal });
    else
      log.warn("state written or not: unknown", {
        ...fields,
        sent: outcome.kind === "unknown",
        code: outcome.error.code,
        error: explainError(outcome.error),
      });
  }

  async #checkIdentity(): Promise<void> {
    const resumed = this.#resumed !== undefined && this.session?.id === this.#resumed.sessionId;
    this.#identity = "checking";
    const checked = this.#current;
    try {
      if (!resumed) await this.#options.checkIdentity();
      if (checked === this.#current) this.#identity = "ours";
      this.#options.onChange();
    } catch (error) {
      this.#options.onFatal(error);
    }
  }
}

/** Whether `read` can't follow what was known before, but where the store was emptied or put back. */
function isOlder(read: ReadView, known: ShardView): boolean {
  if (known.kind !== "document") return false;
  return read.kind === "absent" || (read.kind === "document" && read.version < known.version);
}
