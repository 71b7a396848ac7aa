// A wall clock that jumps must not matter: the sitters' own is set days forth and back while they run.

import { copyFile, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import type { TestPeer } from "../support/peer.ts";
import { expectNoOutage, scenario } from "../support/scenario.ts";
import { signal } from "../support/processes.ts";
import { giveAway } from "../support/unprivileged.ts";

const DAYS_MS = 86_400_000;

async function setClock(peer: TestPeer, days: number): Promise<void> {
  await writeFile(join(peer.folder, "clock-offset"), String(days * DAYS_MS));
}

/** Its sitter, with a wall clock of its own; PostgreSQL is adopted. */
async function restartWithClock(peer: TestPeer): Promise<void> {
  const module = join(peer.folder, "jumping-clock.mjs");
  await copyFile(join(import.meta.dirname, "../support/jumping-clock.mjs"), module);
  await setClock(peer, 0);
  for (const file of [module, join(peer.folder, "clock-offset")]) giveAway(file);
  await peer.killSitter();
  peer.startSitter({ NODE_OPTIONS: `--import ${module}`, CLOCK_OFFSET_FILE: join(peer.folder, "clock-offset") });
}

scenario("clocks that jump by days change nothing, and hold up no takeover", {}, async (shard) => {
  for (const peer of shard.peers) await restartWithClock(peer);
  await shard.waitForChain();
  await shard.writer();
  const before = await shard.state();
  const [primary, sync, async] = [await shard.primary(), await shard.sync(), await shard.async()];
  const since = performance.now();
  await setClock(primary, 400);
  await setClock(sync, -400);
  await setClock(async, 30);
  // Dates in the log come from the clock that was set.
  const year = String(new Date(Date.now() + 400 * DAYS_MS).getUTCFullYear());
  await shard.waitFor("the primary's sitter has that clock", async () => {
    signal(primary.sitterPid as number, "SIGHUP");
    return (await readFile(primary.logFile, "utf8")).includes(`"time":"${year}`);
  });
  await shard.waitForWrites(200);
  expectNoOutage(shard, { since });
  expect((await shard.state()).generation).toBe(before.generation);
  await primary.crash();
  await setClock(sync, 400);
  await shard.waitForWrites(50);
  expect((await shard.state()).primary.id).toBe(sync.id);
  await setClock(sync, -400);
  primary.startSitter();
  await shard.waitForChain();
  await shard.check();
});
