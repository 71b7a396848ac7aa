// The driver of the storage that the configuration names, and how PostgreSQL's driver uses it.

import type { StorageConfig } from "../config/types.ts";
import type { PostgresStorage } from "../postgres/real/dataset.ts";
import { newestBeforeFork } from "../snapshots/choice.ts";
import { btrfsStorage } from "../storage/btrfs/driver.ts";
import { directoryStorage } from "../storage/directory/driver.ts";
import type { Storage } from "../storage/port.ts";
import { zfsStorage } from "../storage/zfs/driver.ts";
import type { Timers, World } from "../world/port.ts";
import { peerSnapshots } from "./peer-snapshots.ts";

export function storageOf({ kind, root, program, sudo }: StorageConfig, timers: Timers): Storage {
  if (kind === "directory") return directoryStorage({ root });
  return kind === "btrfs" ? btrfsStorage({ root, program, sudo, timers }) : zfsStorage({ program, sudo, timers });
}

/** Of a process beside the sitter. */
export function serviceStorage(
  {
    zfsPath,
    btrfsRoot,
    directoryRoot,
    sudo,
  }: {
    readonly zfsPath: string | undefined;
    readonly btrfsRoot: string | undefined;
    readonly directoryRoot: string | undefined;
    readonly sudo: readonly string[] | undefined;
  },
  { timers }: World,
): Storage {
  if (directoryRoot !== undefined) return directoryStorage({ root: directoryRoot });
  return btrfsRoot === undefined
    ? zfsStorage({ program: zfsPath, sudo, timers })
    : btrfsStorage({ root: btrfsRoot, sudo, timers });
}

/** `secretFile`: with the shard's replication password, by which peers give each other their snapshots. */
export function postgresStorage(config: StorageConfig, world: World, secretFile: string): PostgresStorage {
  const storage = storageOf(config, world.timers);
  return {
    storage,
    dataset: config.dataset,
    chooseSnapshot: newestBeforeFork,
    peers: peerSnapshots({ storage, world, secretFile, caFile: config.backupCaFile }),
  };
}
