// A sitter that dies or is restarted, while its PostgreSQL goes on: nobody should notice.

import { expect } from "vitest";
import { expectGapAtMost, scenario } from "../support/scenario.ts";
import type { TestShard } from "../support/shard.ts";

type Role = "primary" | "sync" | "async";

async function peerOf(shard: TestShard, role: Role) {
  return role === "primary" ? shard.primary() : role === "sync" ? shard.sync() : shard.async();
}

for (const role of ["primary", "sync", "async"] as const)
  scenario(
    `SIGKILL of the sitter of the ${role} alone: writes go on, and restarted within the session it keeps its place and its PostgreSQL`,
    { sessionTimeoutMs: 6000, on: role === "primary" ? "everywhere" : "main" },
    async (shard) => {
      await shard.writer();
      const before = await shard.state();
      const peer = await peerOf(shard, role);
      const postmaster = await peer.postmasterPid();
      const since = shard.history.now();
      await peer.killSitter();
      await shard.waitForWrites(20);
      peer.startSitter();
      await shard.waitFor(
        "the new sitter leads on",
        ({ reports }) => reports[peer.name]?.role === role && reports[peer.name]?.postgres.healthy === true,
      );
      await shard.waitForChain();
      await shard.waitForWrites(20);
      expectGapAtMost(shard, { since, limitMs: 1500 });
      const after = await shard.state();
      expect(after.generation).toBe(before.generation);
      expect(after.primary.id).toBe(before.primary.id);
      expect(after.async.map(({ id }) => id)).toEqual(before.async.map(({ id }) => id));
      expect(await peer.postmasterPid(), "PostgreSQL was adopted, not restarted").toBe(postmaster);
      await shard.check();
    },
  );

scenario("D1: a primary whose sitter stays dead goes on: its WAL flows, so it is not gone", {}, async (shard) => {
  await shard.writer();
  const before = await shard.state();
  const primary = await shard.primary();
  const since = shard.history.now();
  await primary.killSitter();
  await shard.waitFor("its election node is gone", ({ present }) => !present.includes(primary.id), 30_000);
  await shard.waitForWrites(200);
  expectGapAtMost(shard, { since, limitMs: 1500 });
  expect((await shard.state()).generation).toBe(before.generation);
  primary.startSitter();
  await shard.waitForChain();
  expect((await shard.state()).primary.id).toBe(before.primary.id);
  await shard.check();
});

scenario(
  "the sitters are killed and restarted one after the other under load, three rounds, without an interruption",
  { sessionTimeoutMs: 8000 },
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const since = shard.history.now();
    for (let round = 0; round < 3; round++)
      for (const peer of shard.peers) {
        await peer.killSitter();
        peer.startSitter();
        await shard.waitFor(
          `the sitter of ${peer.name} answers again`,
          ({ reports }) => reports[peer.name]?.postgres.healthy === true,
        );
      }
    await shard.waitForWrites(20);
    expectGapAtMost(shard, { since, limitMs: 1500 });
    await shard.waitForChain();
    expect((await shard.state()).primary.id).toBe(before.primary.id);
    await shard.check();
  },
);

scenario(
  "SIGTERM of the primary's sitter leaves in order: the sync takes over, nothing of it is left running",
  {},
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const primary = await shard.primary();
    await primary.stopSitter();
    await shard.waitFor("nothing of it runs", () => primary.leftovers().length === 0);
    await shard.waitFor("the sync has taken over", ({ state }) => state?.primary.id === before.sync?.id);
    await shard.waitForWrites(20);
    primary.startSitter();
    await shard.waitForChain();
    await shard.check();
  },
);

scenario("a second sitter on the same data directory refuses to start, and the first goes on", {}, async (shard) => {
  await shard.writer();
  const primary = await shard.primary();
  const second = await shard.runSitter(primary.configFile);
  expect(second.status).not.toBe(0);
  expect(second.stdout + second.stderr).toMatch(/[A-Z]+_[A-Z_]+/);
  await shard.waitForWrites(20);
  await shard.check();
});

scenario(
  "all sitters and all PostgreSQL servers are killed at once: the shard comes back by itself with every row",
  {},
  async (shard) => {
    await shard.writer();
    await shard.waitForWrites(50);
    await Promise.all(shard.peers.map((peer) => peer.crash()));
    for (const peer of shard.peers) peer.startSitter();
    await shard.waitForChain();
    await shard.waitForWrites(20);
    await shard.check();
  },
);
