// Whether data can be restored, found out by restoring it: by a real server on copies of a real database.

import { execFileSync } from "node:child_process";
import { mkdir, open, readdir, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { lsn } from "../../src/base/lsn.ts";
import { readSnapshotterConfig } from "../../src/config/snapshotter.ts";
import type { VerificationConfig } from "../../src/config/types.ts";
import { endServersOn } from "../../src/postgres/real/leftovers.ts";
import { verifyData } from "../../src/postgres/real/verify-data.ts";
import { postgresProcessesOn } from "../../src/postgres/real/processes.ts";
import { realClock, realTimers } from "../../src/world/real/clock.ts";
import { encodeFacts, refusalOf } from "../../src/snapshots/facts.ts";
import { Snapshotter } from "../../src/snapshotter/snapshotter.ts";
import { localSitter } from "../../src/snapshotter/local-sitter.ts";
import { realNetwork } from "../../src/world/real/network.ts";
import { silentLog } from "../coordination/local/silent-log.ts";
import { folderStorage } from "../support/folder-storage.ts";
import { freePorts } from "../support/ports.ts";
import { eventually, PostgresBench, settingsWith, startPrimary, type TestPeer } from "../support/postgres.ts";

const PAGE = 8192;

// In the idle class: on a machine with much else to do it gets little.
describe("the verification of data", { timeout: 480_000 }, () => {
  let bench: PostgresBench;
  let a: TestPeer;
  let relation: string;
  let copies = 0;

  beforeAll(async () => {
    bench = await PostgresBench.open();
    a = await bench.peer("a");
    await startPrimary(a);
    // What a vacuum writes would heal a damaged page when it is recovered.
    await a.sql("create table t (n int primary key) with (autovacuum_enabled = off)");
    await a.sql("insert into t select generate_series(1, 20000)");
    await a.sql("checkpoint");
    await a.sql("insert into t select generate_series(20001, 21000)");
    const [row] = await a.sql("select pg_relation_filepath('t') as path");
    relation = (row as { path: string }).path;
  });
  afterAll(() => bench.cleanUp());

  /** As a snapshot shows it: of a server that runs. */
  function copy(): string {
    const folder = join(bench.folder, `copy${++copies}`);
    execFileSync("cp", ["-a", a.config.dataDir, folder]);
    return folder;
  }

  function verify(folder: string, overrides: Partial<VerificationConfig> = {}, signal = new AbortController().signal) {
    const config: VerificationConfig = {
      intervalMs: 1,
      limitMs: 400_000,
      binDir: a.config.binDir,
      superuser: a.config.superuser,
      sql: [],
      amcheck: true,
      options: ["shared_buffers=16MB"],
      ...overrides,
    };
    const workFolder = join(bench.folder, "w");
    return verifyData({ folder, workFolder, config, signal, clock: realClock, timers: realTimers });
  }

  it("passes what can be restored, says what it checked, and leaves nothing running", async () => {
    await a.sql("begin; insert into t values (-1); prepare transaction 'left'").catch(() => undefined);
    const folder = copy();
    const verdict = await verify(folder, { sql: ["select count(*) > 20000 from t", "select 1"] });
    expect(verdict).toMatchObject({ passed: true });
    expect(verdict.text).toMatch(/started with \d+.*2 statements/);
    expect(await postgresProcessesOn(folder)).toEqual([]);
    expect((await readdir(bench.folder)).includes("w")).toBe(false);
  });

  it("passes a standby's data, which names an upstream, without asking it", async () => {
    const folder = copy();
    await writeFile(join(folder, "standby.signal"), "");
    await writeFile(join(folder, "postgresql.auto.conf"), "primary_conninfo = 'host=192.0.2.1'\n");
    // Nor a publisher: it would send to this one what the shard's own subscriber waits for.
    const sql = ["select current_setting('max_logical_replication_workers') = '0'"];
    expect(await verify(folder, { sql })).toMatchObject({ passed: true });
  });

  it("fails data with a page that is not what was written", async () => {
    const folder = copy();
    const file = await open(join(folder, relation), "r+");
    await file.write(Buffer.alloc(64, 0xa5), 0, 64, PAGE + 4000);
    await file.close();
    const verdict = await verify(folder, { amcheck: false });
    expect(verdict.passed).toBe(false);
    expect(verdict.text).toMatch(/checksum/i);
  });

  it("fails data whose WAL is gone", async () => {
    const folder = copy();
    for (const name of await readdir(join(folder, "pg_wal")))
      await rm(join(folder, "pg_wal", name), { recursive: true, force: true });
    await mkdir(join(folder, "pg_wal", "archive_status"), { recursive: true });
    const verdict = await verify(folder);
    expect(verdict).toMatchObject({
      passed: false,
      text: expect.stringMatching(/does not start.*checkpoint/) as string,
    });
  });

  it("fails what is no database, and where a statement of the operator's says no or fails", async () => {
    const empty = join(bench.folder, "empty");
    await mkdir(empty);
    expect(await verify(empty)).toMatchObject({ passed: false });
    expect(await verify(copy(), { sql: ["select count(*) > 1000000 from t"] })).toMatchObject({
      passed: false,
      text: expect.stringContaining("says no") as string,
    });
    expect(await verify(copy(), { sql: ["select * from nothing"] })).toMatchObject({
      passed: false,
      text: expect.stringContaining("nothing") as string,
    });
  });

  it("starts nothing where pg_wal or a tablespace leads out of the copy, and writes nothing there", async () => {
    const wal = join(bench.folder, "wal-elsewhere");
    const withWal = copy();
    await rename(join(withWal, "pg_wal"), wal);
    await symlink(wal, join(withWal, "pg_wal"));
    const space = join(bench.folder, "space");
    await mkdir(space);
    await a.sql(`create tablespace elsewhere location '${space}'`);
    const withSpace = copy();
    await a.sql("drop tablespace elsewhere");
    const before = await written(wal, space);
    for (const [folder, name] of [
      [withWal, "pg_wal"],
      [withSpace, "pg_tblspc/"],
    ] as const)
      await expect(verify(folder)).rejects.toMatchObject({
        code: "SNAPSHOT_LEADS_OUT",
        remedy: "operator",
        message: expect.stringContaining(name) as string,
      });
    expect(await written(wal, space)).toEqual(before);
  });

  it("passes a copy in which pg_wal is a link that stays inside", async () => {
    const folder = copy();
    await rename(join(folder, "pg_wal"), join(folder, "wal"));
    await symlink("wal", join(folder, "pg_wal"));
    expect(await verify(folder)).toMatchObject({ passed: true });
  });

  it("makes no verdict where its time is over or it is ended, and leaves nothing running then either", async () => {
    const slow = copy();
    await expect(verify(slow, { limitMs: 1 })).rejects.toMatchObject({ code: "SNAPSHOT_NOT_VERIFIED" });
    expect(await postgresProcessesOn(slow)).toEqual([]);
    const abort = new AbortController();
    const ended = verify(copy(), { sql: ["select pg_sleep(600)"] }, abort.signal);
    setTimeout(() => abort.abort(new Error("told to")), 3_000);
    await expect(ended).rejects.toThrow(/told to|cancelled/);
    await endServersOn(slow);
  });
});

describe("the snapshotter of a peer whose pg_wal lies elsewhere", () => {
  const DATASET = "tank/pg";
  let bench: PostgresBench;
  afterEach(() => bench.cleanUp());

  it("says why it can't verify a snapshot, and leaves the WAL that the peer recovers from as it is", async () => {
    bench = await PostgresBench.open();
    const storage = folderStorage(join(bench.folder, "pool"));
    await storage.create("tank");
    const dataDir = join(bench.folder, "pool/datasets/tank/pg");
    const a = await bench.peer("a", { dataDir, socketDir: join(bench.folder, "s") });
    await startPrimary(a);
    await a.perform({ kind: "stop", mode: "fast" });
    const wal = join(bench.folder, "wal");
    await rename(join(dataDir, "pg_wal"), wal);
    await symlink(wal, join(dataDir, "pg_wal"));
    const start = { kind: "start", as: "primary", unfinishedTimeline: undefined } as const;
    await a.perform({ ...start, settings: settingsWith({ syncNames: [], gate: "open" }) });
    await a.primary();
    await a.sql("create table t as select generate_series(1, 1000) as n");
    await a.perform({ kind: "stop", mode: "immediate" });
    const before = await written(wal);

    const facts = {
      timeline: 1,
      lsn: lsn(1n),
      systemIdentifier: "1",
      role: undefined,
      generation: undefined,
      why: "x",
    };
    await storage.snapshot({ dataset: DATASET, name: "1760000000000", properties: encodeFacts(facts) });
    const config = readSnapshotterConfig({
      json: JSON.stringify({ dataset: DATASET, verification: { binDir: a.config.binDir } }),
      file: "f",
    });
    if (config.kind === "invalid") throw new Error(JSON.stringify(config));
    const { verification } = config.config;
    if (!verification) throw new Error("nothing is verified");
    const [workFolder, clock, timers] = [join(bench.folder, "w"), realClock, realTimers];
    const snapshotter = new Snapshotter({
      config: config.config,
      storage,
      // It takes none: there is nobody who knows the position.
      sitter: localSitter(realNetwork, { host: "127.0.0.1", port: await freePorts(1) }),
      verify: (folder, signal) => verifyData({ folder, workFolder, config: verification, signal, clock, timers }),
      endLeftovers: endServersOn,
      endClones: () => Promise.resolve({ ended: [], nextWallMs: undefined }),
      clock,
      timers,
      log: silentLog,
    });
    await snapshotter.tick();
    await eventually("it has tried", async () => {
      const [tried] = await storage.snapshots(DATASET);
      return refusalOf(tried?.properties ?? {}) === "pg_wal leads out of the snapshot, to what it does not hold";
    });
    await snapshotter.stop();
    expect(await storage.look(`${DATASET}-verify`)).toBeUndefined();
    expect(await written(wal)).toEqual(before);
    await a.perform({ ...start, settings: settingsWith({ syncNames: [], gate: "open" }) });
    await a.primary();
    expect(await a.sql("select count(*)::int as n from t")).toEqual([{ n: 1000 }]);
  });
});

/** What lies there, with when it was written. */
async function written(...folders: string[]): Promise<readonly string[]> {
  const found = await Promise.all(
    folders.map(async (folder) => {
      const names = await readdir(folder, { recursive: true });
      return Promise.all(names.map(async (name) => `${name} ${(await stat(join(folder, name))).mtimeMs}`));
    }),
  );
  return found.flat();
}
