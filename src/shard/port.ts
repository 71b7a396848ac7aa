// The shard's place in the store, as services see it: `state`, `election/`, `history/` below the shard's path.

import type { Announcement, ElectionEntry, ShardView } from "../cluster/observation.ts";
import type { PeerAddress, ShardState } from "../cluster/state.ts";
import type { NodePath, Session, WriteOutcome } from "../coordination/port.ts";

/** One entry of the history, oldest first by sequence. A document that can't be read stands as `raw` only. */
export interface HistoryEntry {
  readonly sequence: number;
  /** Node name below `history/`. */
  readonly name: string;
  /** Wall clock of the store at which it was written. */
  readonly writtenWallMs: number;
  readonly state: ShardState | undefined;
  readonly raw: string;
}

/** On one session, which it does not own. Rejections are those of {@link Session}. */
export interface ShardStore {
  readonly session: Session;
  /** `/manatee/NAME`, without a trailing slash. */
  readonly path: NodePath;

  /** Makes the folders (`path`, `election`, `history`), with the configured ACL. Idempotent. */
  prepare(): Promise<void>;

  readState(options?: { confirmed?: boolean; signal?: AbortSignal }): Promise<Exclude<ShardView, { kind: "unread" }>>;

  /** Sorted by sequence; of several nodes of one id only the highest. Nodes that are not peers' are left out. */
  readElection(options?: { signal?: AbortSignal }): Promise<readonly ElectionEntry[]>;

  /**
   * Makes this session's election node, or sets its data, so that exactly one node of this session carries the announcement:
   * a create whose answer was lost is found again by its owner, never made twice; nodes that this peer's id left behind in a
   * *former* session are deleted once ours is there. Returns what the store now has.
   */
  announce(peer: PeerAddress, announcement: Announcement): Promise<Announcement>;

  /** Deletes this session's election node. */
  leave(): Promise<void>;

  /**
   * Writes the state, conditional on the version (undefined: there is none yet; then `state` is created and set in one
   * transaction, so that its version is never 0), with its history entry in the same transaction. Fills in `written`.
   */
  writeState(change: {
    state: ShardState;
    version: number | undefined;
    /**
     * Of a restore: versions go on above that of a document that was lost, so that no write that was conditional on one of its versions
     * fits the new one. At most 10,000 at once, more than any shard's changes.
     */
    versionAbove?: number;
    by: string;
    signal?: AbortSignal;
  }): Promise<WriteOutcome>;

  /** Oldest first. `limit`: the newest so many. `above`: only those of a greater sequence. */
  readHistory(options?: { limit?: number; above?: number; signal?: AbortSignal }): Promise<readonly HistoryEntry[]>;

  /** Deletes the oldest entries beyond `keep`, a bounded number at a time. */
  trimHistory(options: { keep: number }): Promise<number>;

  /** Calls whenever state, the election's list, or the data of an election node may have changed. Returns how to stop. */
  watch(listener: () => void): () => void;
}
