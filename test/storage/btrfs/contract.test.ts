// The Btrfs driver against a real Btrfs on a loop device: as root, and as a user who needs the prefix for what is root's.

import { execFileSync } from "node:child_process";
import { chownSync } from "node:fs";
import { describe } from "vitest";
import { btrfsStorage } from "../../../src/storage/btrfs/driver.ts";
import { realTimers } from "../../../src/world/real/clock.ts";
import { storageContract } from "../../contracts/storage.ts";
import { noBtrfs, openBtrfsDisk } from "../../support/btrfs-disk.ts";

const MEGABYTES = 256;
/** What is free of it. */
const BYTES = 220 * 1024 * 1024;

describe.skipIf(noBtrfs !== undefined)(noBtrfs ?? "a real Btrfs", () => {
  storageContract("Btrfs as root", async () => {
    const disk = await openBtrfsDisk({ megabytes: MEGABYTES });
    const storage = btrfsStorage({ root: disk.folder, timers: realTimers });
    await storage.create("tank");
    return { storage, root: "tank", bytes: BYTES, close: () => disk.close() };
  });
});

const noPrefix = noBtrfs ?? findWhyNoPrefix();
const NOBODY = 65534;

/** The effective user is somebody else, and has no rights of root's; the real one stays, whom sudo lets do anything. */
describe.skipIf(noPrefix !== undefined)(noPrefix ?? "a real Btrfs, for another user", () => {
  storageContract("Btrfs by sudo", async () => {
    const disk = await openBtrfsDisk({ megabytes: MEGABYTES });
    chownSync(disk.folder, NOBODY, NOBODY);
    process.seteuid?.(NOBODY);
    const close = () => {
      process.seteuid?.(0);
      return disk.close();
    };
    try {
      const storage = btrfsStorage({ root: disk.folder, sudo: ["sudo", "-n"], timers: realTimers });
      await storage.create("tank");
      return { storage, root: "tank", bytes: BYTES, close };
    } catch (error) {
      await close();
      throw error;
    }
  });
});

function findWhyNoPrefix(): string | undefined {
  try {
    execFileSync("sudo", ["-n", "true"], { stdio: "ignore" });
    return undefined;
  } catch {
    return "sudo is not installed, or lets root do nothing";
  }
}
