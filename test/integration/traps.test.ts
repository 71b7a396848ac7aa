// Traps of the real PostgreSQL that a whole shard has to get past.

import { execFile, execFileSync } from "node:child_process";
import { readFileSync, statSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect } from "vitest";
import { FILL_A_SEGMENT } from "../support/partial-record.ts";
import { postgresBinaries } from "../support/postgres-binaries.ts";
import { currentRuntime } from "../support/runtime.ts";
import { scenario } from "../support/scenario.ts";
import { giveAway, runAs } from "../support/unprivileged.ts";

scenario(
  "T1: a leftover apply delay and recovery target in the sync's postgresql.auto.conf lose nothing at its promotion",
  {},
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const sync = await shard.sync();
    await shard.query(sync, "ALTER SYSTEM SET recovery_min_apply_delay = '1h'");
    await shard.query(sync, "ALTER SYSTEM SET recovery_target_timeline = 'current'");
    await shard.query(sync, "SELECT pg_reload_conf()");
    await shard.waitForWrites(50);
    await (await shard.primary()).killPostgres();
    await shard.waitFor(
      "the sync has taken over",
      ({ state }) => state?.primary.id === before.sync?.id && state?.provisional !== true,
    );
    await shard.waitForWrites(20);
    await shard.waitForChain();
    await shard.check();
  },
);

scenario("I1: synchronous_standby_names emptied by ALTER SYSTEM is noticed and put right", {}, async (shard) => {
  await shard.writer();
  const primary = await shard.primary();
  await shard.query(primary, "ALTER SYSTEM SET synchronous_standby_names = ''");
  await shard.query(primary, "SELECT pg_reload_conf()");
  await shard.waitFor("the sync is required again", async () => {
    const [row] = await shard.query<{ synchronous_standby_names: string }>(primary, "SHOW synchronous_standby_names");
    return row?.synchronous_standby_names !== "";
  });
  expect(readFileSync(join(primary.dataDir, "postgresql.auto.conf"), "utf8")).not.toMatch(
    /^\s*synchronous_standby_names/m,
  );
  await shard.waitForWrites(20);
  await primary.killPostgres();
  await shard.waitForWrites(20);
  await shard.waitForChain();
  await shard.check();
});

scenario(
  "I1: whoever else streams with the sync's name, and reports what it has flushed, is ended: a name is a vote",
  {},
  async (shard, pair) => {
    await shard.writer();
    const [primary, { sync }] = [await shard.primary(), await shard.state()];
    const folder = join(shard.folder, "received");
    await mkdir(folder);
    giveAway(folder);
    const program = join(await postgresBinaries(pair.postgres, currentRuntime()), "pg_receivewal");
    const upstream = `host=${primary.ip} port=${primary.port} user=manatee_replication application_name=${sync?.pgUrl}`;
    const ended = promisify(execFile)(program, ["-D", folder, "-d", upstream, "--synchronous", "--no-loop"], {
      ...runAs().credentials,
      env: { PGPASSWORD: readFileSync(join(shard.folder, "replication-password"), "utf8").trim() },
      timeout: 60_000,
    });
    await expect(ended).rejects.toMatchObject({ stderr: expect.stringContaining("administrator command") });
    await shard.waitForChain();
    await shard.waitForWrites(20);
    await shard.check();
  },
);

scenario(
  "T1: a query on the sync that conflicts with what is replayed is ended, and holds up no takeover",
  {},
  async (shard) => {
    await shard.writer();
    const [primary, sync] = [await shard.primary(), await shard.sync()];
    await shard.query(primary, "CREATE TABLE doomed AS SELECT generate_series(1, 1000) AS n");
    await shard.waitFor(
      "the sync has the table",
      async () => (await shard.query(sync, "SELECT FROM pg_class WHERE relname = 'doomed'")).length === 1,
    );
    const reader = await shard.client(sync);
    await reader.query("BEGIN ISOLATION LEVEL REPEATABLE READ");
    expect((await reader.query("SELECT count(*)::int AS n FROM doomed")).rows).toEqual([{ n: 1000 }]);
    const reading = reader.query("SELECT pg_sleep(600)").then(
      () => "answered",
      (error: { code?: string; message: string }) => `${error.code} ${error.message}`,
    );
    await shard.query(primary, "DELETE FROM doomed");
    await shard.query(primary, "VACUUM doomed");
    // Acknowledged behind it: the sync has flushed what its reader stands in the way of.
    await shard.waitForWritesOn(primary);
    await primary.crash();
    await shard.waitFor(
      "the sync has taken over",
      ({ state }) => state?.primary.id === sync.id && state.provisional !== true,
    );
    // By recovery, not by the promotion, which would have waited for it.
    expect(await reading).toMatch(/^40001 .*conflict with recovery/);
    expect(await shard.query(sync, "SELECT n FROM doomed")).toEqual([]);
    await shard.waitForWrites(20);
    primary.startSitter();
    await shard.waitForChain();
    await shard.check();
  },
);

scenario(
  "T1: while replay is paused on the sync it doesn't take over; the primary goes on in place",
  {},
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const [primary, sync] = [await shard.primary(), await shard.sync()];
    await shard.query(sync, "SELECT pg_wal_replay_pause()");
    await primary.killPostgres();
    await shard.waitForWritesOn(primary, 60_000);
    expect((await shard.state()).primary.id).toBe(before.primary.id);
    // It may be closed to clients for a moment, on its way back into the chain.
    await shard.waitFor("replay goes on", () =>
      shard.query(sync, "SELECT pg_wal_replay_resume()").then(
        () => true,
        () => false,
      ),
    );
    await shard.waitForChain();
    await shard.check();
  },
);

scenario(
  "a standby configured with fewer connections than its primary says so, and comes back when that is corrected",
  {},
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const async = await shard.async();
    await async.stopSitter();
    await async.configure({ postgres: { parameters: { max_connections: "40" } } });
    async.startSitter();
    await shard.waitFor("it says what is wrong", ({ reports }) => {
      const report = reports[async.name];
      return (
        report !== undefined &&
        /max_connections/.test(JSON.stringify([report.postgres.error, report.postgres.warnings, report.decision]))
      );
    });
    await shard.waitForWrites(20);
    await async.stopSitter();
    await async.configure({});
    async.startSitter();
    await shard.waitForChain();
    expect((await shard.state()).primary.id).toBe(before.primary.id);
    await shard.check();
  },
);

scenario(
  "data of another database is never touched: the peer says what it found, and the shard goes on without it",
  { peers: 4, started: 3 },
  async (shard, pair) => {
    await shard.writer();
    const fourth = shard.peers[3]!;
    const binDir = await postgresBinaries(pair.postgres, currentRuntime());
    execFileSync(
      join(binDir, "initdb"),
      [
        "-D",
        fourth.dataDir,
        "-U",
        "postgres",
        "-A",
        "scram-sha-256",
        "--pwfile",
        join(shard.folder, "superuser-password"),
      ],
      { ...runAs().credentials, cwd: fourth.folder },
    );
    const version = readFileSync(join(fourth.dataDir, "global/pg_control"));
    fourth.startSitter();
    await shard.waitFor(
      "it names a way out",
      ({ reports }) => reports[fourth.name]?.decision.operator !== null && reports[fourth.name] !== undefined,
    );
    expect(readFileSync(join(fourth.dataDir, "global/pg_control")).equals(version), "untouched").toBe(true);
    const state = await shard.state();
    expect([state.primary, state.sync, ...state.async].map((peer) => peer?.id)).not.toContain(fourth.id);
    await shard.waitForWrites(20);
    await shard.check(shard.peers.slice(0, 3));
  },
);

scenario(
  "P1: of a running primary holds what must: no trust but on a socket of its owner's alone, no restart around the gate",
  {},
  async (shard) => {
    await shard.writer();
    const primary = await shard.primary();
    const [hba] = await shard.query<{ hba_file: string }>(primary, "SHOW hba_file");
    const lines = readFileSync(hba?.hba_file ?? "", "utf8").split("\n");
    const rules = lines.filter((line) => line.trim() !== "" && !line.startsWith("#"));
    expect(rules.length).toBeGreaterThan(1);
    expect(
      rules.filter((line) => line.startsWith("host") && /\btrust\b/.test(line)),
      "no trust over the network",
    ).toEqual([]);
    const [socket] = await shard.query<{ folder: string }>(
      primary,
      "SELECT setting AS folder FROM pg_settings WHERE name = 'unix_socket_directories'",
    );
    expect(statSync(socket?.folder ?? "").mode & 0o777).toBe(0o700);
    const settings = await shard.query<{ name: string; setting: string }>(
      primary,
      "SELECT name, setting FROM pg_settings WHERE name IN ('restart_after_crash', 'fsync', 'full_page_writes', 'synchronous_commit') ORDER BY name",
    );
    expect(settings.map(({ name, setting }) => [name, setting])).toEqual([
      ["fsync", "on"],
      ["full_page_writes", "on"],
      ["restart_after_crash", "off"],
      ["synchronous_commit", "on"],
    ]);
    await shard.check();
  },
);

scenario(
  "T1: the primary dies inside a WAL record that goes on in another segment, and the shard goes on without its second part",
  {},
  async (shard) => {
    const [old, sync] = [await shard.primary(), await shard.sync()];
    const [row] = await shard.query<{ pid: number }>(
      old,
      "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'",
    );
    process.kill(row!.pid, "SIGSTOP");
    await shard.query(old, FILL_A_SEGMENT);
    const [flushed] = await shard.query<{ lsn: string }>(old, "SELECT pg_current_wal_flush_lsn() AS lsn");
    for (const standby of shard.peers.filter((peer) => peer !== old))
      await shard.waitFor(`${standby.name} has all that is flushed`, async () => {
        const [is] = await shard.query<{ there: boolean }>(
          standby,
          "SELECT pg_last_wal_receive_lsn() >= $1::pg_lsn AS there",
          [flushed!.lsn],
        );
        return is!.there;
      });
    await old.crash();
    await shard.waitFor(
      "the sync has taken over, and its heir holds the beginning of its timeline",
      ({ state }) => state?.primary.id === sync.id && state.provisional !== true,
    );
    await shard.writer();
    await shard.waitForWrites(20);
    const cut = /lies a part of a record here: it is cut off/;
    expect(shard.peers.some(({ logFile }) => cut.test(readFileSync(logFile, "utf8")))).toBe(true);
    old.startSitter();
    await shard.waitForChain();
    await shard.check();
  },
);
