// I1, I3 as clients meet them: commits that wait, are cancelled, or are read too early.

import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import type { TestPeer } from "../support/peer.ts";
import { signal } from "../support/processes.ts";
import { scenario } from "../support/scenario.ts";
import { LONG_MS, type TestShard } from "../support/shard.ts";

scenario(
  "I3: what became durable on the primary alone is not shown by it after a restart, and may be lost unseen",
  {},
  async (shard) => {
    await shard.writer();
    const primary = await shard.primary();
    const standbys = shard.peers.filter((peer) => peer !== primary);
    const client = await shard.client(primary);
    for (const standby of standbys) standby.freeze("both");
    const insert = shard.history.insert("alone");
    const waiting = client.query("INSERT INTO ledger (id) VALUES ($1)", [insert.id]).then(
      () => "acknowledged",
      (error: Error) => {
        insert.unknown(error.message);
        return "unanswered";
      },
    );
    const watcher = await shard.client(primary);
    // Its commit record is on the primary's disk before it waits for the sync.
    await shard.waitFor("the commit waits for the sync", async () => {
      const { rows } = await watcher.query(
        "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE 'INSERT INTO ledger (id) VALUES ($1)'",
      );
      return rows.length > 0;
    });
    await primary.killPostgres();
    expect(await waiting).toBe("unanswered");
    await shard.waitFor("PostgreSQL is up again behind the gate", ({ reports }) => {
      const postgres = reports[primary.name]?.postgres;
      return postgres?.state === "primary" && postgres.gate === "closed";
    });
    // The reader of the workload goes on trying; the checker knows what it saw.
    await sleep(2000);
    await expect(shard.client(primary)).rejects.toThrow();
    await primary.crash();
    for (const standby of standbys) standby.thaw();
    await shard.waitFor(
      "a standby has taken over",
      ({ state }) => state?.primary.id !== primary.id && state?.provisional !== true,
      60_000,
    );
    await shard.waitForWrites(20);
    primary.startSitter();
    await shard.waitForChain();
    await shard.check();
  },
);

scenario(
  "I1: a commit whose wait is cancelled is told with a warning, counted, and reaches the sync once that is back",
  {},
  async (shard) => {
    await shard.writer();
    const primary = await shard.primary();
    const standbys = shard.peers.filter((peer) => peer !== primary);
    const [client, canceller] = [await shard.client(primary), await shard.client(primary)];
    await client.query("CREATE TABLE doubtful (n int)");
    const warnings: string[] = [];
    client.on("notice", (notice) => warnings.push(notice.message ?? ""));
    for (const standby of standbys) standby.freeze("both");
    const { rows } = await client.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
    const commit = client.query("INSERT INTO doubtful VALUES (1)");
    await shard.waitFor("the commit waits for the sync", async () => {
      const waiting = await canceller.query("SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'SyncRep'", [
        rows[0]?.pid,
      ]);
      return waiting.rows.length > 0;
    });
    await canceller.query("SELECT pg_cancel_backend($1)", [rows[0]?.pid]);
    await commit;
    expect(warnings.join()).toMatch(/synchronous replication/);
    await shard.waitFor(
      "the sitter has counted it",
      ({ reports }) => (reports[primary.name]?.postgres.cancelledWaits ?? 0) >= 1,
    );
    await shard.waitFor(
      "the sitter knows up to where commits are in doubt",
      ({ reports }) => typeof reports[primary.name]?.postgres.inDoubt?.upTo === "string",
    );
    expect((await shard.adm("verify")).stdout).toMatch(
      /warning: .* gave up waiting for the sync, are visible and not safe/,
    );
    for (const standby of standbys) standby.thaw();
    await shard.waitForChain();
    await shard.waitForWrites(20);
    await shard.waitFor(
      "nothing is in doubt any more",
      ({ reports }) => reports[primary.name]?.postgres.inDoubt === null,
    );
    expect((await shard.adm("verify")).stdout).not.toContain("gave up waiting");
    expect((await shard.adm("verify", "-v")).stdout).toMatch(/note: .* gave up waiting for the sync since its start/);
    for (const peer of shard.peers)
      await shard.waitFor(
        `${peer.name} has the row`,
        async () => (await shard.query(peer, "SELECT n FROM doubtful")).length === 1,
      );
    await shard.check();
  },
);

scenario(
  "I1: without any standby, nothing is acknowledged, and everything goes on when they are back",
  {},
  async (shard) => {
    await shard.writer();
    const primary = await shard.primary();
    const standbys = shard.peers.filter((peer) => peer !== primary);
    await Promise.all(standbys.map((standby) => standby.crash()));
    // Reports that were in flight when they died.
    await sleep(500);
    const acknowledged = shard.history.acknowledged();
    await sleep(3000);
    expect(shard.history.acknowledged()).toBe(acknowledged);
    for (const standby of standbys) standby.startSitter();
    await shard.waitForWrites(20, 60_000);
    await shard.waitForChain();
    await shard.check();
  },
);

/** One transaction with a key of its own; its number is told before it commits. */
async function pay(
  shard: TestShard,
  peer: TestPeer,
  key: string,
): Promise<{ number: string; answer: Promise<string> }> {
  const client = await shard.client(peer);
  await client.query("BEGIN");
  await client.query("INSERT INTO payment (key) VALUES ($1)", [key]);
  const { rows } = await client.query<{ number: string }>("SELECT pg_current_xact_id()::text AS number");
  const answer = client.query("COMMIT").then(
    () => "acknowledged",
    () => "unanswered",
  );
  return { number: rows[0]?.number ?? "", answer };
}

async function takenOverFrom(shard: TestShard, former: TestPeer): Promise<void> {
  await shard.waitFor(
    "another primary is open",
    ({ state, reports }) => {
      const primary = state && shard.peer(state.primary.id);
      return primary !== undefined && primary !== former && reports[primary.name]?.postgres?.gate === "open";
    },
    LONG_MS,
  );
}

async function whatBecameOf(shard: TestShard, peer: TestPeer, { key, number }: { key: string; number: string }) {
  const [row] = await shard.query<{ there: boolean; status: string | null }>(
    peer,
    "SELECT EXISTS (SELECT FROM payment WHERE key = $1) AS there, pg_xact_status($2::text::xid8) AS status",
    [key, number],
  );
  return row;
}

scenario(
  "I1: a commit in doubt whose WAL never left the primary: after the takeover its key tells, its number is another's",
  {},
  async (shard) => {
    await shard.writer();
    const primary = await shard.primary();
    await shard.query(primary, "CREATE TABLE payment (key text PRIMARY KEY)");
    const senders = primary.postgresProcesses().filter(({ args }) => args.join(" ").includes("walsender"));
    expect(senders.length).toBeGreaterThan(0);
    for (const { pid } of senders) signal(pid, "SIGSTOP");
    const lost = await pay(shard, primary, "lost");
    const watcher = await shard.client(primary);
    await shard.waitFor("the commit waits for the sync", async () => {
      const { rows } = await watcher.query(
        "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query = 'COMMIT'",
      );
      return rows.length > 0;
    });
    await primary.crash();
    expect(await lost.answer).toBe("unanswered");
    await takenOverFrom(shard, primary);
    const next = await shard.primary();
    const acknowledged: string[] = [];
    for (let number = "0"; BigInt(number) < BigInt(lost.number); ) {
      const key = `other ${acknowledged.length}`;
      const other = await pay(shard, next, key);
      expect(await other.answer).toBe("acknowledged");
      acknowledged.push(key);
      number = other.number;
    }
    acknowledged.sort();
    // Another client's may bear that number, and still be on its way.
    await expect
      .poll(() => whatBecameOf(shard, next, { key: "lost", number: lost.number }), { timeout: 30_000 })
      .toEqual({ there: false, status: "committed" });
    primary.startSitter();
    await shard.waitForChain();
    await expect.poll(() => paymentsOf(shard), { timeout: 30_000 }).toEqual(shard.peers.map(() => acknowledged));
    await shard.check();
  },
);

scenario("I1: a commit in doubt that reached the sync: its key is there after the takeover", {}, async (shard) => {
  await shard.writer();
  const primary = await shard.primary();
  await shard.query(primary, "CREATE TABLE payment (key text PRIMARY KEY)");
  // Acknowledged is more than sent: the application is who does not hear of it.
  const { number, answer } = await pay(shard, primary, "kept");
  await answer;
  await primary.crash();
  await takenOverFrom(shard, primary);
  expect(await whatBecameOf(shard, await shard.primary(), { key: "kept", number })).toEqual({
    there: true,
    status: "committed",
  });
  primary.startSitter();
  await shard.waitForChain();
  await expect.poll(() => paymentsOf(shard), { timeout: 30_000 }).toEqual(shard.peers.map(() => ["kept"]));
  await shard.check();
});

/** The keys that each peer holds: what was acknowledged, and nothing else, is on all of them. */
async function paymentsOf(shard: TestShard): Promise<readonly (readonly string[])[]> {
  const keys = async (peer: TestPeer) =>
    (await shard.query<{ key: string }>(peer, 'SELECT key FROM payment ORDER BY key COLLATE "C"')).map(
      ({ key }) => key,
    );
  return Promise.all(shard.peers.map(keys));
}
