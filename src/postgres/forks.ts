// The forks that a peer keeps, as an operator sees them.

import type { Lsn, Timeline } from "../base/lsn.ts";
import type { Bytes } from "../base/units.ts";

/** A fork: WAL that a peer had and the shard had not, kept with all of its data (I5). */
export interface KeptFork {
  readonly name: string;
  /** `folder`: a copy; `snapshot`: of the dataset, or of a fork of it; `dataset`: what was there before, whole. */
  readonly kind: "folder" | "snapshot" | "dataset";
  /** A path, or a name in the storage. */
  readonly place: string;
  /** undefined: not known. */
  readonly keptWallMs: number | undefined;
  /** What removing it frees; undefined: the storage can't tell. */
  readonly ownBytes: Bytes | undefined;
}

export interface ForkContent {
  readonly timeline: Timeline;
  /** Where it left the shard's WAL. */
  readonly fork: Lsn;
  /** Behind it, in the order of the WAL. */
  readonly commits: readonly ForkCommit[];
}

export interface ForkCommit {
  readonly xid: string;
  /** `X/Y` */
  readonly lsn: string;
  /** As the server wrote it. */
  readonly committedAt: string;
}

/** Each call rejects with a ManateeError: `PG_FORK_UNKNOWN`, `PG_FORK_UNREADABLE`, `PG_FORK_IN_USE`, and those of the storage. */
export interface Forks {
  /** By name. */
  list(): Promise<readonly KeptFork[]>;
  /** Transactions that the shard does not have. */
  content(name: string): Promise<ForkContent>;
  /** It is gone, with all that it held. */
  drop(name: string): Promise<void>;
}
