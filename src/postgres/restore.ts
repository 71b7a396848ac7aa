// Putting the data of this host's peer back to one of its snapshots, offline (O2). Its sitter must not run; the shard goes on with it only when a document says so.

import type { WalPoint } from "../base/lineage.ts";
import type { Lsn } from "../base/lsn.ts";
import type { Ms } from "../base/units.ts";
import type { ClonePlace, CloneSource } from "./clones.ts";

/** Where to: up to there, by the WAL that this peer still has. */
export type RestoreTarget =
  | { readonly kind: "lsn"; readonly lsn: Lsn }
  /** The last commit at that time, or before. */
  | { readonly kind: "time"; readonly wallMs: number };

export interface RestorePlace extends ClonePlace {
  readonly forks: readonly string[];
}

/** As a server that was restored showed it. */
export interface RestoreEnd extends WalPoint {
  readonly systemIdentifier: string;
  /** Of the last commit that it replayed; undefined: it replayed none. */
  readonly lastCommitWallMs: number | undefined;
}

export interface RestoreWish {
  readonly snapshot: CloneSource;
  readonly to: RestoreTarget | undefined;
  readonly onStep: (text: string) => void;
}

/** Each call rejects with a ManateeError: `RESTORE_NO_STORAGE`, `RESTORE_REFUSED`, `RESTORE_NOT_REACHED`, `CLONE_NOT_OWNER`, `CLONE_NOT_STARTED`, `SNAPSHOT_LEADS_OUT`, and those of the storage. */
export interface Restores {
  place(): Promise<RestorePlace>;
  /** Restores it to a copy that is thrown away. The peer is not touched, and may run. */
  try(wish: RestoreWish & { limitMs: Ms }): Promise<RestoreEnd>;
  /** Keeps this peer's sitter from starting. Errors: `SITTER_ALREADY_RUNNING`. */
  hold(): Promise<{ release(): void }>;
  /**
   * Puts it, up to that end, in the place of the peer's data, under that incarnation. What was there stays whole; resolves with where. Until it begins to take the place
   * nothing is touched; cut short after that, another call, or the sitter, ends it.
   */
  putBack(wish: RestoreWish & { end: RestoreEnd; incarnation: string; forksMax: number }): Promise<{ kept: string }>;
}
