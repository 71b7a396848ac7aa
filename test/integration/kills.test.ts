// A kill in the middle of each change: whatever step it hits, the shard comes back by itself and has lost nothing.

import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import type { PeerReport } from "../../src/status/report.ts";
import type { TestPeer } from "../support/peer.ts";
import { FULL, scenario } from "../support/scenario.ts";
import { LONG_MS, type TestShard } from "../support/shard.ts";
import { forkPrimary } from "../support/fork.ts";

type JobKind = NonNullable<PeerReport["postgres"]["job"]>["kind"];

/** Milliseconds after the cause: spread over the second or two that each change takes. */
const DELAYS_MS = FULL ? [0, 30, 60, 100, 150, 200, 300, 400, 600, 800, 1200, 1600] : [50, 200, 500];

/** Resolves at the first sight of that job, or when the limit is over: a short job may never be seen. */
async function sightOf(peer: TestPeer, kinds: readonly JobKind[], limitMs = 20_000): Promise<void> {
  const until = performance.now() + limitMs;
  while (performance.now() < until) {
    const job = (await peer.report(300))?.postgres.job;
    if (job !== null && job !== undefined && kinds.includes(job.kind)) return;
    await sleep(10);
  }
}

async function fill(shard: TestShard, megabytes: number): Promise<void> {
  const primary = await shard.primary();
  await shard.query(primary, "CREATE TABLE filler (n int, text text)");
  await shard.query(primary, "INSERT INTO filler SELECT n, repeat(md5(n::text), 32) FROM generate_series(1, $1) n", [
    megabytes * 1000,
  ]);
}

scenario(
  "a clone is cut short by a crash of the cloning peer, and begun anew",
  { peers: 4, started: 3 },
  async (shard) => {
    await shard.writer();
    await fill(shard, 100);
    const fourth = shard.peers[3]!;
    fourth.startSitter();
    await sightOf(fourth, ["copy"]);
    await fourth.crash();
    fourth.startSitter();
    await shard.waitForChain();
    await shard.check();
  },
);

scenario("a clone is cut short by the death of its source", { peers: 4, started: 3 }, async (shard) => {
  await shard.writer();
  await fill(shard, 100);
  const fourth = shard.peers[3]!;
  fourth.startSitter();
  await sightOf(fourth, ["copy"]);
  await (await shard.primary()).killPostgres();
  await shard.waitForChain();
  await shard.check();
});

for (const what of ["PostgreSQL", "sitter", "host"] as const)
  scenario(`T1: the new primary's ${what} is killed at several moments after the old one died`, {}, async (shard) => {
    await shard.writer();
    for (const delayMs of DELAYS_MS) {
      const before = await shard.state();
      const [old, next] = [await shard.primary(), await shard.sync()];
      await old.killPostgres();
      await sleep(delayMs);
      await strike(next, what);
      await shard.waitForWrites(20, LONG_MS);
      await shard.waitForChain();
      expect((await shard.state()).generation).toBeGreaterThanOrEqual(before.generation);
    }
    await shard.check();
  });

for (const what of ["PostgreSQL", "sitter", "host"] as const)
  scenario(`S1: the primary's ${what} is killed at several moments after its sync was lost`, {}, async (shard) => {
    await shard.writer();
    for (const delayMs of DELAYS_MS) {
      const [primary, sync] = [await shard.primary(), await shard.sync()];
      await sync.crash();
      await sleep(delayMs);
      await strike(primary, what);
      await sleep(1000);
      sync.startSitter();
      await shard.waitForWrites(20, LONG_MS);
      await shard.waitForChain();
    }
    await shard.check();
  });

for (const kinds of [["keep-fork"], ["rewind", "copy"]] as const)
  scenario(`R1: a rejoin is cut short in ${kinds.join(" or ")}, by a crash, and goes on`, {}, async (shard) => {
    await shard.writer();
    const victim = await forkPrimary(shard);
    for (let round = 0; round < 2; round++) {
      victim.startSitter();
      await sightOf(victim, kinds, 3000);
      await victim.crash();
    }
    victim.startSitter();
    await shard.waitForChain();
    await shard.check();
  });

for (const { role, process: title } of [
  { role: "sync", process: "walreceiver" },
  { role: "sync", process: "startup" },
  { role: "primary", process: "walsender" },
  { role: "primary", process: "checkpointer" },
] as const)
  scenario(`SIGKILL of the ${title} of the ${role}'s PostgreSQL: the shard comes back by itself`, {}, async (shard) => {
    await shard.writer();
    const peer = role === "sync" ? await shard.sync() : await shard.primary();
    const victim = peer.postgresProcesses().find(({ args }) => args.join(" ").startsWith(`postgres: ${title}`));
    if (victim === undefined) throw new Error(`there is no ${title}`);
    process.kill(victim.pid, "SIGKILL");
    await shard.waitForWrites(50, LONG_MS);
    await shard.waitForChain();
    await shard.check();
  });

/** A host or a sitter that was killed comes back after a moment. */
async function strike(peer: TestPeer, what: "PostgreSQL" | "sitter" | "host"): Promise<void> {
  if (what === "PostgreSQL") {
    // It may be down at this moment: then there is nothing to kill, which is a moment like any other.
    await peer.killPostgres().catch(() => undefined);
    return;
  }
  if (what === "sitter") await peer.killSitter();
  else await peer.crash();
  await sleep(500);
  peer.startSitter();
}
