// What a peer knows at one moment: everything `decide` may look at. Plain data; who fills it in, and how, is the sitter's business.

import type { Lineage, Wal, WalPoint } from "../base/lineage.ts";
import type { Lsn } from "../base/lsn.ts";
import type { PeerId } from "../base/peer-id.ts";
import type { Ms } from "../base/units.ts";
import type { RebuildWish } from "./rejoin-way.ts";
import { type Incarnation, membersOf, type PeerAddress, type ShardState } from "./state.ts";
import type { Tags } from "./tags.ts";

export interface Observation {
  /** Monotonic clock. */
  readonly now: Ms;
  /** Wall clock, milliseconds since the epoch: for dates in the document and the expiry of an operator's request only. */
  readonly wallMs: number;
  /** A random name, new in each observation: used where a new incarnation or a token is called for. */
  readonly nonce: string;
  readonly shard: string;
  readonly self: PeerAddress;
  readonly policy: Policy;
  /** Of this peer, as configured now. */
  readonly tags?: Tags;
  readonly store: StoreObservation;
  readonly postgres: PostgresObservation;
  /** Evidence about other peers that are in the election or the state. */
  readonly peers: Readonly<Record<PeerId, PeerEvidence>>;
  /** R1.8: an operator asked for this peer to be rebuilt, and how. */
  readonly rebuildRequested?: RebuildWish | undefined;
}

/** What the operator chose; the same on all peers of a shard. Defaults stand in config/. */
export interface Policy {
  /** B1 with one peer: a shard of one, without a sync (O1). */
  readonly oneNodeWriteMode: boolean;
  /** T1 without an heir: go on alone, in one-node-write mode. */
  readonly takeoverAlone: boolean;
  /** R1: `manual` leaves a forked peer alone until `manatee-adm rebuild`. */
  readonly rejoin: "automatic" | "manual";
  /** B1: data without a shard's mark is taken as the shard's first content. */
  readonly adoptData: boolean;
  /** Forks kept beside the data directory at most; at the bound the peer waits for an operator (I5). */
  readonly forksKeptMax: number;
  /** D1: how long silence lasts before it counts. */
  readonly suspectMs: Ms;
  /** Bound of any wait inside a change (S1's and T1's steps, T2's and T3's claims). */
  readonly opsTimeoutMs: Ms;
  /** X1: how long a primary without sync and store keeps its clients. */
  readonly isolationMs: Ms;
  /** T2: abdications in an hour at most, counted by the takeovers in the state's history. */
  readonly takeoversPerHourMax: number;
  /** S1: an async this close behind (bytes of WAL) may become sync. */
  readonly syncLagBytesMax: number;
  /** B1: how many peers must be present before a shard of several is founded. */
  readonly bootstrapPeersMin: number;
}

export interface StoreObservation {
  /** `cut-off`: no connection, or no session. */
  readonly connection: { readonly kind: "connected" | "cut-off"; readonly since: Ms };
  readonly sessionTimeoutMs: Ms;
  readonly shard: ShardView;
  /** Sorted by sequence; of several nodes of one id only the one with the highest sequence. As last read. */
  readonly election: readonly ElectionEntry[];
  /** What this peer's own election node says, as the store confirmed it; undefined: no node of this session. */
  readonly announced: Announcement | undefined;
  /** The last write that was sent, and what became of it. */
  readonly lastWrite: { readonly token: string; readonly outcome: "sent" | "yes" | "no" | "unknown" } | undefined;
  /** Takeovers (T1) written in the last hour, by the history. */
  readonly takeoversLastHour: number;
}

export type ShardView =
  /** Not read since this sitter started. */
  | { readonly kind: "unread" }
  | { readonly kind: "absent" }
  /** A document that this version can't act on: malformed, or requiring a feature unknown here. */
  | { readonly kind: "unreadable"; readonly code: string; readonly message: string; readonly hint: string }
  /** `readAt`: when the read began that showed it. */
  | { readonly kind: "document"; readonly state: ShardState; readonly version: number; readonly readAt: Ms };

export interface ElectionEntry {
  readonly peer: PeerAddress;
  readonly sequence: number;
  /** undefined: an original sitter, which never gets into the chain. */
  readonly announcement: Announcement | undefined;
}

/** What a peer says of itself in its election node, beside its addresses. Written only when it changes. */
export interface Announcement {
  /** Of its data directory; undefined: it holds no data. */
  readonly incarnation: Incarnation | undefined;
  /** `none`: nothing; `marked`: this shard's mark; `foreign`: a database without a mark, or with another shard's. */
  readonly data: "none" | "marked" | "foreign";
  readonly systemIdentifier: string | undefined;
  readonly features: readonly string[];
  /** `following`: a standby of the shard that receives, or could receive, from its upstream. */
  readonly phase: "idle" | "restoring" | "diverged" | "following" | "primary";
  /** Of a primary: the generation that it has read and serves, and the history of its WAL (R1). */
  readonly serving: { readonly generation: number; readonly lineage: Lineage } | undefined;
  /** T3: it has shut down for this generation's request; whoever holds all up to this shutdown record may claim. */
  readonly handover: { readonly generation: number; readonly checkpoint: Lsn } | undefined;
  /** T2: its PostgreSQL is gone, and it gives this generation up. */
  readonly abdicates: number | undefined;
  /** S1: the primary asks this peer to receive from it directly, so that it can become sync. */
  readonly callsFor: PeerId | undefined;
  /** T1: of a sync that has stopped receiving: all its WAL. R1: whoever is ahead of it has forked from it. */
  readonly standing: Wal | undefined;
  /** As its operator has tagged it; an older sitter announces none. */
  readonly tags?: Tags | undefined;
}

/** D1/D2: what speaks for a peer being there. Times are of this peer's own last good moment. */
export interface PeerEvidence {
  /** Its sitter. `answers`: over its stream, or to the last question; `silent`: since its last word. */
  readonly sitter: { readonly kind: "answers" | "refused" | "silent" | "unknown"; readonly since: Ms };
  /** Its PostgreSQL's port. */
  readonly postgresPort: { readonly kind: "open" | "refused" | "silent" | "unknown"; readonly since: Ms };
  /** What its sitter said of its PostgreSQL in the last answer. */
  readonly postgresHealthy: boolean | undefined;
  /** Peers (other than this one) whose sitters say now that this peer is silent for them, too. */
  readonly alsoSilentFor: readonly PeerId[];
  /** How long silence lasts before it counts, as learned from its stream; undefined: there is none, and the policy's suspectMs counts. */
  readonly silenceLimitMs?: Ms;
  /** T2: the generation that it gives up, as it says over its stream. */
  readonly abdicates?: number;
}

// --- PostgreSQL of this peer

export interface PostgresObservation {
  readonly data: DataObservation;
  readonly server: ServerObservation;
  /** The long piece of work under way: one at a time. */
  readonly job: Job | undefined;
  /** The last action on PostgreSQL that failed, until one of the same kind succeeds. */
  readonly failure: Failure | undefined;
  /** Names of the forks kept aside, complete ones only (I5). */
  readonly forks: readonly string[];
  /** R1: the data lies on storage whose snapshots cost nothing; whether one of them serves is seen when it is tried. */
  readonly canRollBack: boolean;
}

export interface Job {
  readonly kind: "initdb" | "start" | "stop" | "promote" | "copy" | "roll-back" | "rewind" | "keep-fork";
  readonly since: Ms;
  /** For people: `1.2 of 4.0 GB`. */
  readonly progress: string | undefined;
}

export interface Failure {
  readonly action: string;
  readonly code: string;
  readonly message: string;
  readonly hint: string;
  readonly at: Ms;
  /** In a row. */
  readonly count: number;
}

export type DataObservation =
  /** No directory, or an empty one. */
  | { readonly kind: "none" }
  /** There, but not usable: other major version, wrong owner or mode, a copy that was cut short, not a data directory. */
  | {
      readonly kind: "unusable";
      readonly code: string;
      readonly message: string;
      readonly hint: string;
      readonly mark: DataMark | undefined;
    }
  | {
      readonly kind: "present";
      /** undefined: a database that no Manatee has touched. */
      readonly mark: DataMark | undefined;
      readonly systemIdentifier: string;
      /** Of the control file. `production`: running as primary, or crashed as one; `shutdown`: stopped cleanly as a primary. */
      readonly controlState: "production" | "shutdown" | "recovery" | "other";
      /** The lineage that control file and history files show (of the newest timeline that the control file knows of). */
      readonly lineage: Lineage;
      /** Where the latest checkpoint record begins. */
      readonly checkpoint: Lsn;
      readonly standbySignal: boolean;
    };

/** Stands in the data directory (`manatee.json`), durable. */
export interface DataMark {
  readonly shard: string;
  readonly incarnation: Incarnation;
  /** T1: a claim on this version may be on its way; set before it is sent, and cleared when a newer version was read. */
  readonly claim: { readonly version: number } | undefined;
  /** Made by initdb for generation 1, which is not written yet. */
  readonly founding: boolean;
  /** An operator's database, adopted to found the shard with (B1): never worth nothing, whoever founds it. */
  readonly adopted?: boolean;
  /** A copy, a roll-back or a rewind is under way, or was cut short: the content is not a database until it ends. */
  readonly incomplete: boolean;
  /** R1: where that copy came from; after a rewind or a roll-back it receives from there first. */
  readonly source: PeerId | undefined;
  /** R1: as which fork the content is to be kept (or was, before this peer crashed), and where its WAL ends. Content that ends elsewhere is another one. */
  readonly leaving?: { readonly fork: string; readonly end: WalPoint };
  /** The durable copy of the last document that this peer saw (B1). */
  readonly lastDocument: { readonly version: number; readonly json: string } | undefined;
}

/** undefined: no data, or data without a mark that can be read. */
export function markOf(data: DataObservation): DataMark | undefined {
  return data.kind === "none" ? undefined : data.mark;
}

/**
 * Whether this is data made by initdb for generation 1, which no document names: nothing was ever acknowledged on it. Once a document has named it,
 * it is data like any other, whatever the mark says.
 */
export function isFounding(mark: DataMark | undefined, state: ShardState | undefined): boolean {
  if (!mark?.founding) return false;
  if (mark.lastDocument?.json.includes(mark.incarnation)) return false;
  return !(state && membersOf(state).some((peer) => peer.incarnation === mark.incarnation));
}

export type ServerObservation =
  /** `exited`: by itself, while it should have run (T2). `since`: when that was seen. */
  | { readonly kind: "stopped"; readonly since: Ms; readonly how: "not-started" | "stopped" | "exited" }
  /** Not accepting connections yet: recovery, or a standby before consistency. */
  | { readonly kind: "starting"; readonly since: Ms }
  /** The process is there and does not answer (hung, stopped, overloaded). */
  | { readonly kind: "unresponsive"; readonly since: Ms; readonly reason: string }
  | PrimaryServer
  | StandbyServer;

/** The server, where it answers; undefined: none does. */
export function answeringServer(server: ServerObservation): PrimaryServer | StandbyServer | undefined {
  return server.kind === "primary" || server.kind === "standby" ? server : undefined;
}

/** Whether it answers, and can go on: what a sitter tells the others of its PostgreSQL. */
export function isHealthy(server: ServerObservation): boolean {
  return server.kind === "standby" || (server.kind === "primary" && server.cannotGoOn === undefined);
}

export interface PrimaryServer {
  readonly kind: "primary";
  readonly since: Ms;
  /** Lineage, and the flush position. */
  readonly wal: Wal;
  /** P1: the end of the WAL that it recovered or began; what required standbys must have flushed before the gate opens. */
  readonly recoveredEnd: Lsn;
  /** The checkpointer is in its main loop: from then on commits wait for standbys. */
  readonly commitsWait: boolean;
  /** Settings as in force, not as written. */
  readonly settings: PostgresSettings;
  readonly walsenders: readonly Walsender[];
  /** The last WAL record written for S1: flushed position behind it. */
  readonly marker: { readonly token: string; readonly lsn: Lsn } | undefined;
  /** Commits whose wait for standbys was cancelled since this server's start lie before this point; undefined: none is known. The sync may not have them. */
  readonly cancelledUpTo?: WalPoint | undefined;
  /** Client sessions (not the sitter's, not replication). */
  readonly clientSessions: number;
  /** Disk full, read-only or the like, seen in the log since the start. */
  readonly cannotGoOn: string | undefined;
}

export interface StandbyServer {
  readonly kind: "standby";
  readonly since: Ms;
  /** Lineage, and the end of what is flushed and (once local WAL is exhausted) replayed. */
  readonly wal: Wal;
  readonly replayed: Lsn;
  /** All WAL that is here has been replayed: `wal.end` is the position (not before). */
  readonly caughtUpLocally: boolean;
  readonly replayPaused: boolean;
  /**
   * Behind `replayed` lies only the first part of a record, and that goes on in a later segment: PostgreSQL asks its upstream for WAL from that segment on,
   * which one that has left the timeline before can't send.
   */
  readonly partialRecord: boolean;
  readonly settings: PostgresSettings;
  /** The upstream that has said, more than once, that it has removed the WAL that comes next here. */
  readonly walGoneAt?: PeerId | undefined;
  /** Whatever receives or is about to (a connecting walreceiver, too). */
  readonly receiver: Receiver;
  readonly walsenders: readonly Walsender[];
  readonly clientSessions: number;
}

export type Receiver =
  | { readonly kind: "none" }
  | { readonly kind: "connecting"; readonly pid: number }
  /** `silentMs`: since the last message from upstream. */
  | {
      readonly kind: "streaming";
      readonly pid: number;
      readonly from: { readonly host: string; readonly port: number };
      readonly silentMs: Ms;
    };

export interface Walsender {
  /** `application_name`: a peer's pgUrl. */
  readonly name: string;
  readonly pid: number;
  readonly clientAddress: string | undefined;
  readonly state: "startup" | "catchup" | "streaming" | "backup" | "stopping";
  readonly sent: Lsn | undefined;
  readonly flush: Lsn | undefined;
  readonly replay: Lsn | undefined;
  /** Since the standby's last report (it reports each second); undefined: not known. */
  readonly silentMs?: Ms | undefined;
  /** As this walsender has applied `synchronous_standby_names`: 0 when it is not in the list. */
  readonly syncPriority: number;
}

/** What must hold of a running server; applied by writing our files and a reload, checked afterwards. */
export interface PostgresSettings {
  /**
   * `application_name`s that every commit waits for, in order (`FIRST n (…)` of all of them). Empty: nothing waits (O1 only).
   * Standbys and starting servers carry {@link NOBODY}.
   */
  readonly syncNames: readonly string[];
  /** P1, by pg_hba: `closed` admits replication and the sitter only. */
  readonly gate: "open" | "closed";
  /** Of a standby: from whom it receives; null: from nobody. Ignored by a primary. */
  readonly upstream: PeerAddress | null;
}

/** A name that no standby bears: a server that waits for it acknowledges nothing. */
export const NOBODY = "manatee-nobody";
