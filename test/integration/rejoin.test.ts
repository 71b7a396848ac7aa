// R1, I5: a former primary whose WAL has forked comes back, and its fork is kept.

import { existsSync, readdirSync } from "node:fs";
import { expect } from "vitest";
import { forkPrimary } from "../support/fork.ts";
import type { TestPeer } from "../support/peer.ts";
import { MAIN_PAIR, type Pair, scenario } from "../support/scenario.ts";

const EMBEDDED: Pair = { postgres: "embedded-newest", store: "local" };

function forksOf(peer: TestPeer): readonly string[] {
  const folder = `${peer.dataDir}.forks`;
  return existsSync(folder) ? readdirSync(folder).filter((name) => !name.startsWith(".")) : [];
}

scenario(
  "R1: a forked former primary comes back by itself, its fork is kept aside first",
  { on: [MAIN_PAIR, EMBEDDED] },
  async (shard, pair) => {
    await shard.writer();
    const victim = await forkPrimary(shard);
    victim.startSitter();
    await shard.waitForChain();
    expect(forksOf(victim)).toHaveLength(1);
    expect(await shard.query(victim, "SELECT n FROM forked")).toEqual([]);
    const log = (await victim.logEntries()).map((entry) => JSON.stringify(entry)).join("\n");
    // Without pg_rewind, which the embedded server lacks, it is a copy.
    expect(log).toMatch(pair.postgres === "system" ? /rewind/i : /copy/i);
    await shard.check();
  },
);

scenario(
  "I5: at the bound of kept forks the peer waits for an operator, who lets it go on",
  { config: { policy: { forksKeptMax: 0 } } },
  async (shard) => {
    await shard.writer();
    const victim = await forkPrimary(shard);
    victim.startSitter();
    await shard.waitFor(
      "it waits for an operator",
      ({ reports }) => reports[victim.name]?.decision.rule === "R1" && reports[victim.name]?.decision.operator !== null,
    );
    expect(forksOf(victim)).toEqual([]);
    await victim.stopSitter();
    await victim.configure({ policy: { forksKeptMax: 2 } });
    victim.startSitter();
    await shard.waitForChain();
    expect(forksOf(victim)).toHaveLength(1);
    await shard.check();
  },
);

scenario(
  "R1: configured as manual, a forked peer waits for manatee-adm rebuild",
  { config: { policy: { rejoin: "manual" } } },
  async (shard) => {
    await shard.writer();
    const victim = await forkPrimary(shard);
    victim.startSitter();
    await shard.waitFor(
      "it waits for rebuild",
      ({ reports }) => reports[victim.name]?.decision.operator?.includes("rebuild") === true,
    );
    const rebuilt = await shard.tool("manatee-adm", ["rebuild", "-c", victim.configFile, "-y"], 90_000);
    expect(rebuilt.status, `${rebuilt.stdout}\n${rebuilt.stderr}`).toBe(0);
    await shard.waitForChain();
    await shard.check();
  },
);

scenario("R1: an operator has an async rebuilt whole from another async, under load", { peers: 4 }, async (shard) => {
  await shard.writer();
  const before = await shard.state();
  const [source, target] = before.async.map(({ id }) => shard.peer(id)) as [TestPeer, TestPeer];
  const rebuild = (...args: readonly string[]) =>
    shard.tool("manatee-adm", ["rebuild", "-c", target.configFile, "--full", ...args], 120_000);
  const itself = await rebuild("--from", target.name, "-y");
  expect(itself.status).toBe(1);
  expect(itself.stderr).toContain("it is the peer that is to be rebuilt");
  const from = ["--from", source.name];
  const dryRun = await rebuild(...from, "--dry-run", "-o", "json");
  expect(dryRun.status, dryRun.stderr).toBe(0);
  const plan = JSON.parse(dryRun.stdout) as { bytes: number; fork: { name: string; bytes: number } };
  expect(plan).toMatchObject({ way: "base-backup", from: source.name, waits: [], unknown: [] });
  expect(plan.bytes).toBeGreaterThan(1_000_000);
  expect(plan.fork.bytes).toBeGreaterThan(1_000_000);
  expect(forksOf(target)).toEqual([]);
  const rebuilt = await rebuild(...from, "-y");
  expect(rebuilt.status, `${rebuilt.stdout}\n${rebuilt.stderr}`).toBe(0);
  expect(forksOf(target)).toEqual([plan.fork.name]);
  const copies = (await target.logEntries()).filter((entry) => entry["msg"] === "action" && entry["action"] === "copy");
  expect(copies.at(-1)).toMatchObject({ from: source.id });
  await shard.waitForChain();
  const after = await shard.state();
  const incarnationOf = (state: typeof before) => state.async.find(({ id }) => id === target.id)?.incarnation;
  expect(incarnationOf(after)).not.toBe(incarnationOf(before));
  await shard.waitForWrites(20);
  // What the copy took is what the next one is estimated by.
  const again = await rebuild(...from, "--dry-run", "-o", "json");
  expect((JSON.parse(again.stdout) as { durationMs: number | null }).durationMs).toBeGreaterThan(0);
  await shard.check();
});

scenario(
  "R1: an async that was away for more WAL than is kept copies the primary by itself, and keeps no fork",
  { config: { postgres: { walKeepBytes: "1MiB" } } },
  async (shard) => {
    await shard.writer();
    const [primary, sync, victim] = [await shard.primary(), await shard.sync(), await shard.async()];
    await victim.crash();
    const ask = (peer: TestPeer, sql: string) => shard.query<{ name: string }>(peer, sql);
    const [next] = await ask(primary, "SELECT pg_walfile_name(pg_current_wal_lsn()) AS name");
    const keeps = async (peer: TestPeer) => {
      await ask(peer, "CHECKPOINT");
      return (await ask(peer, "SELECT name FROM pg_ls_waldir()")).some(({ name }) => name === next?.name);
    };
    await shard.waitFor("both have removed the segment that comes next for the async", async () => {
      await ask(primary, "SELECT pg_switch_wal()");
      await shard.waitForWrites(1);
      return !((await keeps(primary)) || (await keeps(sync)));
    });
    victim.startSitter();
    await shard.waitForChain();
    const log = (await victim.logEntries()).map((entry) => JSON.stringify(entry)).join("\n");
    expect(log).toContain("no longer has the WAL that comes after");
    expect(forksOf(victim)).toEqual([]);
    await shard.check();
  },
);

scenario("R1: two forks one after the other are both kept", {}, async (shard) => {
  await shard.writer();
  for (let round = 0; round < 2; round++) {
    const victim = await forkPrimary(shard);
    victim.startSitter();
    await shard.waitForChain();
    expect(forksOf(victim).length).toBeGreaterThanOrEqual(1);
  }
  await shard.check();
});

scenario(
  "B1: an emptied peer clones itself from its upstream and joins as the last async",
  { on: [MAIN_PAIR, EMBEDDED] },
  async (shard) => {
    await shard.writer();
    const victim = await shard.async();
    await victim.crash();
    await victim.empty();
    victim.startSitter();
    await shard.waitForChain();
    await shard.check();
  },
);

scenario(
  "RESUME: a primary named by the state that finds no data never makes a database; its sync takes over",
  {},
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const victim = await shard.primary();
    await victim.crash();
    await victim.empty();
    victim.startSitter();
    await shard.waitFor(
      "the sync has taken over",
      ({ state }) => state?.primary.id === before.sync?.id && state?.provisional !== true,
    );
    await shard.waitForChain();
    await shard.check();
  },
);
