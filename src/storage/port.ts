// Where a data directory lives, as services will see it: datasets that can be snapshotted, sent and received. No driver stands behind it yet; the
// sitter copies by base backup meanwhile (postgres/real). It carries bytes and names and knows nothing of shards.

import type { Bytes, Ms } from "../base/units.ts";

/** A name like `tank/manatee/pg`; drivers validate it, and never pass it through a shell. */
export type DatasetName = string;

export interface Snapshot {
  readonly dataset: DatasetName;
  /** Behind the `@`; the original's are milliseconds since the epoch. */
  readonly name: string;
  readonly createdWallMs: number;
  /** Why it was taken, at which WAL position, in which role and generation: properties of ours. */
  readonly properties: Readonly<Record<string, string>>;
  /** Names of holds: a held snapshot can't be destroyed. */
  readonly holds: readonly string[];
}

export interface Progress {
  readonly done: Bytes;
  /** undefined: the driver can't tell beforehand. */
  readonly expected: Bytes | undefined;
  readonly elapsedMs: Ms;
}

/** What every driver must offer. Rejects with a ManateeError: busy (after a bounded retry), no space, no such snapshot, not permitted (with the right to give), newer snapshots in the way. */
export interface Storage {
  readonly description: string;
  snapshot(options: {
    dataset: DatasetName;
    name: string;
    properties: Readonly<Record<string, string>>;
  }): Promise<Snapshot>;
  list(dataset: DatasetName): Promise<readonly Snapshot[]>;
  hold(snapshot: Snapshot, tag: string): Promise<void>;
  release(snapshot: Snapshot, tag: string): Promise<void>;
  destroy(snapshot: Snapshot): Promise<void>;
  /** The dataset's content becomes the snapshot's; newer snapshots are in the way. */
  rollback(snapshot: Snapshot): Promise<void>;
  /** A writable copy that shares its blocks. */
  clone(snapshot: Snapshot, target: DatasetName): Promise<void>;
  /** `from`: only what changed since. An abort ends the stream; what the receiver has is then worth nothing, or can be resumed. */
  send(options: {
    snapshot: Snapshot;
    from?: Snapshot;
    signal: AbortSignal;
    onProgress?: (progress: Progress) => void;
  }): AsyncIterable<Uint8Array>;
  receive(options: { dataset: DatasetName; stream: AsyncIterable<Uint8Array>; signal: AbortSignal }): Promise<Snapshot>;
  space(dataset: DatasetName): Promise<{ used: Bytes; free: Bytes }>;
}
