// The ZFS driver against a real ZFS: zfs-fuse, whose features are those of old; `npm run test:zfs` runs the same on OpenZFS.
// All that needs zfs-fuse in this layer stands in this file: there is one daemon on a machine, and files run beside each other.

import { realTimers } from "../../../src/world/real/clock.ts";
import { describe } from "vitest";
import { zfsStorage } from "../../../src/storage/zfs/driver.ts";
import { storageContract } from "../../contracts/storage.ts";
import { noZfs, openZfsPool } from "../../support/zfs-pool.ts";
import { backupServerOnZfs } from "./backup.ts";

describe.skipIf(noZfs !== undefined)(noZfs ?? "a real ZFS", () => {
  storageContract("zfs-fuse as root", async () => {
    const pool = await openZfsPool({ megabytes: 192 });
    return {
      storage: zfsStorage({ program: pool.program, timers: realTimers }),
      root: pool.name,
      bytes: 150 * 1024 * 1024,
      close: () => pool.close(),
    };
  });
});

describe.skipIf(noZfs !== undefined)(noZfs ?? "the backup server on a real ZFS", backupServerOnZfs);
