// Names of datasets and snapshots: what drivers let through to programs and file systems.

import { isDatasetName, isSnapshotName } from "../base/dataset-name.ts";
import type { DatasetName, SnapshotName } from "./port.ts";
import { storageError } from "./errors.ts";

/** Errors: `STORAGE_BAD_NAME`. */
export function demandDataset(name: DatasetName): void {
  if (isDatasetName(name)) return;
  throw storageError("STORAGE_BAD_NAME", `${JSON.stringify(name)} is no name of a dataset`);
}

/** Errors: `STORAGE_BAD_NAME`. */
export function demandSnapshot({ dataset, name }: SnapshotName): void {
  demandDataset(dataset);
  if (isSnapshotName(dataset, name)) return;
  throw storageError("STORAGE_BAD_NAME", `${JSON.stringify(name)} is no name of a snapshot`);
}

/** `tank/pg@1700000000000` */
export function formatSnapshot({ dataset, name }: SnapshotName): string {
  return `${dataset}@${name}`;
}

const TAG = /^[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}$/;

/** Errors: `STORAGE_BAD_NAME`. */
export function demandTag(tag: string): void {
  if (!TAG.test(tag)) throw storageError("STORAGE_BAD_NAME", `${JSON.stringify(tag)} is no name of a hold`);
}

/** Errors: `STORAGE_BAD_NAME`: a property that not every driver can keep. */
export function demandProperties(properties: Readonly<Record<string, string | undefined>>): void {
  for (const [name, value = ""] of Object.entries(properties)) {
    if (!/^[a-z0-9]+:[a-z0-9_.:-]{1,240}$/.test(name))
      throw storageError("STORAGE_BAD_NAME", `${JSON.stringify(name)} is no name of a property`);
    if (value.length > 1024 || !/^[\x20-\x7e]*$/.test(value))
      throw storageError("STORAGE_BAD_NAME", `the value of the property ${name} is too long, or not plain text`);
  }
}
