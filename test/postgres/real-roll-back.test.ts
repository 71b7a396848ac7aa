// R1 by the real server: a forked peer goes back to a snapshot from before its fork, with its own WAL up to the fork, and follows the shard from there.

import { existsSync } from "node:fs";
import { appendFile, lstat, readdir, rename, stat, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { formatLsn } from "../../src/base/lsn.ts";
import { findBinaries } from "../../src/postgres/real/binaries.ts";
import { KeptForks } from "../../src/postgres/real/kept-forks.ts";
import type { PostgresStorage } from "../../src/postgres/real/dataset.ts";
import { newestBeforeFork } from "../../src/snapshots/choice.ts";
import { known, planRebuild, type RebuildPlan, unknown } from "../../src/postgres/rebuild-plan.ts";
import { realRebuildLook } from "../../src/postgres/real/rebuild-look.ts";
import { realTimers } from "../../src/world/real/clock.ts";
import { type FolderStorage, folderStorage } from "../support/folder-storage.ts";
import {
  follow,
  leftOfAnother,
  PostgresBench,
  refusalBehindGate,
  settingsWith,
  startPrimary,
  startStandby,
  streams,
  type TestPeer,
} from "../support/postgres.ts";

const DATASET = "tank/pg";
const SEGMENT = 16n * 1024n * 1024n;

describe("a roll-back (R1)", () => {
  let bench: PostgresBench;
  let storage: FolderStorage;
  let a: TestPeer;
  let b: TestPeer;

  beforeEach(async () => {
    bench = await PostgresBench.open();
    storage = folderStorage(join(bench.folder, "pool"));
    await storage.create("tank");
    const options: PostgresStorage = { storage, dataset: DATASET, chooseSnapshot: newestBeforeFork };
    const dataDir = join(bench.folder, "pool", "datasets", "tank", "pg");
    // The socket's path has its limit.
    a = await bench.peer("a", { dataDir, socketDir: join(bench.folder, "s") }, options);
    b = await bench.peer("b");
    await startPrimary(a);
    await a.sql("create table t (n int)");
    await a.sql("insert into t select generate_series(1, 1000)");
  });
  afterEach(() => bench.cleanUp());

  /** In backup mode, as storage without instants demands. */
  async function snapshot(name: string): Promise<void> {
    const client = await a.connect();
    await client.query(`select pg_backup_start('${name}', true)`);
    await storage.snapshot({ dataset: DATASET, name, properties: {} });
    const { rows } = await client.query<{ labelfile: string }>("select labelfile from pg_backup_stop(false)");
    await client.end();
    const { wal } = await a.primary();
    await storage.setProperties(
      { dataset: DATASET, name },
      { "manatee:lsn": formatLsn(wal.end), "manatee:timeline": "1", "manatee:system": "1" },
    );
    const path = join(bench.folder, "pool", "snapshots", DATASET.replaceAll("/", "%"), name, "backup_label");
    await writeFile(path, rows[0]?.labelfile ?? "");
  }

  /** The standby takes over while the primary still writes what nobody gets. */
  async function fork(): Promise<void> {
    await b.apply({ upstream: null });
    await b.until("it receives nothing", ({ server }) => server.kind === "standby" && server.receiver.kind === "none");
    await a.sql("insert into t select generate_series(5001, 6000)");
    await a.postgres.perform({ kind: "stop", mode: "immediate" }, []);
    await b.perform({ kind: "promote", timeline: 2 });
    await b.until("it is a primary", ({ server }) => server.kind === "primary");
    await b.apply({ syncNames: [], gate: "open" });
    await b.sql("insert into t select generate_series(2001, 3000)");
  }

  async function rejoins(): Promise<void> {
    await follow(a, b);
    const { wal } = await b.primary();
    await a.until(
      "it has all",
      ({ server }) => server.kind === "standby" && server.wal.end >= wal.end && server.caughtUpLocally,
    );
    expect(await a.sql("select count(*)::int as n, max(n)::int as top from t")).toEqual(
      await b.sql("select count(*)::int as n, max(n)::int as top from t"),
    );
    expect((await a.observe()).data).toMatchObject({
      mark: { incarnation: "again", source: b.self.id, incomplete: false },
    });
  }

  /** As manatee-adm rebuild --dry-run would say it now, from what this host shows. */
  async function foretold(): Promise<RebuildPlan> {
    const look = realRebuildLook({
      config: a.config,
      self: a.self,
      timers: realTimers,
      storage: { storage, dataset: DATASET },
    });
    const [{ data }, { wal }] = [await a.observe(), await b.primary()];
    if (data.kind !== "present") throw new Error(`there is no data: ${data.kind}`);
    return planRebuild({
      wish: { from: undefined, full: false },
      primary: b.self.id,
      from: b.self.id,
      forked: known(true),
      lineages: known({ own: data.lineage, primary: wal }),
      hasData: true,
      fork: known("one"),
      forksKept: known([]),
      forksKeptMax: 2,
      local: await look.local(),
      sourceBytes: await look.sourceBytes(b.self),
      sent: unknown("it has no backup server"),
    });
  }

  const rollBack = { kind: "roll-back", fork: "one" } as const;
  const renew = () => a.perform({ kind: "renew-incarnation", incarnation: "again" });

  it("ends exactly at the fork, keeps what was there, and streams on along the new timeline (I5)", async () => {
    // As the snapshot shows it: a primary with a slot, whose operator trusts everybody.
    await a.sql("select pg_create_physical_replication_slot('left', true)");
    await appendFile(join(a.config.dataDir, "pg_hba.conf"), "host all all all trust\n");
    await snapshot("before");
    const shown = join(bench.folder, "pool", "snapshots", DATASET.replaceAll("/", "%"), "before");
    expect(await readdir(shown)).toContain("postmaster.pid");
    expect(await readdir(shown)).not.toContain("standby.signal");
    expect(await readdir(join(shown, "pg_replslot"))).toEqual(["left"]);
    await a.sql("insert into t select generate_series(1001, 1500)");
    await startStandby(b, a);
    await fork();
    await renew();
    const plan = await foretold();
    expect(plan).toMatchObject({ way: "roll-back", snapshot: "before", passedOver: [], fork: { kind: "snapshot" } });
    expect(plan.durationMs.kind).toBe("unknown");
    expect((await a.perform({ kind: "keep-fork", name: "one" })).forks).toEqual(["one"]);
    // Of a sitter that died while it made one ready.
    await storage.create(`${DATASET}-staged`);
    const seen = await a.perform({ ...rollBack, from: b.self });
    expect(seen).toMatchObject({ canRollBack: true, forks: ["one"], data: { kind: "present", standbySignal: true } });
    expect(await leftOfAnother(a)).toEqual([]);
    expect(await refusalBehindGate(a, b)).toMatch(/pg_hba.conf rejects/);
    // By the one that has just ended.
    const again = await realRebuildLook({
      config: a.config,
      self: a.self,
      timers: realTimers,
      storage: undefined,
    }).local();
    expect(again.lastCopies["roll-back"]?.tookMs).toBeGreaterThan(0);
    await rejoins();
    expect(await a.sql("select slot_name from pg_replication_slots")).toEqual([]);
    expect(await readdir(join(bench.folder, "pool/datasets/tank/pg-fork-one"))).toContain("PG_VERSION");
    expect(await storage.look(`${DATASET}-staged`)).toBeUndefined();
    expect((await stat(a.config.dataDir)).mode & 0o777).toBe(0o700);
    const forks = new KeptForks({ config: a.config, storage: { storage, dataset: DATASET } });
    expect((await forks.list()).map(({ name, kind }) => `${name} ${kind}`).sort()).toEqual([
      "one dataset",
      "one snapshot",
    ]);
    if (
      existsSync(
        join(dirname((await findBinaries({ binDir: a.config.binDir, major: undefined })).postgres), "pg_waldump"),
      )
    )
      expect(await forks.content("one")).toMatchObject({ timeline: 1, commits: [expect.anything()] });
    await forks.drop("one");
    expect(await forks.list()).toEqual([]);
    expect((await a.reopen().observe()).forks).toEqual([]);
    expect((await storage.children("tank")).filter(({ name }) => /fork|look/.test(name))).toEqual([]);
  });

  it("also where the fork lies on the boundary of a segment", async () => {
    await snapshot("before");
    await startStandby(b, a);
    await a.sql("insert into t select generate_series(1001, 1500)");
    await a.sql("select pg_switch_wal()");
    const { wal } = await a.primary();
    await b.until(
      "it is there",
      (seen) => streams(seen) && seen.server.kind === "standby" && seen.server.wal.end >= wal.end,
    );
    await fork();
    const history = await b.sql("select pg_read_file('pg_wal/00000002.history') as text");
    const [, high, low] = /\s([0-9A-F]+)\/([0-9A-F]+)/.exec(String(history[0]?.["text"])) ?? [];
    expect(((BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`)) % SEGMENT).toBe(0n);
    await renew();
    await a.perform({ ...rollBack, from: b.self });
    await rejoins();
  });

  it("touches nothing where no snapshot ends before the fork, and pg_rewind leads on", async () => {
    await startStandby(b, a);
    await fork();
    await renew();
    expect(await foretold()).toMatchObject({
      passedOver: [{ way: "roll-back", because: "no snapshot ends before the fork" }],
    });
    await expect(a.perform({ ...rollBack, from: b.self })).rejects.toMatchObject({ code: "PG_ROLL_BACK_FAILED" });
    expect((await a.observe()).data).toMatchObject({ kind: "present", mark: { incomplete: false, source: undefined } });
    await a.perform({ kind: "rewind", from: b.self });
    await rejoins();
  });

  it("keeps a fork by a copy where its WAL lies outside of the dataset, which a snapshot does not show (I5)", async () => {
    await startStandby(b, a);
    await a.postgres.perform({ kind: "stop", mode: "immediate" }, []);
    await a.until("it has ended", ({ server, job }) => server.kind === "stopped" && !job);
    const wal = join(a.config.dataDir, "pg_wal");
    await rename(wal, join(bench.folder, "wal"));
    await symlink(join(bench.folder, "wal"), wal);
    expect((await a.perform({ kind: "keep-fork", name: "one" })).forks).toEqual(["one"]);
    const kept = join(a.config.forksDir, "one", "pg_wal");
    expect((await lstat(kept)).isDirectory()).toBe(true);
    expect(await readdir(kept)).toEqual(await readdir(wal));
    expect((await a.perform({ kind: "keep-fork", name: "one" })).forks).toEqual(["one"]);
  });

  it.each([
    ["before what is there is moved aside", 0, "rename"],
    ["while nothing bears the name", 1, "rename"],
    ["before it is mounted", 1, "mount"],
  ] as const)(
    "cut short %s is ended by a later look, and never passes for an empty directory (I5)",
    async (_when, calls, method) => {
      await snapshot("before");
      await startStandby(b, a);
      await fork();
      await renew();
      await a.perform({ kind: "keep-fork", name: "one" });
      storage.failAfter(calls, method);
      const over = new Promise<void>((resolve) => void a.postgres.onChange(resolve));
      await a.postgres.perform({ ...rollBack, from: b.self }, []);
      await over;
      // As after a SIGKILL at that step. The first look of another sitter fails there as well.
      storage.failAfter(0, method);
      const second = await a.reopen().observe();
      expect(second.data).toMatchObject({ kind: "unusable", mark: { incarnation: "again", incomplete: true } });
      a = a.reopen();
      expect((await a.observe()).data).toMatchObject({
        kind: "present",
        mark: { incomplete: false, source: b.self.id },
      });
      await rejoins();
      expect((await a.observe()).forks).toEqual(["one"]);
    },
  );

  it("finds a dataset that was moved aside, and does not take its place for an empty directory", async () => {
    await a.postgres.perform({ kind: "stop", mode: "immediate" }, []);
    await storage.rename(DATASET, `${DATASET}-fork-x`);
    expect((await a.reopen().observe()).data).toMatchObject({ kind: "unusable", code: "PG_DATASET_AWAY" });
    await expect(a.perform({ kind: "initdb", incarnation: "new" })).rejects.toMatchObject({ code: "PG_DATASET_AWAY" });
    await storage.rename(`${DATASET}-fork-x`, DATASET);
    await a.perform({
      kind: "start",
      as: "primary",
      settings: settingsWith({ syncNames: [] }),
      unfinishedTimeline: undefined,
    });
    await a.primary();
  });
});
