// One session with the store, from its opening to its end: its connection, reading the shard through it, and this peer's election node.
// Everything here goes on beside the loop: a store that hangs must not delay what PostgreSQL needs. What was read is handed on by events.

import { explainError, howToLog } from "../base/errors.ts";
import type { Ms } from "../base/units.ts";
import { isSameAnnouncement } from "../cluster/announcement.ts";
import type { Announcement, ElectionEntry, ShardView } from "../cluster/observation.ts";
import type { PeerAddress } from "../cluster/state.ts";
import type { Session, SessionStatus } from "../coordination/port.ts";
import type { ShardStore } from "../shard/port.ts";
import type { Log, World } from "../world/port.ts";
import { pause, withLimit } from "../world/waiting.ts";

/** Of one call to the store; well above what a busy one needs. The session itself says earlier that the store is gone. */
export const STORE_CALL_LIMIT_MS: Ms = 10_000;
const RETRY_MS: Ms = 500;

export type ReadView = Exclude<ShardView, { kind: "unread" }>;

export interface StoreSessionEvents {
  readonly onStatus: (status: SessionStatus) => void;
  /** `startedAt`: when the reads began; what happened before is in it, as far as it was `confirmed`. */
  readonly onRead: (read: {
    view: ReadView;
    election: readonly ElectionEntry[];
    confirmed: boolean;
    startedAt: Ms;
  }) => void;
  readonly onAnnounced: () => void;
  /** This session's election node was there, and is not. */
  readonly onNodeLost: () => void;
}

export class StoreSession {
  readonly session: Session;
  readonly shard: ShardStore;
  readonly #self: PeerAddress;
  readonly #world: World;
  readonly #log: Log;
  readonly #events: StoreSessionEvents;
  #unsubscribe: readonly (() => void)[] = [];
  #ended = false;
  #prepared = false;
  #dirty = true;
  #confirm = false;
  #reading = false;
  /** Since when the shard has been read through this connection; until then its view is that of before it was cut off. */
  #currentSince: Ms | undefined;
  #announced: Announcement | undefined;
  #asked: Announcement | undefined;
  #announcedAt: Ms = Number.NEGATIVE_INFINITY;
  #announcing = false;
  #announceAgainAt: Ms = Number.NEGATIVE_INFINITY;
  /** A session that was taken up again may have left a node that this process does not know of. */
  #mayHaveNode = true;

  constructor(options: {
    session: Session;
    shard: ShardStore;
    self: PeerAddress;
    world: World;
    events: StoreSessionEvents;
  }) {
    this.session = options.session;
    this.shard = options.shard;
    this.#self = options.self;
    this.#world = options.world;
    this.#log = options.world.log;
    this.#events = options.events;
  }

  begin(): void {
    this.#unsubscribe = [
      this.session.onStatus((status) => this.#noticeStatus(status)),
      this.shard.watch(() => this.readAgain()),
    ];
    if (this.session.status.kind !== "connecting") this.#noticeStatus(this.session.status);
  }

  get connected(): boolean {
    return !this.#ended && this.session.status.kind === "connected";
  }

  get currentSince(): Ms | undefined {
    return this.connected ? this.#currentSince : undefined;
  }

  /** As the store confirmed it. */
  get announced(): Announcement | undefined {
    return this.#announced;
  }

  /** Marks what was read as old. `confirmed`: the next read must not be older than this call. */
  readAgain({ confirmed = false }: { confirmed?: boolean } = {}): void {
    this.#dirty = true;
    this.#confirm ||= confirmed;
    if (!this.#reading) void this.#readWhileDirty();
  }

  /** Begins to make this session's election node say so; undefined: that there is none. Does nothing where it is so, or cut off. */
  announce(wanted: Announcement | undefined): void {
    if (!this.connected || this.#announcing || this.#world.clock.now() < this.#announceAgainAt) return;
    if (wanted === undefined ? this.#hasNoNode() : this.#says(wanted)) return;
    this.#announcing = true;
    void this.#announceNow(wanted);
  }

  /** Ends all that goes on here, but not the session itself. */
  end(): void {
    this.#ended = true;
    for (const stop of this.#unsubscribe) stop();
  }

  #noticeStatus(status: SessionStatus): void {
    if (this.#ended) return;
    if (status.kind !== "connected") this.#currentSince = undefined;
    this.#events.onStatus(status);
    // Confirmed: what is known from here on must not be older than this connection (FENCE rests on it).
    if (status.kind === "connected") this.readAgain({ confirmed: true });
  }

  async #readWhileDirty(): Promise<void> {
    this.#reading = true;
    while (this.#dirty && this.connected) {
      this.#dirty = false;
      const confirmed = this.#confirm;
      this.#confirm = false;
      if (await this.#readOnce(confirmed)) continue;
      this.#dirty = true;
      this.#confirm ||= confirmed;
      await pause(this.#world.timers, RETRY_MS);
    }
    this.#reading = false;
  }

  async #readOnce(confirmed: boolean): Promise<boolean> {
    const startedAt = this.#world.clock.now();
    try {
      const read = await withLimit({ limitMs: STORE_CALL_LIMIT_MS, timers: this.#world.timers }, async (signal) => {
        if (!this.#prepared) await this.shard.prepare();
        this.#prepared = true;
        return Promise.all([this.shard.readState({ confirmed, signal }), this.shard.readElection({ signal })]);
      });
      if (!this.connected) return false;
      if (read === undefined) {
        this.#log.warn("the store does not answer", { limitMs: STORE_CALL_LIMIT_MS });
        return false;
      }
      const [view, election] = read;
      this.#currentSince ??= this.#world.clock.now();
      this.#noticeOwnNode(election, startedAt);
      this.#events.onRead({ view, election, confirmed, startedAt });
      return true;
    } catch (error) {
      if (!this.connected) return false;
      this.#logFailure("reading the shard's state failed", error);
      return false;
    }
  }

  async #announceNow(wanted: Announcement | undefined): Promise<void> {
    try {
      const said = wanted === undefined ? await this.shard.leave() : await this.shard.announce(this.#self, wanted);
      this.#announced = said ?? undefined;
      this.#asked = wanted;
      this.#mayHaveNode = false;
      this.#announcedAt = this.#world.clock.now();
    } catch (error) {
      // Whether it happened is not known: a later try finds the node by its owner.
      this.#mayHaveNode = true;
      this.#announceAgainAt = this.#world.clock.now() + RETRY_MS;
      if (this.connected) this.#logFailure("announcing this peer in the election failed", error);
    } finally {
      this.#announcing = false;
      if (!this.#ended) this.#events.onAnnounced();
    }
  }

  #hasNoNode(): boolean {
    return this.#announced === undefined && !this.#mayHaveNode;
  }

  /** What was asked for counts, too: a store that words it differently must not be written to again and again. */
  #says(wanted: Announcement): boolean {
    if (this.#announced === undefined || this.#mayHaveNode) return false;
    return (
      isSameAnnouncement(this.#announced, wanted) ||
      (this.#asked !== undefined && isSameAnnouncement(this.#asked, wanted))
    );
  }

  /** Somebody else may delete our node (an operator, another sitter with our name): then it has to be made again. */
  #noticeOwnNode(election: readonly ElectionEntry[], startedAt: Ms): void {
    if (this.#announced === undefined || this.#announcing || startedAt <= this.#announcedAt) return;
    if (election.some(({ peer }) => peer.id === this.#self.id)) return;
    this.#announced = undefined;
    this.#asked = undefined;
    this.#events.onNodeLost();
  }

  #logFailure(message: string, error: unknown): void {
    const { level, known } = howToLog(error);
    this.#log[level](message, { ...known, error: explainError(error) });
  }
}
