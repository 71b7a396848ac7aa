// The simulated world as plain data. Functions beside it (server.ts, store.ts, sitter.ts …) move it on; nothing here decides.

import type { Lsn, Timeline } from "../../src/base/lsn.ts";
import type { Ms } from "../../src/base/units.ts";
import type { Decision, Memory } from "../../src/cluster/decision.ts";
import type {
  Announcement,
  DataMark,
  ElectionEntry,
  Failure,
  Job,
  Observation,
  PeerEvidence,
  Policy,
  PostgresSettings,
  ShardView,
} from "../../src/cluster/observation.ts";
import type { RebuildWish } from "../../src/cluster/rejoin-way.ts";
import type { PeerAddress, ShardState } from "../../src/cluster/state.ts";
import type { Tags } from "../../src/cluster/tags.ts";
import type { Random } from "../random.ts";
import type { SimWal } from "./wal.ts";

/** `A` to `E`. */
export type PeerName = string;

export type Decide = (observation: Observation, memory: Memory) => Decision;

export interface World {
  now: Ms;
  readonly random: Random;
  readonly decide: Decide;
  readonly policy: Policy;
  sessionTimeoutMs: Ms;
  /** What happens next, soonest first. */
  readonly agenda: AgendaItem[];
  /** Numbers for everything that needs a unique one. */
  counter: number;
  readonly peers: SimPeer[];
  readonly store: SimStore;
  /** Broken connections, `A B` in order of the names. */
  readonly brokenLinks: Set<string>;
  readonly clients: SimClients;
  /** The story: decisions that changed, faults, events worth a line. */
  readonly journal: string[];
  readonly violations: string[];
  /** Something that the checkers look at has changed. */
  dirty: boolean;
  /** WAL has grown somewhere, and nothing else. */
  appended: boolean;
  /** Copies of data that faults took away (a replaced or emptied directory): I1 can't count on those. */
  lossesOfData: number;
  /** How often each rule and action was decided: shows that a test reached them. */
  readonly coverage: Map<string, number>;
}

export interface AgendaItem {
  readonly at: Ms;
  readonly order: number;
  readonly what: string;
  readonly run: () => void;
}

export interface SimPeer {
  readonly name: PeerName;
  readonly address: PeerAddress;
  /** Of its configuration. */
  tags: Tags | undefined;
  hostUp: boolean;
  data: SimData | undefined;
  readonly forks: SimFork[];
  /** Of its storage, oldest first; undefined: its data lies on a plain directory. */
  snapshots: SimSnapshot[] | undefined;
  server: SimServer | undefined;
  /** How the last server ended; meaningful while `server` is undefined. */
  stopped: { since: Ms; how: "not-started" | "stopped" | "exited" };
  sitter: SimSitter | undefined;
  /** The sitter's process is stopped (SIGSTOP). */
  paused: boolean;
  session: SimSession | undefined;
  /** Can't reach the store. */
  cutOff: boolean;
  readonly faults: ArmedFaults;
}

/** Faults that strike when their moment comes. */
export interface ArmedFaults {
  /** The next write's answer is lost. */
  loseAnswer: boolean;
  /** The next write is given up by its connection and lands this much later. */
  landLateMs: Ms | undefined;
  /** The next write is never sent: there was no room on the connection, or none at all. */
  refuseWrite: boolean;
  /** The next settings are written and reloaded, and reported as failed. */
  failSettings: boolean;
  /** All writes take this much longer. */
  delayWritesMs: Ms;
  /** What is read of the store is this old at least. */
  lagMs: Ms;
  crashInPromotion: boolean;
  /** The next copy, roll-back, rewind or keeping of a fork is cut short. */
  breakJob: boolean;
}

/** Taken of a crashed or running server alike: what it shows is WAL up to its end. */
export interface SimSnapshot {
  readonly systemIdentifier: string;
  readonly wal: SimWal;
}

export interface SimFork {
  readonly name: string;
  readonly wal: SimWal;
}

export interface SimData {
  mark: DataMark | undefined;
  systemIdentifier: string;
  controlState: "production" | "shutdown" | "recovery" | "other";
  wal: SimWal;
  standbySignal: boolean;
  /** A promotion to this timeline had begun (its history file lies there), and the timeline has not. */
  unfinished: Timeline | undefined;
  /** Of its WAL only what comes from this record on can be sent to others. */
  keptFrom?: number;
  /** Behind its WAL lies a part of a record that goes on in another segment. */
  partialRecord?: boolean;
  /** How content that can't be used came about. */
  cutShort: "initdb" | "copy" | "roll-back" | "rewind" | undefined;
}

export interface SimServer {
  readonly number: number;
  kind: "starting" | "primary" | "standby";
  since: Ms;
  /** The process is stopped (SIGSTOP). */
  frozen: boolean;
  settings: PostgresSettings;
  readonly senders: SimWalsender[];
  receiver: SimReceiver | undefined;
  sessions: number;
  recoveredEnd: Lsn;
  commitsWait: boolean;
  marker: { token: string; lsn: Lsn } | undefined;
  waiting: WaitingCommit[];
  /** Values that a reader with a session here would see. */
  visible: Set<string>;
  replayPaused: boolean;
  /** Where replay was paused. */
  replayedTo: Lsn | undefined;
  /** A fast stop is under way: no new commits. */
  stopping: boolean;
  /** standby.signal is gone, the new timeline has not begun. */
  promoting: boolean;
  cannotGoOn: string | undefined;
  /** The next attempt of its walreceiver is on the agenda. */
  connectScheduled: boolean;
  /** That upstream has removed the record that comes next, of this number. */
  walGone?: { readonly at: PeerName; readonly next: number } | undefined;
}

export interface WaitingCommit {
  readonly value: string;
  readonly end: Lsn;
}

export interface SimWalsender {
  readonly pid: number;
  readonly peer: PeerName;
  readonly connection: number;
  /** `synchronous_standby_names` as this walsender has applied it. */
  applied: readonly string[];
  flush: Lsn | undefined;
  sent: Lsn | undefined;
  connectedAt: Ms;
  /** Since when no report of its standby can come. */
  silentSince: Ms | undefined;
}

export interface SimReceiver {
  readonly pid: number;
  readonly upstream: PeerName;
  kind: "connecting" | "streaming";
  connection: number;
  /** Told to stop, and not yet gone. */
  ending: boolean;
  /** Since when nothing can come through. */
  silentSince: Ms | undefined;
  pumping: boolean;
}

export interface SimSitter {
  readonly number: number;
  memory: Memory;
  view: ShardView;
  election: readonly ElectionEntry[];
  electionVersion: number;
  takeoversLastHour: number;
  announced: Announcement | undefined;
  connected: boolean;
  connectionSince: Ms;
  lastWrite: { token: string; outcome: "sent" | "yes" | "no" | "unknown" } | undefined;
  job: SimJob | undefined;
  failure: Failure | undefined;
  readonly evidence: Map<PeerName, SimEvidence>;
  /** Between an observation and the end of what was decided on it. */
  busy: boolean;
  /** Something changed meanwhile. */
  again: boolean;
  lookAt: Ms | undefined;
  lastDecision: Decision | undefined;
  /** The decision as it was last told in the journal. */
  told: string;
  /** What it last told the others at once, over its streams. */
  pushed: string;
  rebuildRequested: RebuildWish | undefined;
}

export interface SimJob {
  readonly kind: Job["kind"];
  readonly number: number;
  readonly since: Ms;
}

export interface SimEvidence {
  sitter: PeerEvidence["sitter"];
  postgresPort: PeerEvidence["postgresPort"];
  postgresHealthy: boolean | undefined;
  abdicates: number | undefined;
  alsoSilentFor: readonly PeerName[];
}

export interface SimSession {
  readonly number: number;
  readonly peer: PeerName;
  alive: boolean;
  /** Ends the expiry that was scheduled before. */
  contact: number;
}

export interface SimStore {
  up: boolean;
  state: ShardState | undefined;
  version: number;
  readonly history: { readonly state: ShardState; readonly at: Ms }[];
  election: (ElectionEntry & { readonly session: number })[];
  /** Grows with each change of the election. */
  electionVersion: number;
  sequence: number;
  readonly sessions: SimSession[];
}

export interface SimClients {
  /** Acknowledged values, with the peer and the timeline that acknowledged. */
  readonly acknowledged: Map<string, { readonly peer: PeerName; readonly timeline: Timeline }>;
  /** Values that some reader saw. */
  readonly seen: Set<string>;
  /** What must never be lost: acknowledged or seen, and not forgiven. */
  readonly promised: Set<string>;
  /** Those that no checker has looked at yet. */
  readonly fresh: string[];
  /** Values given up by an operator's forced takeover or restored document. */
  readonly forgiven: Set<string>;
  /** After a forced takeover: only this peer's acknowledgements count until all have read it. */
  acceptedLossFor: PeerName | undefined;
  /** Which peer began, and acknowledged, on which timeline. */
  readonly acknowledgedOn: Map<Timeline, PeerName>;
  /** Writes by themselves, every so often. */
  writerEveryMs: Ms | undefined;
  written: number;
}
