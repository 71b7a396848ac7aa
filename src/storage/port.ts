// Where a data directory lives: datasets that can be snapshotted, cloned, sent and received. Drivers: zfs/, btrfs/, directory/; one contract
// suite holds them to the same behaviour. It carries bytes, names and properties, and knows nothing of shards: what they mean stands in snapshots/.

import type { Bytes, Ms } from "../base/units.ts";

/** A path of names, as `tank/manatee/pg`: each `[A-Za-z0-9][A-Za-z0-9_.:-]*`, 200 characters at most in all. Validated by every driver, never passed through a shell. */
export type DatasetName = string;

/** User properties: names like `manatee:lsn`, values of printable ASCII, 1024 characters at most. */
export type Properties = Readonly<Record<string, string>>;

export interface Dataset {
  readonly name: DatasetName;
  /** Where its content is when it is mounted, or would be. */
  readonly folder: string;
  readonly mounted: boolean;
  /** The snapshot that it is a clone of and depends on. */
  readonly origin: SnapshotName | undefined;
  readonly properties: Properties;
}

export interface SnapshotName {
  readonly dataset: DatasetName;
  /** Behind the `@`, `[A-Za-z0-9][A-Za-z0-9_.:-]*`; the original's are milliseconds since the epoch. */
  readonly name: string;
}

export interface Snapshot extends SnapshotName {
  /** The same on every copy of it that was sent and received: tells which snapshots two peers share. */
  readonly guid: string;
  readonly createdWallMs: number;
  readonly properties: Properties;
  /** Tags of holds: a held snapshot can't be destroyed. */
  readonly holds: readonly string[];
  /** Freed by destroying it alone; undefined: the driver can't tell. */
  readonly ownBytes: Bytes | undefined;
  /** Of the content it shows; undefined: the driver can't tell. */
  readonly referencedBytes: Bytes | undefined;
}

export interface Progress {
  readonly done: Bytes;
  /** undefined: not known beforehand. */
  readonly expected: Bytes | undefined;
  readonly elapsedMs: Ms;
}

/** What this machine's storage can do, found by asking it. */
export interface Capabilities {
  /** A snapshot shows one instant of the whole dataset: a server that runs on it meanwhile recovers from it. false: stopped, or in backup mode, only. */
  readonly atomic: boolean;
  /** Snapshots and clones share their blocks: they cost no time and no space that grows with the data. */
  readonly shared: boolean;
  readonly incremental: boolean;
  /** A receive that broke off can go on from a token. */
  readonly resume: boolean;
  /** Names the format of `send`: a stream is received by a driver of the same format only. */
  readonly format: "zfs" | "btrfs" | "tar";
}

/**
 * What every driver offers. Every call rejects with a ManateeError: STORAGE_BUSY (after a bounded retry), STORAGE_NO_SPACE, STORAGE_NO_DATASET,
 * STORAGE_NO_SNAPSHOT, STORAGE_EXISTS, STORAGE_NOT_PERMITTED (naming the right to give), STORAGE_NEWER_SNAPSHOTS, STORAGE_HELD, STORAGE_HAS_CLONES,
 * STORAGE_BAD_NAME, STORAGE_BAD_STREAM, STORAGE_UNAVAILABLE (program or pool gone or suspended), STORAGE_FAILED (anything else, with what the program said).
 */
export interface Storage {
  /** For people: `ZFS (zfs-fuse 0.7.0)`. */
  readonly description: string;
  capabilities(): Promise<Capabilities>;

  /** undefined: there is none of that name. */
  look(dataset: DatasetName): Promise<Dataset | undefined>;
  /** Those below it, at any depth, without itself. */
  children(dataset: DatasetName): Promise<readonly Dataset[]>;
  /** Empty, mounted, owned by the user of this process. */
  create(dataset: DatasetName, options?: { properties?: Properties }): Promise<Dataset>;
  /** At that folder, which it then keeps; without one, at its own. Drivers whose folders follow from names admit no other. Idempotent. */
  mount(dataset: DatasetName, folder?: string): Promise<Dataset>;
  /** Idempotent. */
  unmount(dataset: DatasetName): Promise<void>;
  /** Sets these, leaves the others; `undefined` removes one. */
  setProperties(
    target: DatasetName | SnapshotName,
    properties: Readonly<Record<string, string | undefined>>,
  ): Promise<void>;
  /** Its snapshots go along, and clones of them stay clones. The renamed one is not mounted, and is not by itself at the machine's start. */
  rename(from: DatasetName, to: DatasetName): Promise<void>;
  /** With its snapshots; refused where one is held or has clones. Idempotent. */
  destroyDataset(dataset: DatasetName): Promise<void>;

  /** `recursive`: of the children as well, at the same instant (where `atomic`). Durable when it resolves. */
  snapshot(options: SnapshotName & { properties: Properties; recursive?: boolean }): Promise<Snapshot>;
  /** Oldest first. */
  snapshots(dataset: DatasetName): Promise<readonly Snapshot[]>;
  /** Idempotent. */
  hold(snapshot: SnapshotName, tag: string): Promise<void>;
  /** Idempotent. */
  release(snapshot: SnapshotName, tag: string): Promise<void>;
  destroySnapshot(snapshot: SnapshotName): Promise<void>;
  /** The dataset's content becomes the snapshot's. `destroyNewer`: newer snapshots, which are in the way, go; otherwise STORAGE_NEWER_SNAPSHOTS. */
  rollback(snapshot: SnapshotName, options: { destroyNewer: boolean }): Promise<void>;
  /** A writable copy that shares its blocks where it can; not mounted. */
  clone(snapshot: SnapshotName, target: DatasetName, options?: { properties?: Properties }): Promise<void>;
  /** Turns the dependence of a clone around: its origin, and what is older, become the clone's own snapshots. Nothing to do where clones don't depend. */
  promote(dataset: DatasetName): Promise<void>;

  /** Bytes that `send` would send; undefined: the driver can't tell. */
  estimate(snapshot: SnapshotName, from?: SnapshotName): Promise<Bytes | undefined>;
  /** `from`: only what changed since. `resumeToken`: goes on where a receiver broke off (then `snapshot` and `from` are the token's own). An abort ends it. */
  send(options: {
    snapshot: SnapshotName;
    from?: SnapshotName;
    resumeToken?: string;
    signal: AbortSignal;
  }): AsyncIterable<Uint8Array>;
  /**
   * Into a dataset that doesn't exist yet, or, for a stream `from` a snapshot, one that has that snapshot as its newest. Not mounted. Resolves with the snapshot that
   * came, when it is durable. Cut short, nothing bears the name (or, resumable: see `resumeToken`). Properties of the sender's snapshots don't come along.
   */
  receive(options: {
    dataset: DatasetName;
    stream: AsyncIterable<Uint8Array>;
    signal: AbortSignal;
    /** Keep what came before a break, to go on from. */
    resumable?: boolean;
  }): Promise<Snapshot>;
  /** Of a receive into that dataset that was cut short; undefined: there is none, or the driver can't. */
  resumeToken(dataset: DatasetName): Promise<string | undefined>;
  /** Throws away what a cut-short receive has left. Idempotent. */
  abandonReceive(dataset: DatasetName): Promise<void>;

  /** Of the dataset with its snapshots, and what is free where it lies. */
  space(dataset: DatasetName): Promise<{ used: Bytes; free: Bytes }>;
}
