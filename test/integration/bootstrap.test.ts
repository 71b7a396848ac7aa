// B1: how a shard comes to be.

import { expect } from "vitest";
import { scenario } from "../support/scenario.ts";
import { LONG_MS } from "../support/shard.ts";

scenario("B1: three empty peers form a chain that streams and takes writes", { on: "everywhere" }, async (shard) => {
  const state = await shard.state();
  // B1 names a sync that holds nothing yet; S1 names it again when it has its copy.
  expect(state.generation).toBeLessThanOrEqual(2);
  expect(state.async).toHaveLength(1);
  expect(state.deposed).toEqual([]);
  expect(state.freeze ?? null).toBeNull();
  const history = await shard.stateHistory();
  expect(history.map((entry) => entry.state.generation)).toContain(1);
  expect(history.every((entry) => (entry.state.rule ?? "") !== "" && (entry.state.reason ?? "") !== "")).toBe(true);
  await shard.writer();
  await shard.waitForWrites(100);
  await shard.check();
});

scenario(
  "B1: a peer alone waits, says for what, and the shard is founded when a second one comes",
  { peers: 2, started: 1, formed: false },
  async (shard) => {
    const [first, second] = shard.peers;
    await shard.waitFor("the first peer waits by B1", ({ state, reports }) => {
      const decision = reports[first!.name]?.decision;
      return state === undefined && decision?.rule === "B1" && decision.waitingOn !== null;
    });
    second!.startSitter();
    await shard.waitForChain();
    expect((await shard.primary()).name).toBe(first!.name);
    await shard.writer();
    await shard.waitForWrites(20);
    await shard.check();
  },
);

scenario(
  "O1: one peer in one-node-write mode founds a shard of one",
  { peers: 1, config: { postgres: { oneNodeWriteMode: true } } },
  async (shard) => {
    const state = await shard.state();
    expect(state.oneNodeWriteMode).toBe(true);
    expect(state.sync).toBeNull();
    await shard.writer();
    await shard.waitForWrites(50);
    await shard.check();
  },
);

for (const role of ["founder", "second"] as const)
  scenario(
    `B1: the ${role}'s host crashes during the bootstrap, and the shard forms when it is back`,
    { formed: false },
    async (shard) => {
      await shard.waitFor(
        "somebody makes a database",
        ({ reports }) =>
          Object.values(reports).some(
            (report) => report?.postgres.job?.kind === (role === "founder" ? "initdb" : "copy"),
          ),
        LONG_MS,
      );
      const reports = await shard.reports();
      const victim =
        shard.peers.find(({ name }) => reports[name]?.postgres.job !== null && reports[name] !== undefined) ??
        shard.peers[0]!;
      await victim.crash();
      victim.startSitter();
      await shard.waitForChain();
      await shard.writer();
      await shard.waitForWrites(50);
      await shard.check();
    },
  );

scenario(
  "B1: a fourth and a fifth peer join as the last asyncs, in the order in which they come",
  { peers: 5, started: 3 },
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    shard.peers[3]!.startSitter();
    await shard.waitForChain(shard.peers.slice(0, 4));
    shard.peers[4]!.startSitter();
    await shard.waitForChain();
    const after = await shard.state();
    expect(after.generation, "A1 changes no generation").toBe(before.generation);
    expect(after.async.map(({ id }) => id)).toEqual([
      ...before.async.map(({ id }) => id),
      shard.peers[3]!.id,
      shard.peers[4]!.id,
    ]);
    await shard.check();
  },
);
