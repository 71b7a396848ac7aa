// Z1: the store may vanish for as long as it likes.

import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { expectNoOutage, FULL, scenario } from "../support/scenario.ts";
import { LONG_MS, type TestShard } from "../support/shard.ts";

for (const { how, outageMs } of [
  { how: "killed", outageMs: 60_000 },
  { how: "frozen", outageMs: FULL ? 60_000 : 15_000 },
] as const)
  scenario(
    `Z1: the store is ${how} for ${outageMs / 1000} s during writes: they go on, and nothing changes when it returns`,
    {},
    async (shard) => {
      await shard.writer();
      const before = await shard.waitForChain();
      const since = shard.history.now();
      if (how === "killed") await shard.store.stop();
      else shard.store.freeze();
      await sleep(outageMs);
      if (how === "killed") await shard.store.start();
      else shard.store.thaw();
      await allAreBack(shard);
      // Absence counts only after a session time of one's own connection: what would go wrong goes wrong within it.
      await sleep(6000);
      await shard.waitForChain();
      await shard.waitForWrites(20);
      expectNoOutage(shard, { since });
      const after = await shard.state();
      expect(after.generation).toBe(before.state?.generation);
      expect(after.primary.id).toBe(before.state?.primary.id);
      expect(after.async.map(({ id }) => id)).toEqual(before.state?.async.map(({ id }) => id));
      await shard.check();
    },
  );

async function allAreBack(shard: TestShard): Promise<void> {
  await shard.waitFor(
    "all sitters are back in the store",
    ({ present, reports }) =>
      present.length === shard.peers.length &&
      Object.values(reports).every((report) => report?.store.connected === true),
    LONG_MS,
  );
}

scenario(
  "Z1: of a ZooKeeper of three servers one dies, then its leader, during writes: they go on, and a takeover needs two",
  { storeMembers: 3 },
  async (shard) => {
    const { ensemble } = shard.store;
    if (ensemble === undefined) throw new Error("that is no ensemble");
    await shard.writer();
    const before = await shard.waitForChain();
    const since = shard.history.now();
    const first = await ensemble.leader();
    const follower = ensemble.members.find((member) => member !== first);
    await follower?.kill();
    await allAreBack(shard);
    await shard.waitForWrites(20);
    await follower?.restart();
    const leader = await ensemble.leader();
    if (leader === undefined) throw new Error("nobody leads the ensemble");
    await leader.kill();
    await allAreBack(shard);
    // Absence counts only after a session time of one's own connection: what would go wrong goes wrong within it.
    await sleep(6000);
    await shard.waitForChain();
    await shard.waitForWrites(20);
    expectNoOutage(shard, { since });
    const after = await shard.state();
    expect(after.generation).toBe(before.state?.generation);
    expect(after.primary.id).toBe(before.state?.primary.id);

    const primary = shard.peer(after.primary.id);
    await primary.crash();
    await shard.waitFor(
      "the sync takes over, by the two servers that are left",
      ({ state }) => state?.primary.id === after.sync?.id && state?.provisional !== true,
      LONG_MS,
    );
    await shard.waitForWrites(20);
    primary.startSitter();
    await leader.restart();
    await shard.waitForChain();
    await shard.check();
  },
);

scenario(
  "Z1: the primary's PostgreSQL dies while the store is away: nobody takes over; the store returns, and the shard goes on",
  {},
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    await shard.store.stop();
    await shard.waitFor(
      "all sitters know that the store is away",
      ({ reports }) => Object.values(reports).every((report) => report?.store.connected === false),
      60_000,
    );
    await shard.peer(before.primary.id).killPostgres();
    await sleep(3000);
    const reports = await shard.reports();
    for (const peer of shard.peers.filter(({ id }) => id !== before.primary.id))
      expect(reports[peer.name]?.postgres.state).toBe("standby");
    await shard.store.start();
    await shard.waitForWrites(20, 60_000);
    await shard.waitForChain();
    await shard.check();
  },
);

scenario(
  "X1: a primary that has lost its sync and the store closes client sessions within its bound, open ones included",
  { config: { policy: { isolationMs: 3000 } } },
  async (shard) => {
    await shard.writer();
    const primary = await shard.primary();
    const client = await shard.client(primary);
    await client.query("SELECT 1");
    const ended = new Promise<void>((resolve) => client.once("end", () => resolve()));
    const standbys = shard.peers.filter((peer) => peer !== primary);
    await shard.store.stop();
    for (const standby of standbys) await standby.crash();
    await Promise.race([
      ended,
      sleep(20_000).then(() =>
        Promise.reject(new Error("the session is still open 20 s after its primary was cut off")),
      ),
    ]);
    await expect(shard.client(primary)).rejects.toThrow();
    await shard.store.start();
    for (const standby of standbys) standby.startSitter();
    await shard.waitForChain();
    await shard.waitForWrites(20);
    await shard.check();
  },
);

scenario(
  "B1: the store comes back emptied: nobody guesses, and state restore brings back the last document",
  {},
  async (shard) => {
    await shard.writer();
    await shard.waitForWrites(50);
    const before = await shard.state();
    await shard.rememberReigns();
    await shard.store.stop();
    await shard.store.wipe();
    await shard.store.start();
    await shard.waitFor(
      "every sitter is back and names the operator's command",
      ({ present, state, reports }) =>
        state === undefined &&
        present.length === shard.peers.length &&
        Object.values(reports).some((report) => report?.decision.operator !== null),
      LONG_MS,
    );
    await sleep(3000);
    expect((await shard.look()).state, "nobody founds a second shard over data").toBeUndefined();
    const restored = await shard.adm("state", "restore", "-n", before.primary.zoneId, "-y");
    expect(restored, restored.stderr).toMatchObject({ status: 0 });
    await shard.waitForChain();
    const after = await shard.state();
    expect(after.generation).toBeGreaterThan(before.generation);
    expect(after.primary.id).toBe(before.primary.id);
    await shard.waitForWrites(20);
    await shard.check();
  },
);
