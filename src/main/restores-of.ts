// Putting this host's peer back to a snapshot, for the tools.

import { ManateeError } from "../base/errors.ts";
import type { SitterConfig } from "../config/types.ts";
import { PeerRestores } from "../postgres/real/restore-data.ts";
import type { Restores } from "../postgres/restore.ts";
import type { World } from "../world/port.ts";
import { takeSitterLocks } from "./sitter-locks.ts";
import { postgresStorage } from "./storage-of.ts";

export function restoresOf(config: SitterConfig, world: World): Restores {
  const { postgres, storage } = config;
  if (!storage)
    throw new ManateeError({
      code: "RESTORE_NO_STORAGE",
      message: "the sitter's file names no storage: of this peer there are no snapshots",
      remedy: "operator",
      hint: "Run it on a peer whose data lie on ZFS or Btrfs (docs/operating/storage.md).",
    });
  return new PeerRestores({
    config: postgres,
    storage: postgresStorage(storage, world, postgres.replicationPasswordFile),
    clock: world.clock,
    timers: world.timers,
    log: world.log,
    async hold() {
      const locks = await takeSitterLocks(config);
      return {
        release() {
          for (const lock of locks) lock.release();
        },
      };
    },
  });
}
