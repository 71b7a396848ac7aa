// What the driver itself refuses, in the same words everywhere.

import { storageError } from "../errors.ts";
import { formatSnapshot } from "../names.ts";
import type { DatasetName, SnapshotName } from "../port.ts";

export function noDataset(dataset: DatasetName): Error {
  return storageError("STORAGE_NO_DATASET", `there is no dataset ${dataset}`);
}

export function noSnapshot(snapshot: SnapshotName): Error {
  return storageError("STORAGE_NO_SNAPSHOT", `there is no snapshot ${formatSnapshot(snapshot)}`);
}

export function snapshotExists(snapshot: SnapshotName): Error {
  return storageError("STORAGE_EXISTS", `${formatSnapshot(snapshot)} exists already`);
}

export function heldBy(snapshot: SnapshotName, holds: readonly string[]): Error {
  return storageError("STORAGE_HELD", `${formatSnapshot(snapshot)} is held by ${holds.join(", ")}`);
}
