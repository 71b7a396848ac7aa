// What a peer should do next, as data. One step at a time: the order of a change (S1's three steps, T1's stop → claim → promote →
// amend) is kept because each step is decided only when the effect of the one before it is *observed*.

import type { WalPoint } from "../base/lineage.ts";
import type { Timeline } from "../base/lsn.ts";
import type { PeerId } from "../base/peer-id.ts";
import type { Ms } from "../base/units.ts";
import type { Announcement, DataMark, PostgresSettings } from "./observation.ts";
import type { RejoinWay } from "./rejoin-way.ts";
import type { Incarnation, PeerAddress, ShardState } from "./state.ts";

/** Numbered in docs/protocol.md. */
export type RuleName =
  | "B1"
  | "S1"
  | "A1"
  | "A2"
  | "T1"
  | "T2"
  | "T3"
  | "O1"
  | "O2"
  | "P1"
  | "D1"
  | "D2"
  | "X1"
  | "R1"
  | "Z1"
  | "F1"
  | "FENCE"
  | "RESUME";

export interface Decision {
  readonly rule: RuleName;
  /** One sentence, lower case: why this is done, or why nothing is. */
  readonly because: string;
  /** What has to happen outside before it goes on; undefined where nothing is waited for. */
  readonly waitingOn: string | undefined;
  /** Where only an operator's command leads on: that command. */
  readonly operator: string | undefined;
  /** What this peer's election node should say. Applied first. undefined: no node of ours should be there, or leave it as it is while cut off. */
  readonly announce: Announcement | undefined;
  /** Settings of the running server. Applied after `announce` and before `action`. undefined: leave them as they are. */
  readonly settings: PostgresSettings | undefined;
  /** The one thing to do. Done only if `settings` could be applied. */
  readonly action: Action | undefined;
  /** Ends the job under way. */
  readonly cancelJob: boolean;
  readonly memory: Memory;
  /** At the latest after this time, without any event. */
  readonly lookAgainAfterMs: Ms;
}

export type Action = StoreAction | PostgresAction;

/** A compare-and-set of the state; nothing is inferred from its outcome but through the next observation. */
export interface StoreAction {
  readonly kind: "write";
  readonly state: ShardState;
  /** The version it is conditional on; undefined: there is none yet (B1). */
  readonly version: number | undefined;
  /** Names this write in {@link Observation}'s `store.lastWrite`. */
  readonly token: string;
}

export type PostgresAction =
  /** Long: initdb with checksums into an empty directory, marked with this incarnation (founding). */
  | { readonly kind: "initdb"; readonly incarnation: Incarnation }
  /** Writes the mark into data that had none (B1, adopted by configuration). */
  | { readonly kind: "adopt-data"; readonly incarnation: Incarnation }
  /**
   * Long: starts the server. `standby` puts standby.signal in place first, and removes what is left of a promotion to
   * `unfinishedTimeline` that never began; `primary` demands that there is no standby.signal. `cutAfter`: WAL of that timeline behind that point, which must be
   * replayed up to there, is taken away.
   */
  | {
      readonly kind: "start";
      readonly as: "primary" | "standby";
      readonly settings: PostgresSettings;
      readonly unfinishedTimeline: Timeline | undefined;
      readonly cutAfter?: WalPoint | undefined;
    }
  /** `fast` waits for walsenders and writes a shutdown record; `immediate` writes nothing. Ends orphaned backends, too. */
  | { readonly kind: "stop"; readonly mode: "fast" | "immediate" }
  /** Long: to exactly this timeline: placeholders for every number up to it come first. */
  | { readonly kind: "promote"; readonly timeline: Timeline }
  /** Makes the mark of a claim durable, or takes it away. */
  | { readonly kind: "mark-claim"; readonly version: number | undefined }
  /**
   * S1: a WAL record of our own (a commit that waits for nobody), then the flush position behind it. `checkpoint`: one before it, which proves that the
   * checkpointer has taken in the list, without which nothing waits where there was none.
   */
  | { readonly kind: "write-marker"; readonly token: string; readonly checkpoint?: boolean }
  | { readonly kind: "end-walsender"; readonly pid: number }
  | { readonly kind: "end-receiver"; readonly pid: number }
  /** Sessions of clients; `because` is told in the log. */
  | { readonly kind: "end-clients" }
  | { readonly kind: "checkpoint" }
  /** R1, I5: makes a new incarnation durable in the data directory, before its content is touched. */
  | {
      readonly kind: "renew-incarnation";
      readonly incarnation: Incarnation;
      readonly leaving?: DataMark["leaving"] | undefined;
    }
  /** Long: keeps the present content aside, complete, under a name; needs a stopped server. Idempotent: a complete fork of that name stands. */
  | { readonly kind: "keep-fork"; readonly name: string }
  /**
   * Long: the newest snapshot before the fork takes the place of what is here, with this peer's own WAL up to the fork; what was here stays whole, aside, as
   * the fork of that name.
   * Needs a stopped server. The mark is incomplete from when it touches what is here until it has ended: a failure before has changed nothing.
   */
  | { readonly kind: "roll-back"; readonly from: PeerAddress; readonly fork: string }
  /** Long: pg_rewind against that peer; needs a stopped server. */
  | { readonly kind: "rewind"; readonly from: PeerAddress }
  /**
   * Long: a base backup of that peer into an empty directory, or in place of what is there (which must have been kept, or be
   * worth nothing). Marked with this incarnation, incomplete until it ends.
   */
  | { readonly kind: "copy"; readonly from: PeerAddress; readonly incarnation: Incarnation };

/** What a peer remembers from one decision to the next. Lost when the sitter restarts: then it must be safe without. */
export interface Memory {
  /** The version at which this sitter first read the document, or at which its server was lost: writes sent before may be conditional on it. */
  readonly startVersion: number | undefined;
  /** A version newer than `startVersion` was read: whatever was sent before has landed or never will. */
  readonly fenced: boolean;
  /** A write was sent on that version, whose end is not known until a newer version is read. */
  readonly sent:
    | {
        readonly version: number;
        readonly token: string;
        readonly what: "S1" | "T1" | "FENCE" | "other";
        readonly rule: RuleName;
        readonly at: Ms;
        /** It took the place of one whose outcome is unknown: only a newer version says that both have ended. */
        readonly doubtful: boolean;
      }
    | undefined;
  /** S1 under way. */
  readonly replacing: Replacing | undefined;
  /** T1 under way. */
  readonly takingOver: { readonly since: Ms } | undefined;
  /** T3 under way, on the primary. */
  readonly handingOver: { readonly since: Ms; readonly generation: number; readonly checkpointed: boolean } | undefined;
  /** T2: since when this generation is given up; `over`: nobody claimed it in time, it goes on in place. */
  readonly abdicating: { readonly since: Ms; readonly generation: number; readonly over: boolean } | undefined;
  /** R1: a fork was noticed. */
  readonly rejoining: Rejoining | undefined;
  /** Where this peer's WAL is to end when it starts again: see `partialRecord` of a standby. */
  readonly cutAfter: WalPoint | undefined;
  /** A copy was begun from that peer in that generation. */
  readonly copying: { readonly from: PeerId; readonly generation: number } | undefined;
  /** As primary: open to clients, with the sync streaming and qualified, when the server was last seen running. */
  readonly servedWithSync: boolean;
  /** A primary's server was seen running; when it is down, a newer version must be read before it starts again. */
  readonly ranAsPrimary: boolean;
  /** As standby: has received from its upstream since the server started. */
  readonly followed: boolean;
  /** X1: since when this primary has had neither its sync nor the store. */
  readonly isolatedSince: Ms | undefined;
  readonly waits: Waits;
}

/** Since when something has been so without a break; undefined: it is not. */
export interface Waits {
  /** As primary: the sync does not qualify. */
  readonly sync: Ms | undefined;
  /** As primary: there is a reason to replace the sync (S1). */
  readonly replace: Ms | undefined;
  /** As primary: a server receives that should not. */
  readonly stray: Ms | undefined;
  /** As standby: nothing is received, though an upstream is set. */
  readonly receiver: Ms | undefined;
  /** As standby: nothing is received. */
  readonly silent: Ms | undefined;
  /** As standby: receiving has not ended yet, though no upstream is set. */
  readonly stopping: Ms | undefined;
  /** Upstreams from which nothing could be received: passed over for a while. */
  readonly avoided: Readonly<Record<PeerId, Ms>>;
}

export const NO_WAITS: Waits = {
  sync: undefined,
  replace: undefined,
  stray: undefined,
  receiver: undefined,
  silent: undefined,
  stopping: undefined,
  avoided: {},
};

/**
 * `forked`: its WAL was seen to have left the other's: there is a point to go back to. `wal-gone`: all that is here the other has, and it has removed the WAL
 * that comes next: nothing has to be kept. `asked`: an operator's rebuild.
 */
export type RejoinReason = "forked" | "wal-gone" | "asked";

export interface Rejoining {
  readonly from: PeerId;
  /** On which version the raise was sent, when receiving had stopped, and its token. */
  readonly version: number;
  readonly token: string | undefined;
  /** The store has said yes to it: what was sent on older versions has ended. Data is touched from here on only. */
  readonly raised: boolean;
  /** The new name of the content, and under which name the old one is kept. */
  readonly incarnation: Incarnation;
  readonly fork: string;
  readonly why: RejoinReason;
  /** What has been begun on the data, and when; undefined: nothing yet. */
  readonly touched: { readonly by: RejoinWay; readonly at: Ms } | undefined;
}

export interface Replacing {
  /** Its address as well: it stays required while a write of S1 is unknown, also when it has left the election. */
  readonly candidate: PeerAddress;
  readonly since: Ms;
  /** The version that the write will be conditional on, read before the marker was written. */
  readonly version: number;
  readonly incarnation: Incarnation;
  readonly token: string;
}

export const NEW_MEMORY: Memory = {
  startVersion: undefined,
  fenced: false,
  sent: undefined,
  replacing: undefined,
  takingOver: undefined,
  handingOver: undefined,
  abdicating: undefined,
  rejoining: undefined,
  cutAfter: undefined,
  copying: undefined,
  servedWithSync: false,
  ranAsPrimary: false,
  followed: false,
  isolatedSince: undefined,
  waits: NO_WAITS,
};
