// T1, T2: the primary is lost, in every way that one machine can lose it.

import { expect } from "vitest";
import type { StateDocument } from "../support/documents.ts";
import { scenario } from "../support/scenario.ts";
import type { TestShard } from "../support/shard.ts";

/** The former sync is primary, the former async sync, and clients write there. */
async function expectTakeover(shard: TestShard, before: StateDocument): Promise<void> {
  await shard.waitFor(
    "the sync has taken over",
    ({ state }) =>
      state !== undefined &&
      state.generation > before.generation &&
      state.primary.id === before.sync?.id &&
      state.provisional !== true,
  );
  await shard.waitForWritesOn(shard.peer(before.sync?.id ?? ""));
}

scenario(
  "T2: SIGKILL of the primary's PostgreSQL: its sync takes over, the former primary comes back",
  { on: "everywhere" },
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    await shard.peer(before.primary.id).killPostgres();
    await expectTakeover(shard, before);
    await shard.waitForChain();
    const after = await shard.state();
    expect(after.sync?.id).toBe(before.async[0]?.id);
    expect(after.async.map(({ id }) => id)).toEqual([before.primary.id]);
    await shard.check();
  },
);

scenario(
  "T1: the primary's host crashes: its sync takes over, the former primary comes back with its host",
  { on: "everywhere" },
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const victim = shard.peer(before.primary.id);
    await victim.crash();
    await expectTakeover(shard, before);
    expect((await shard.state()).deposed.map(({ id }) => id)).toEqual([before.primary.id]);
    const explained = await shard.adm("explain-failover", "-j");
    expect(JSON.parse(explained.stdout)).toMatchObject({
      from: before.primary.id,
      to: before.sync?.id,
      phases: expect.arrayContaining([
        expect.objectContaining({ name: "until PostgreSQL was promoted" }),
        expect.objectContaining({ name: "until clients were let in" }),
      ]) as unknown,
      notAsked: [before.primary.id],
    });
    victim.startSitter();
    await shard.waitForChain();
    await shard.check();
  },
);

scenario("T1: a second failover follows the first, and then a third", { on: "everywhere" }, async (shard) => {
  await shard.writer();
  for (let round = 0; round < 3; round++) {
    const before = await shard.state();
    await shard.peer(before.primary.id).killPostgres();
    await expectTakeover(shard, before);
    await shard.waitForChain();
  }
  const history = await shard.stateHistory();
  expect(
    new Set(history.map(({ state }) => state.timeline)).size,
    "each takeover has a timeline of its own",
  ).toBeGreaterThanOrEqual(4);
  await shard.check();
});

scenario(
  "T1: the new primary dies before the former one is back: the heir takes over as soon as it has an heir",
  {},
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const first = shard.peer(before.primary.id);
    await first.crash();
    await expectTakeover(shard, before);
    const second = shard.peer(before.sync?.id ?? "");
    await second.crash();
    first.startSitter();
    await shard.waitFor(
      "the last of the chain has taken over",
      ({ state }) => state?.primary.id === before.async[0]?.id && state?.provisional !== true,
      60_000,
    );
    await shard.waitForWrites(20);
    second.startSitter();
    await shard.waitForChain();
    await shard.check();
  },
);

scenario(
  "T2: without an async there is no heir: PostgreSQL is restarted in place",
  { peers: 2, on: "everywhere" },
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const victim = shard.peer(before.primary.id);
    await victim.killPostgres();
    await shard.waitForWritesOn(victim);
    expect((await shard.state()).primary.id).toBe(before.primary.id);
    await shard.check();
  },
);

scenario(
  "T1: an idle transaction on the old primary and a long query on the sync don't delay the failover",
  {},
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const primary = shard.peer(before.primary.id);
    const sync = shard.peer(before.sync?.id ?? "");
    const idle = await shard.client(primary);
    await idle.query("BEGIN");
    await idle.query("INSERT INTO ledger (id) VALUES (-1)");
    const long = await shard.client(sync);
    const count = async () => Number((await long.query("SELECT count(*) FROM ledger")).rows[0]?.["count"]);
    // A commit waits until the sync has it, not until it is seen there.
    await expect.poll(count, { timeout: 10_000 }).toBeGreaterThan(0);
    await long.query("BEGIN ISOLATION LEVEL REPEATABLE READ");
    await count();
    const query = long.query("SELECT pg_sleep(60)").then(
      () => "ended by itself",
      () => "ended by force",
    );
    await primary.killPostgres();
    await expectTakeover(shard, before);
    expect(await query, "a session opened on a standby must not survive its promotion").toBe("ended by force");
    await expect(idle.query("COMMIT")).rejects.toThrow();
    await shard.check();
  },
);

scenario("T1: SIGKILL of every PostgreSQL process of the primary, backends and all", {}, async (shard) => {
  await shard.writer();
  const before = await shard.state();
  const victim = shard.peer(before.primary.id);
  for (const { pid } of victim.postgresProcesses()) process.kill(pid, "SIGKILL");
  await shard.waitForWrites(20);
  await shard.waitForChain();
  await shard.check();
});

scenario(
  "T2: SIGKILL of one backend of the primary is a failure of its PostgreSQL: it never restarts by itself around the gate",
  {},
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const primary = shard.peer(before.primary.id);
    const client = await shard.client(primary);
    const { rows } = await client.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
    process.kill(rows[0]?.pid ?? 0, "SIGKILL");
    await expectTakeover(shard, before);
    await shard.waitForChain();
    await shard.check();
  },
);
