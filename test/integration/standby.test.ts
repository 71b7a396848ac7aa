// S1, A1, A2: standbys come and go while clients write.

import { expect } from "vitest";
import { expectNoOutage, scenario } from "../support/scenario.ts";

scenario(
  "S1: the sync's host crashes: it changes places with the first async, and comes back as the last",
  { on: "everywhere" },
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const victim = await shard.sync();
    await victim.crash();
    await shard.waitFor("the async is the sync", ({ state }) => state?.sync?.id === before.async[0]?.id);
    await shard.waitForWrites(20);
    expect((await shard.state()).generation).toBe(before.generation + 1);
    victim.startSitter();
    await shard.waitForChain();
    const after = await shard.state();
    expect(after.primary.id).toBe(before.primary.id);
    expect(after.async.map(({ id }) => id)).toEqual([victim.id]);
    await shard.check();
  },
);

scenario("S1: the sync's PostgreSQL dies: writes go on, and it comes back", {}, async (shard) => {
  await shard.writer();
  const before = await shard.state();
  const victim = await shard.sync();
  await victim.killPostgres();
  await shard.waitForWrites(20);
  await shard.waitForChain();
  expect((await shard.state()).primary.id).toBe(before.primary.id);
  await shard.check();
});

scenario(
  "A2: the async's host crashes: writes don't wait, it leaves the list and comes back as the last async",
  { on: "everywhere" },
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const victim = await shard.async();
    const since = shard.history.now();
    await victim.crash();
    await shard.waitFor("the async has left the list", ({ state }) => state?.async.length === 0);
    await shard.waitForWrites(20);
    expectNoOutage(shard, { since });
    victim.startSitter();
    await shard.waitForChain();
    const after = await shard.state();
    expect(after.generation, "asyncs come and go within a generation").toBe(before.generation);
    expect(after.async.map(({ id }) => id)).toEqual([victim.id]);
    await shard.check();
  },
);

scenario("A2: the async's PostgreSQL dies and is started again by its sitter", {}, async (shard) => {
  await shard.writer();
  const before = await shard.state();
  const victim = await shard.async();
  await victim.killPostgres();
  await shard.waitFor(
    "it streams again",
    ({ reports }) =>
      reports[victim.name]?.postgres.receiver === "streaming" && reports[victim.name]?.postgres.healthy === true,
  );
  await shard.waitForChain();
  expect((await shard.state()).generation).toBe(before.generation);
  await shard.check();
});

scenario(
  "S1: with no async, a sync that died and comes back is required again before anything is acknowledged",
  { peers: 2 },
  async (shard) => {
    await shard.writer();
    const victim = await shard.sync();
    await victim.crash();
    await shard.waitFor("the primary says what it waits on", ({ reports, state }) => {
      const primary = shard.peer(state?.primary.id ?? "");
      return reports[primary.name]?.decision.waitingOn !== null;
    });
    victim.startSitter();
    await shard.waitForChain();
    await shard.waitForWrites(20);
    await shard.check();
  },
);

scenario(
  "A1: a fourth peer joins by a copy while clients write, and reap removes it once it is gone for good",
  { peers: 4, started: 3 },
  async (shard) => {
    await shard.writer();
    const fourth = shard.peers[3]!;
    fourth.startSitter();
    await shard.waitForChain(shard.peers);
    // As primary's victim it would be deposed: make it so, then take its machine away for good.
    const before = await shard.state();
    await shard.peer(before.primary.id).crash();
    await shard.waitFor(
      "the sync has taken over",
      ({ state }) => state?.primary.id === before.sync?.id && state?.provisional !== true,
    );
    const gone = shard.peer(before.primary.id);
    expect((await shard.state()).deposed.map(({ id }) => id)).toEqual([gone.id]);
    const rest = shard.peers.filter((peer) => peer !== gone);
    await shard.waitForChain(rest);
    const reaped = await shard.adm("reap", "-n", gone.name, "-y");
    expect(reaped, reaped.stderr).toMatchObject({ status: 0 });
    expect((await shard.state()).deposed).toEqual([]);
    await shard.waitForWrites(20);
    await shard.check(rest);
  },
);
