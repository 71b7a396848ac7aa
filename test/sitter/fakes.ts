// Stand-ins for the ports around a sitter, each with the failures that the real ones have: calls that hang, outcomes that stay unknown,
// sessions that end.

import { NO_TAGS } from "../../src/cluster/tags.ts";
import { ManateeError } from "../../src/base/errors.ts";
import { lsn } from "../../src/base/lsn.ts";
import { type Decision, NEW_MEMORY, type PostgresAction } from "../../src/cluster/decision.ts";
import type {
  Announcement,
  ElectionEntry,
  PostgresObservation,
  PostgresSettings,
  PrimaryServer,
  ShardView,
} from "../../src/cluster/observation.ts";
import type { PeerAddress, ShardState } from "../../src/cluster/state.ts";
import type { SitterConfig } from "../../src/config/types.ts";
import type {
  Coordination,
  NodeValue,
  Session,
  SessionStatus,
  SessionTicket,
  StoreOperation,
  WriteOutcome,
} from "../../src/coordination/port.ts";
import type { PostgresServer } from "../../src/postgres/port.ts";
import type { ShardStore } from "../../src/shard/port.ts";
import type { PostgresReport } from "../../src/status/report.ts";
import type { Clock } from "../../src/world/port.ts";
import { peerAddress, shardState as plainState, standbyAnnouncement } from "../support/shard-state.ts";

export const address = peerAddress;

export const SELF = address(1);
export const OTHER = address(2);

export function entry(peer: PeerAddress) {
  return { ...peer, incarnation: `data-of-${peer.zoneId}`, extra: {} };
}

export function shardState(changes: Partial<ShardState> = {}): ShardState {
  return plainState({
    primary: entry(SELF),
    sync: entry(OTHER),
    systemIdentifier: "7000000000000000001",
    reason: "the shard is founded",
    ...changes,
  });
}

export const ANNOUNCEMENT = standbyAnnouncement({
  incarnation: "data-of-zone-1",
  systemIdentifier: "7000000000000000001",
  phase: "idle",
});

export function decision(changes: Partial<Decision> = {}): Decision {
  return {
    rule: "Z1",
    because: "all is well",
    waitingOn: undefined,
    operator: undefined,
    announce: undefined,
    settings: undefined,
    action: undefined,
    cancelJob: false,
    memory: NEW_MEMORY,
    lookAgainAfterMs: 1_000,
    ...changes,
  };
}

export function sitterConfig(changes: Partial<SitterConfig> = {}): SitterConfig {
  return {
    shard: "1.test",
    shardPath: "/manatee/1.test",
    self: SELF,
    store: { kind: "local", directory: "/nowhere", sessionTimeoutMs: 4_000 },
    postgres: undefined as never,
    storage: undefined,
    tags: NO_TAGS,
    policy: {
      oneNodeWriteMode: false,
      takeoverAlone: false,
      rejoin: "automatic",
      adoptData: false,
      forksKeptMax: 2,
      suspectMs: 2_000,
      opsTimeoutMs: 10_000,
      isolationMs: 10_000,
      takeoversPerHourMax: 5,
      syncLagBytesMax: 1_000_000,
      bootstrapPeersMin: 2,
    },
    peers: { silence: { beatMs: 100, minMs: 800, maxMs: 3_000, deviations: 8 }, tls: undefined },
    healthCheckIntervalMs: 1_000,
    peerProbeLimitMs: 500,
    statusHost: SELF.ip,
    statusPort: 5433,
    registrar: { enabled: false, ttlSeconds: 60 },
    historyKept: 100,
    stateDir: "/state",
    logLevel: "info",
    ...changes,
  };
}

export function storeError(): ManateeError {
  return new ManateeError({
    code: "STORE_UNREACHABLE",
    message: "not connected",
    remedy: "retry",
    hint: "Check the store.",
  });
}

export class FakeSession implements Session {
  status: SessionStatus;
  readonly timeoutMs = 4_000;
  readonly evaluationOnly = true;
  readonly nodes = new Map<string, NodeValue>();
  closed: "closed" | "abandoned" | undefined;
  readonly id: string;
  readonly #clock: Clock;
  readonly #listeners = new Set<(status: SessionStatus) => void>();

  constructor(id: string, clock: Clock) {
    this.id = id;
    this.#clock = clock;
    this.status = { kind: "connecting", since: clock.now() };
  }

  get ticket(): SessionTicket {
    return { sessionId: this.id, secret: `secret of ${this.id}` };
  }

  become(kind: "connecting" | "connected" | "expired"): void {
    const since = this.#clock.now();
    this.status =
      kind === "connected"
        ? { kind, since, server: "store:1" }
        : kind === "expired"
          ? { kind, since, reason: "too late" }
          : { kind, since };
    for (const listener of this.#listeners) listener(this.status);
  }

  onStatus(listener: (status: SessionStatus) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async read(path: string): Promise<NodeValue | undefined> {
    return this.nodes.get(path);
  }

  async list(): Promise<readonly string[] | undefined> {
    return undefined;
  }

  watch(): () => void {
    return () => {};
  }

  async write(operations: readonly StoreOperation[]): Promise<WriteOutcome> {
    for (const operation of operations)
      if (operation.kind === "create")
        this.nodes.set(operation.path, {
          data: operation.data,
          version: 0,
          createdAt: 1n,
          changedAt: 1n,
          changedWallMs: 0,
          ephemeralOwner: operation.ephemeral ? this.id : undefined,
        });
      else if (operation.kind === "delete") this.nodes.delete(operation.path);
    return { kind: "yes", results: [] };
  }

  async close(): Promise<void> {
    this.closed = "closed";
  }

  async abandon(): Promise<void> {
    this.closed = "abandoned";
  }
}

/** The shard's place in a store that outlives sessions. */
export class FakeShard {
  view: Exclude<ShardView, { kind: "unread" }> = { kind: "absent" };
  /** What reads show that are not confirmed, where that is something else. */
  lagging: Exclude<ShardView, { kind: "unread" }> | undefined;
  election: ElectionEntry[] = [];
  /** Reads never end. */
  hangs = false;
  reads = 0;
  confirmedReads = 0;
  readonly announced: Announcement[] = [];
  left = 0;
  readonly writes: { state: ShardState; version: number | undefined }[] = [];
  write: (state: ShardState, signal: AbortSignal | undefined) => Promise<WriteOutcome> = async (state) => {
    this.set(state);
    return { kind: "yes", results: [] };
  };
  readonly #watchers = new Set<() => void>();

  set(state: ShardState): void {
    this.view = {
      kind: "document",
      state,
      version: this.view.kind === "document" ? this.view.version + 1 : 1,
      readAt: 0,
    };
  }

  fire(): void {
    for (const watcher of this.#watchers) watcher();
  }

  on(session: Session): ShardStore {
    const read = async <T>(value: () => T): Promise<T> => {
      if (this.hangs) await new Promise(() => {});
      if (session.status.kind !== "connected") throw storeError();
      return value();
    };
    return {
      session,
      path: "/manatee/1.test",
      prepare: () => read(() => undefined),
      readState: (options) => {
        this.reads++;
        if (options?.confirmed) this.confirmedReads++;
        return read(() => (options?.confirmed ? this.view : (this.lagging ?? this.view)));
      },
      readElection: () => read(() => this.election),
      announce: (peer, announcement) =>
        read(() => {
          this.announced.push(announcement);
          this.election = [
            ...this.election.filter((known) => known.peer.id !== peer.id),
            { peer, sequence: this.announced.length, announcement },
          ];
          return announcement;
        }),
      leave: () =>
        read(() => {
          this.left++;
          this.election = this.election.filter(({ peer }) => peer.id !== SELF.id);
        }),
      writeState: ({ state, version, signal }) => {
        this.writes.push({ state, version });
        return this.write(state, signal);
      },
      readHistory: () => read(() => []),
      trimHistory: () => read(() => 0),
      watch: (listener) => {
        this.#watchers.add(listener);
        return () => this.#watchers.delete(listener);
      },
    };
  }
}

export class FakeCoordination implements Coordination {
  readonly description = "fake store";
  readonly sessions: FakeSession[] = [];
  readonly resumed: (SessionTicket | undefined)[] = [];
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Takes up the session that the ticket names, as a store does that still has it. */
  open({ resume }: { sessionTimeoutMs: number; resume?: SessionTicket }): FakeSession {
    const session = new FakeSession(resume?.sessionId ?? `session-${this.sessions.length + 1}`, this.#clock);
    this.sessions.push(session);
    this.resumed.push(resume);
    return session;
  }

  get newest(): FakeSession {
    return this.sessions.at(-1) as FakeSession;
  }
}

export const OPEN: PostgresSettings = { syncNames: [OTHER.pgUrl], gate: "open", upstream: null };

export function primaryServer(settings: PostgresSettings = OPEN): PrimaryServer {
  return {
    kind: "primary",
    since: 0,
    wal: { past: [], timeline: 1, end: lsn(0x3000100n) },
    recoveredEnd: lsn(0x3000000n),
    commitsWait: true,
    settings,
    walsenders: [],
    marker: undefined,
    clientSessions: 0,
    cannotGoOn: undefined,
  };
}

const REPORT: PostgresReport = {
  healthy: true,
  error: null,
  lastCheck: "2026-01-01T00:00:00.000Z",
  version: "17.2",
  state: "primary",
  job: null,
  gate: "open",
  syncNames: [OTHER.pgUrl],
  lineage: "1",
  timeline: 1,
  walEnd: "0/3000100",
  replayed: null,
  lagSeconds: null,
  receiver: null,
  clientSessions: 0,
  replication: [],
  forksKept: 0,
  waitingCommits: null,
  cancelledWaits: 0,
  inDoubt: null,
  warnings: [],
};

export class FakePostgres implements PostgresServer {
  observation: PostgresObservation = {
    data: {
      kind: "present",
      mark: {
        shard: "1.test",
        incarnation: "data-of-zone-1",
        claim: undefined,
        founding: false,
        incomplete: false,
        source: undefined,
        lastDocument: undefined,
      },
      systemIdentifier: "7000000000000000001",
      controlState: "production",
      lineage: { past: [], timeline: 1 },
      checkpoint: lsn(0x3000000n),
      standbySignal: false,
    },
    server: primaryServer(),
    job: undefined,
    failure: undefined,
    forks: [],
    canRollBack: false,
  };
  observed = 0;
  readonly performed: PostgresAction[] = [];
  readonly applied: PostgresSettings[] = [];
  readonly remembered: { version: number; json: string }[] = [];
  cancelled = 0;
  closed: "leave" | "fast" | undefined;
  /** Settings and actions fail with it. */
  failing: Error | undefined;
  /** What the server shows after settings were applied. */
  obeys = true;
  report = async (): Promise<PostgresReport> => REPORT;
  readonly #listeners = new Set<() => void>();

  fire(): void {
    for (const listener of this.#listeners) listener();
  }

  async observe(): Promise<PostgresObservation> {
    this.observed++;
    return this.observation;
  }

  takeInFiles(): void {}

  async applySettings(settings: PostgresSettings): Promise<void> {
    this.applied.push(settings);
    if (this.failing) throw this.failing;
    if (this.obeys) this.observation = { ...this.observation, server: primaryServer(settings) };
  }

  async perform(action: PostgresAction): Promise<void> {
    this.performed.push(action);
    if (this.failing) throw this.failing;
  }

  async cancelJob(): Promise<void> {
    this.cancelled++;
  }

  async rememberDocument(document: { version: number; json: string }): Promise<void> {
    this.remembered.push(document);
    const { data } = this.observation;
    if (data.kind === "present" && data.mark)
      this.observation = { ...this.observation, data: { ...data, mark: { ...data.mark, lastDocument: document } } };
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(how: "leave" | "fast"): Promise<void> {
    this.closed = how;
  }
}
