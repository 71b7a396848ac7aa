// F1, T3, O1, O2 and the commands: what an operator asks for.

import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { expectNoOutage, scenario } from "../support/scenario.ts";
import { type AdmResult, LONG_MS, type TestShard } from "../support/shard.ts";

function expectDone(result: AdmResult): void {
  expect(result.status, `${result.stdout}\n${result.stderr}`).toBe(0);
}

async function promote(shard: TestShard, ...args: readonly string[]): Promise<void> {
  expectDone(await shard.adm("promote", ...args, "-y"));
}

scenario(
  "T3: promote of the sync is a switchover without loss, and the former primary follows without a rewind",
  { on: "everywhere" },
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    await promote(shard, "-r", "sync", "-n", (await shard.sync()).name);
    await shard.waitForWritesOn(shard.peer(before.sync?.id ?? ""));
    await shard.waitForChain();
    const after = await shard.state();
    expect(after.generation).toBe(before.generation + 1);
    expect(after.primary.id).toBe(before.sync?.id);
    expect(after.deposed).toEqual([]);
    expect(after.promote ?? null).toBeNull();
    expect((await shard.reports())[shard.peer(before.primary.id).name]?.postgres.forksKept).toBe(0);
    await shard.check();
  },
);

scenario(
  "T3: promote of async 0 makes it the sync, the old sync the first async, without an interruption",
  {},
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const since = shard.history.now();
    await promote(shard, "-r", "async", "-i", "0", "-n", (await shard.async()).name);
    await shard.waitForChain();
    await shard.waitForWrites(20);
    expectNoOutage(shard, { since });
    const after = await shard.state();
    expect(after.primary.id).toBe(before.primary.id);
    expect(after.sync?.id).toBe(before.async[0]?.id);
    expect(after.async.map(({ id }) => id)).toEqual([before.sync?.id]);
    expect(after.promote ?? null).toBeNull();
    await shard.check();
  },
);

scenario(
  "T3: promote of a later async changes places with its upstream, in the same generation",
  { peers: 4 },
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    await promote(shard, "-r", "async", "-i", "1", "-n", (await shard.async(1)).name);
    await shard.waitForChain();
    const after = await shard.state();
    expect(after.generation).toBe(before.generation);
    expect(after.async.map(({ id }) => id)).toEqual([...before.async].reverse().map(({ id }) => id));
    await shard.check();
  },
);

scenario(
  "T3: a request that is expired, for another generation, or names the wrong peer is cleared, with the reason in the history",
  {},
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const inAMinute = new Date(Date.now() + 60_000).toISOString();
    const requests = [
      {
        id: before.sync?.id,
        role: "sync",
        generation: before.generation,
        expireTime: new Date(Date.now() - 1000).toISOString(),
      },
      { id: before.sync?.id, role: "sync", generation: before.generation - 1, expireTime: inAMinute },
      { id: before.async[0]?.id, role: "sync", generation: before.generation, expireTime: inAMinute },
      { id: 7, role: "captain" },
    ];
    for (const request of requests) {
      await shard.editState((state) => ({ ...state, promote: request }));
      await shard.waitFor("the request is gone", ({ state }) => (state?.promote ?? null) === null);
      const after = await shard.state();
      expect(after.primary.id).toBe(before.primary.id);
      expect(after.rule).toBe("T3");
      expect(after.reason).not.toBe("");
    }
    await shard.waitForWrites(20);
    await shard.check();
  },
);

scenario("promote of the wrong peer or of none is refused by the tool, and nothing is written", {}, async (shard) => {
  await shard.writer();
  const before = await shard.look();
  const refused = [
    await shard.adm("promote", "-r", "sync", "-n", (await shard.async()).name, "-y"),
    await shard.adm("promote", "-r", "sync", "-n", "nobody", "-y"),
    await shard.adm("promote", "-r", "primary", "-n", (await shard.primary()).name, "-y"),
  ];
  for (const result of refused) {
    expect(result.status).not.toBe(0);
    expect(result.stderr).not.toBe("");
  }
  expect((await shard.look()).version).toBe(before.version);
  await shard.check();
});

scenario(
  "F1: a frozen shard takes no takeover, restarts PostgreSQL in place, and goes on when it is unfrozen",
  {},
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    expectDone(await shard.adm("freeze", "-r", "maintenance"));
    const primary = await shard.primary();
    await primary.killPostgres();
    await shard.waitForWritesOn(primary);
    await primary.crash();
    await shard.waitFor("its node is gone", ({ present }) => !present.includes(primary.id), 30_000);
    await sleep(3000);
    const { state, reports } = await shard.look();
    expect(state?.primary.id).toBe(before.primary.id);
    expect(reports[shard.peer(before.sync?.id ?? "").name]?.decision.operator).toContain("unfreeze");
    expectDone(await shard.adm("unfreeze"));
    await shard.waitFor(
      "the sync has taken over",
      ({ state: now }) => now?.primary.id === before.sync?.id && now?.provisional !== true,
    );
    await shard.waitForWrites(20);
    primary.startSitter();
    await shard.waitForChain();
    await shard.check();
  },
);

scenario(
  "O1: a shard of one grows into a chain without downtime",
  { peers: 3, started: 1, config: { postgres: { oneNodeWriteMode: true } } },
  async (shard) => {
    await shard.writer();
    const since = shard.history.now();
    for (const peer of shard.peers.slice(1)) peer.startSitter();
    await shard.waitFor("the others have come", ({ present }) => present.length === 3);
    expectDone(await shard.adm("set-onwm", "-m", "off", "-y"));
    await shard.waitForChain();
    await shard.waitForWrites(50);
    expectNoOutage(shard, { since });
    const after = await shard.state();
    expect(after.sync).not.toBeNull();
    expect(after.oneNodeWriteMode ?? false).toBe(false);
    await shard.check();
  },
);

scenario(
  "O1: one-node-write mode is asked for beside a sync, which is let go without an outage, and comes back when the mode ends",
  {},
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const since = shard.history.now();
    expectDone(await shard.adm("set-onwm", "-m", "on", "-y"));
    await shard.waitFor(
      "the primary runs alone",
      ({ state }) => state?.sync === null && state.oneNodeWriteMode === true,
    );
    const alone = await shard.state();
    expect(alone.primary.id).toBe(before.primary.id);
    expect(alone.generation).toBeGreaterThan(before.generation);
    await shard.waitForWrites(20);
    expectDone(await shard.adm("set-onwm", "-m", "off", "-y"));
    await shard.waitForChain();
    await shard.waitForWrites(20);
    expectNoOutage(shard, { since });
    expect((await shard.state()).primary.id).toBe(before.primary.id);
    await shard.check();
  },
);

scenario(
  "O2: primary and sync are both lost for good: takeover --accept-loss lets the async go on",
  { config: { policy: { takeoverAlone: false } } },
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const [primary, sync, async] = [await shard.primary(), await shard.sync(), await shard.async()];
    await Promise.all([primary.crash(), sync.crash()]);
    await shard.waitFor(
      "the async says what an operator can do",
      ({ reports }) => reports[async.name]?.decision.operator !== null && reports[async.name] !== undefined,
      LONG_MS,
    );
    expectDone(await shard.adm("takeover", "--accept-loss", "-n", async.name, "-y"));
    await shard.waitFor(
      "the async is primary",
      ({ state }) => state?.primary.id === async.id && (state?.generation ?? 0) > before.generation,
    );
    primary.startSitter();
    sync.startSitter();
    // Whoever was forced to go on alone is in one-node-write mode until somebody says that the others may count again.
    await shard.waitFor("the others are back", ({ present }) => present.length === 3);
    expectDone(await shard.adm("set-onwm", "-m", "off", "-y"));
    await shard.waitForChain();
    await shard.waitForWrites(20);
    await shard.checkEqual();
  },
);

scenario("verify is silent about a shard that is well, and fails while its sync is gone", {}, async (shard) => {
  const well = await shard.adm("verify");
  expect(well.stdout + well.stderr).toBe("");
  expectDone(well);
  await (await shard.async()).crash();
  await (await shard.sync()).crash();
  await shard.waitFor("verify fails", async () => (await shard.adm("verify")).status !== 0);
  for (const peer of shard.peers) if (peer.sitterPid === undefined) peer.startSitter();
  await shard.waitForChain();
});

scenario("the tools show the same shard: peers, pg-status, history, state, manatee-stat", {}, async (shard) => {
  const state = await shard.state();
  const peers = await shard.adm("peers", "-H", "-o", "role,peername");
  expectDone(peers);
  expect(
    peers.stdout
      .trim()
      .split("\n")
      .map((line) => line.trim().split(/\s+/)),
  ).toEqual([
    ["primary", state.primary.zoneId],
    ["sync", state.sync?.zoneId],
    ["async", state.async[0]?.zoneId],
  ]);
  const shown = await shard.adm("zk-state");
  expectDone(shown);
  expect(JSON.parse(shown.stdout)).toMatchObject({ generation: state.generation, primary: { id: state.primary.id } });
  const history = await shard.adm("history", "-j");
  expectDone(history);
  expect(
    history.stdout
      .trim()
      .split("\n")
      .map((line) => (JSON.parse(line) as { state: { generation: number } }).state.generation),
  ).toContain(1);
  const status = await shard.adm("pg-status", "-H", "-o", "peername,pg-online");
  expectDone(status);
  expect(status.stdout.match(/\bok\b/g)).toHaveLength(3);
  const stat = await shard.tool("manatee-stat", []);
  expectDone(stat);
  const name = shard.shardPath.slice("/manatee/".length);
  expect(JSON.parse(stat.stdout)).toMatchObject({
    [name]: {
      primary: { zoneId: state.primary.zoneId },
      sync: { zoneId: state.sync?.zoneId },
      registrar: { database: { primary: state.primary.pgUrl } },
    },
  });
});
