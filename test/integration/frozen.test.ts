// SIGSTOP: a process that neither works nor dies, and later goes on with what it believed before.

import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import type { TestPeer } from "../support/peer.ts";
import { expectNoOutage, scenario } from "../support/scenario.ts";

scenario(
  "I4: the primary's host freezes: its sync takes over; thawed, the former primary acknowledges nothing and comes back",
  { on: "everywhere" },
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const victim = await shard.primary();
    victim.freeze("both");
    await shard.waitFor(
      "the sync has taken over",
      ({ state }) => state?.primary.id === before.sync?.id && state?.provisional !== true,
    );
    await shard.waitForWrites(20);
    victim.thaw();
    await shard.waitForChain();
    await shard.check();
  },
);

async function hasStreamTo(witness: TestPeer, peer: TestPeer): Promise<boolean> {
  const entries = await witness.logEntries();
  return entries.some(({ msg, peer: id }) => msg === "stream to peer is up" && id === peer.id);
}

scenario(
  "D2: the primary's host freezes: two witnesses take it for gone long before its session ends",
  { sessionTimeoutMs: 30_000 },
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const victim = await shard.primary();
    for (const witness of shard.peers.filter(({ id }) => id !== victim.id))
      await expect.poll(() => hasStreamTo(witness, victim), { timeout: 20_000 }).toBe(true);
    victim.freeze("both");
    const { present } = await shard.waitFor(
      "the sync has taken over",
      ({ state }) => state?.primary.id === before.sync?.id && state?.provisional !== true,
    );
    expect(present, "its session has not ended").toContain(victim.id);
    await shard.waitForWrites(20);
    victim.thaw();
    await shard.waitForChain();
    await shard.check();
  },
);

scenario("I4: a client that stays on a thawed former primary gets no commit through", {}, async (shard) => {
  await shard.writer();
  const before = await shard.state();
  const victim = await shard.primary();
  const client = await shard.client(victim);
  await client.query("CREATE TABLE stubborn (n int)");
  victim.freeze("both");
  await shard.waitFor(
    "the sync has taken over",
    ({ state }) => state?.primary.id === before.sync?.id && state?.provisional !== true,
  );
  await shard.waitForWrites(5);
  const commit = client.query("INSERT INTO stubborn VALUES (1)").then(
    () => "committed",
    () => "refused",
  );
  victim.thaw();
  expect(await commit).toBe("refused");
  await shard.waitForChain();
  const rows = await shard.query(await shard.primary(), "SELECT n FROM stubborn");
  expect(rows).toEqual([]);
  await shard.check();
});

scenario("D1: the primary's PostgreSQL freezes, its sitter is well: the shard goes on elsewhere", {}, async (shard) => {
  await shard.writer();
  const before = await shard.state();
  const victim = await shard.primary();
  victim.freeze("postgres");
  await shard.waitFor(
    "the sync has taken over",
    ({ state }) => state?.primary.id === before.sync?.id && state?.provisional !== true,
    60_000,
  );
  await shard.waitForWrites(20);
  victim.thaw();
  await shard.waitForChain();
  await shard.check();
});

scenario(
  "D1: the primary's sitter alone freezes: its WAL flows, so writes go on and nothing changes",
  {},
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const victim = await shard.primary();
    const since = shard.history.now();
    victim.freeze("sitter");
    await shard.waitFor("its election node is gone", ({ present }) => !present.includes(victim.id), 30_000);
    await shard.waitForWrites(100);
    victim.thaw();
    await shard.waitForChain();
    await shard.waitForWrites(20);
    expectNoOutage(shard, { since });
    expect((await shard.state()).primary.id).toBe(before.primary.id);
    await shard.check();
  },
);

scenario(
  "S1: the sync's host freezes: the primary, which alone misses it, replaces it long before its session ends",
  { sessionTimeoutMs: 30_000 },
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const victim = await shard.sync();
    await expect.poll(async () => hasStreamTo(await shard.primary(), victim), { timeout: 20_000 }).toBe(true);
    victim.freeze("both");
    const { present } = await shard.waitFor(
      "the async is the sync",
      ({ state }) => state?.sync?.id === before.async[0]?.id,
    );
    expect(present, "its session has not ended").toContain(victim.id);
    await shard.waitForWrites(20);
    victim.thaw();
    await shard.waitForChain();
    expect((await shard.state()).primary.id).toBe(before.primary.id);
    await shard.check();
  },
);

scenario("S1: the sync's host freezes: the async takes its place, and writes go on", {}, async (shard) => {
  await shard.writer();
  const before = await shard.state();
  const victim = await shard.sync();
  victim.freeze("both");
  await shard.waitFor("the async is the sync", ({ state }) => state?.sync?.id === before.async[0]?.id, 60_000);
  await shard.waitForWrites(20);
  expect((await shard.state()).primary.id).toBe(before.primary.id);
  victim.thaw();
  await shard.waitForChain();
  await shard.check();
});

scenario(
  "S1: the sync's PostgreSQL freezes, its sitter is well: it is replaced or started anew, and writes go on",
  {},
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const victim = await shard.sync();
    victim.freeze("postgres");
    // Reports that were in flight when it froze.
    await sleep(500);
    await shard.waitForWrites(20, 60_000);
    expect((await shard.state()).primary.id).toBe(before.primary.id);
    victim.thaw();
    await shard.waitForChain();
    await shard.check();
  },
);

scenario("S1: the sync's sitter alone freezes: commits go on while it is replaced", {}, async (shard) => {
  await shard.writer();
  const before = await shard.state();
  const victim = await shard.sync();
  const since = shard.history.now();
  victim.freeze("sitter");
  await shard.waitFor("its election node is gone", ({ present }) => !present.includes(victim.id), 30_000);
  await shard.waitForWrites(100);
  expectNoOutage(shard, { since });
  expect((await shard.state()).primary.id).toBe(before.primary.id);
  victim.thaw();
  await shard.waitForChain();
  await shard.check();
});

for (const what of ["both", "postgres", "sitter"] as const)
  scenario(
    `A2: the async's ${what === "both" ? "host" : what === "postgres" ? "PostgreSQL" : "sitter"} freezes: nobody waits for it`,
    {},
    async (shard) => {
      await shard.writer();
      const before = await shard.state();
      const victim = await shard.async();
      const since = shard.history.now();
      victim.freeze(what);
      // Longer than the session lasts: the longest that anything could take to be noticed.
      await sleep(6000);
      await shard.waitForWrites(20);
      expectNoOutage(shard, { since });
      victim.thaw();
      await shard.waitForChain();
      const after = await shard.state();
      expect(after.primary.id).toBe(before.primary.id);
      expect(after.sync?.id).toBe(before.sync?.id);
      await shard.check();
    },
  );
