// What is to take a dataset's place, until it does.

import { chmod, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Timeline } from "../../base/lsn.ts";
import type { DatasetName } from "../../storage/port.ts";
import { finishCopiedFolder } from "./base-backup.ts";
import { type PostgresStorage, stagedDataset } from "./dataset.ts";
import { removeTree } from "./durable.ts";

/** What is staged, and worth nothing as long as the dataset is in its place. */
export async function discardStaged({ storage, dataset }: Pick<PostgresStorage, "storage" | "dataset">): Promise<void> {
  const staged: DatasetName = stagedDataset(dataset);
  if (!(await storage.look(staged))) return;
  await storage.unmount(staged);
  await storage.destroyDataset(staged);
}

/** What a snapshot of a server that runs brings along, and must not hold for the next. `isShared`: of timelines whose history holds here too. */
export async function cleanSnapshot(dataDir: string, isShared: (timeline: Timeline) => boolean): Promise<void> {
  await dropBelongings(dataDir);
  for (const name of await readdir(join(dataDir, "pg_wal")))
    if (name.endsWith(".history") && !isShared(Number.parseInt(name, 16))) await rm(join(dataDir, "pg_wal", name));
  await finishCopiedFolder(dataDir);
}

/** What belonged to the server that ran there, and to those who received from it. */
export async function dropBelongings(dataDir: string): Promise<void> {
  await chmod(dataDir, 0o700);
  for (const name of ["postmaster.pid", "postmaster.opts", "recovery.signal"])
    await rm(join(dataDir, name), { force: true });
  for (const folder of ["pg_replslot", "pg_wal/archive_status"])
    for (const name of await readdir(join(dataDir, folder)).catch(() => []))
      await removeTree(join(dataDir, folder, name));
}
