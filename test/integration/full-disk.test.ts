// A disk that is really full under the primary: the shard goes on elsewhere, and the peer comes back when there is room.

import { execFile } from "node:child_process";
import { open, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect } from "vitest";
import type { TestPeer } from "../support/peer.ts";
import { scenario } from "../support/scenario.ts";
import { LONG_MS, type TestShard } from "../support/shard.ts";

const run = promisify(execFile);
const MEGABYTE = Buffer.alloc(1024 * 1024, 1);
/** Room for a new database and its WAL, and soon full. */
const DISK = "size=300m,mode=755";

const notRoot = process.getuid?.() === 0 ? undefined : "only root may mount a disk of its own";

describe.skipIf(notRoot !== undefined)(notRoot ?? "on a disk of its own", () => {
  scenario(
    "T2: the primary's disk is full: the shard goes on elsewhere, and the peer comes back when there is room",
    { started: 0, formed: false },
    async (shard) => {
      try {
        for (const peer of shard.peers) {
          await run("mount", ["-t", "tmpfs", "-o", DISK, "manatee-test", peer.folder]);
          await peer.prepare();
          peer.startSitter();
        }
        await story(shard);
      } finally {
        for (const peer of shard.peers) {
          await peer.crash();
          await run("umount", ["-l", peer.folder]);
        }
      }
    },
  );
});

async function story(shard: TestShard): Promise<void> {
  await shard.waitForChain();
  await shard.writer();
  const primary = await shard.primary();
  const filler = await fill(primary);
  // Fails, or is cut off: there is no room for it.
  const table = "CREATE TABLE filler AS SELECT repeat('x', 1000) FROM generate_series(1, 100000)";
  await expect(shard.query(primary, table)).rejects.toThrow();
  const elsewhere = "another peer is primary";
  await shard.waitFor(elsewhere, ({ state }) => state !== undefined && state.primary.id !== primary.id, LONG_MS);
  await shard.waitForWrites(50, LONG_MS);
  expect(JSON.stringify(await primary.logEntries())).toMatch(/no space/i);
  await rm(filler);
  await shard.waitForChain();
  await shard.waitForWrites(20);
  await shard.check();
}

/** Leaves no byte free on its disk. Returns the file that takes them. */
async function fill(peer: TestPeer): Promise<string> {
  const path = join(peer.folder, "filler");
  const file = await open(path, "w");
  try {
    for (;;) await file.write(MEGABYTE);
  } catch (error) {
    expect((error as NodeJS.ErrnoException).code).toBe("ENOSPC");
  } finally {
    await file.close();
  }
  return path;
}
