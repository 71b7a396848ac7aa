// Clones by the real server, on plain folders: what they show, that nothing reaches the shard, and that nothing is left of them.

import { access, mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Clone } from "../../src/postgres/clones.ts";
import { KeptClones } from "../../src/postgres/real/clones.ts";
import { PeerClones } from "../../src/postgres/real/make-clone.ts";
import { postgresProcessesOn } from "../../src/postgres/real/processes.ts";
import type { Snapshot, Storage } from "../../src/storage/port.ts";
import { cloneHold, encodeClone } from "../../src/snapshots/clones.ts";
import { newestBeforeFork } from "../../src/snapshots/choice.ts";
import { directoryStorage } from "../../src/storage/directory/driver.ts";
import { realClock, realTimers } from "../../src/world/real/clock.ts";
import { freePorts } from "../support/ports.ts";
import {
  becomeUnprivileged,
  PostgresBench,
  settingsWith,
  startPrimary,
  startStandby,
  type TestPeer,
} from "../support/postgres.ts";
import { waitGone } from "../support/processes.ts";

const DATASET = "tank/pg";
const HOUR_MS = 3_600_000;

describe("a clone", { timeout: 300_000 }, () => {
  let bench: PostgresBench;
  let storage: Storage;
  let a: TestPeer;
  let clones: PeerClones;
  let steps: string[];

  beforeEach(async () => {
    becomeUnprivileged();
    bench = await PostgresBench.open();
    const root = join(bench.folder, "pool");
    await mkdir(root);
    storage = directoryStorage({ root });
    const options = { storage, dataset: DATASET, chooseSnapshot: newestBeforeFork };
    a = await bench.peer("a", { dataDir: join(root, DATASET), socketDir: join(bench.folder, "s") }, options);
    clones = clonesOf(a);
    steps = [];
    await startPrimary(a);
    await a.sql("create table t as select generate_series(1, 1000) as n");
  });
  afterEach(async () => {
    for (const { name } of await clones.list()) await clones.drop(name);
    await bench.cleanUp();
  });

  function clonesOf({ config }: TestPeer): PeerClones {
    return new PeerClones({ config, storage: { storage, dataset: DATASET }, clock: realClock, timers: realTimers });
  }

  /** As a snapshotter that begins at that time, on this machine. */
  function keeper(wallMs: number): KeptClones {
    const clock = { now: () => realClock.now(), wall: () => wallMs };
    return new KeptClones({ storage: { storage, dataset: DATASET }, clock, timers: realTimers });
  }

  /** As storage with instants would show a server that runs: one that crashed. */
  async function snapshot(peer: TestPeer = a): Promise<Snapshot> {
    await peer.perform({ kind: "stop", mode: "immediate" });
    const taken = await storage.snapshot({
      dataset: DATASET,
      name: "1760000000000",
      properties: { "manatee:why": "x" },
    });
    return taken;
  }

  const startAgain = () =>
    a.perform({
      kind: "start",
      as: "primary",
      settings: settingsWith({ syncNames: [], gate: "open" }),
      unfinishedTimeline: undefined,
    });

  const make = (from: Snapshot, port: number, ttlMs = HOUR_MS) =>
    clones.make({ snapshot: from, port, ttlMs, limitMs: 100_000, onStep: (text) => void steps.push(text) });

  async function ask(
    { port, socketDir }: Clone,
    text: string,
    { user = "postgres", password = "", overTcp = false } = {},
  ): Promise<readonly unknown[]> {
    const host = overTcp ? "127.0.0.1" : socketDir;
    const client = new Client({ host, port, user, password, database: "postgres", connectionTimeoutMillis: 20_000 });
    client.on("error", () => undefined);
    await client.connect();
    try {
      return (await client.query(text)).rows as unknown[];
    } finally {
      await client.end().catch(() => undefined);
    }
  }

  /** Of the clone: no process, no dataset, no hold. */
  async function expectNothingLeft({ dataset }: Pick<Clone, "dataset">): Promise<void> {
    const { folder } = (await storage.look(DATASET)) as { folder: string };
    expect(await postgresProcessesOn(folder.replace(/pg$/, dataset.slice("tank/".length)))).toEqual([]);
    expect((await storage.children("tank")).map(({ name }) => name)).toEqual([DATASET]);
    expect((await readdir(join(bench.folder, "pool/tank"))).sort()).toEqual(["pg", "pg.manatee"]);
    expect((await storage.snapshots(DATASET)).flatMap(({ holds }) => holds)).toEqual([]);
  }

  it("shows the database as of its snapshot, takes writes that nobody else sees, and goes with its time", async () => {
    const tell = join(bench.folder, "archived");
    // What a snapshot of a primary brings along.
    await a.sql("create role app login password 'secret'");
    await a.sql("grant insert, select on t to app");
    await a.sql("select pg_create_physical_replication_slot('left', true)");
    for (const setting of [
      "archive_mode = on",
      `archive_command = 'touch ${tell}'`,
      "listen_addresses = '*'",
      "primary_conninfo = 'host=192.0.2.1'",
      "recovery_target_time = '2001-01-01'",
      "shared_preload_libraries = 'no_such_library'",
      "max_wal_senders = 20",
    ])
      await a.sql(`alter system set ${setting}`);
    const taken = await snapshot();
    await rm(join(a.config.dataDir, "postgresql.auto.conf"));
    await startAgain();
    await a.primary();
    await a.sql("insert into t select generate_series(1001, 2000)");

    const port = await clones.choosePort(undefined);
    const made = await make(taken, port);
    expect(steps).toEqual([`clones ${taken.name}`, "recovers"]);
    expect(await ask(made, "select count(*)::int as n, max(n) as top from t")).toEqual([{ n: 1000, top: 1000 }]);
    expect(await ask(made, "insert into t values (-1) returning n")).toEqual([{ n: -1 }]);
    expect(
      await ask(made, "insert into t values (-2) returning n", { user: "app", password: "secret", overTcp: true }),
    ).toEqual([{ n: -2 }]);
    await expect(ask(made, "select 1", { user: "app", password: "wrong", overTcp: true })).rejects.toThrow(/password/);
    await expect(ask(made, "select 1", { overTcp: true })).rejects.toThrow(/password/);

    expect(await ask(made, "select slot_name from pg_replication_slots")).toEqual([]);
    expect(await ask(made, "select timeline_id as t from pg_control_checkpoint()")).toEqual([{ t: 2 }]);
    expect(
      await ask(
        made,
        `select name, setting from pg_settings where name in ('archive_mode', 'listen_addresses', 'max_wal_senders', 'max_logical_replication_workers',
         'primary_conninfo', 'shared_preload_libraries', 'synchronous_standby_names') order by name`,
      ),
    ).toEqual([
      { name: "archive_mode", setting: "off" },
      { name: "listen_addresses", setting: "localhost" },
      { name: "max_logical_replication_workers", setting: "0" },
      { name: "max_wal_senders", setting: "0" },
      { name: "primary_conninfo", setting: "" },
      { name: "shared_preload_libraries", setting: "" },
      { name: "synchronous_standby_names", setting: "" },
    ]);
    await ask(made, "select pg_switch_wal()");
    await expect(access(join(made.socketDir, "../manatee.json"))).rejects.toMatchObject({ code: "ENOENT" });

    // The shard's own server goes on, on its timeline, and has not seen any of it.
    expect(await a.sql("select count(*)::int as n, min(n) as least from t")).toEqual([{ n: 2000, least: 1 }]);
    expect((await a.primary()).wal.timeline).toBe(1);
    expect((await a.reopen().observe()).forks).toEqual([]);

    expect(await clones.list()).toMatchObject([{ name: String(port), port, state: "running", snapshot: taken.name }]);
    expect((await storage.snapshots(DATASET))[0]?.holds).toEqual([`manatee-clone-${port}`]);
    await expect(storage.destroySnapshot(taken)).rejects.toMatchObject({ code: "STORAGE_HELD" });

    const early = await keeper(made.untilWallMs - 1).endOver();
    expect(early).toEqual({ ended: [], nextWallMs: made.untilWallMs });
    expect(await ask(made, "select 1 as is")).toEqual([{ is: 1 }]);
    expect(await keeper(made.untilWallMs).endOver()).toEqual({ ended: [String(port)], nextWallMs: undefined });
    await expectNothingLeft(made);
    await expect(access(tell)).rejects.toMatchObject({ code: "ENOENT" });
    await storage.destroySnapshot(taken);
    expect(await a.sql("select count(*)::int as n from t")).toEqual([{ n: 2000 }]);
  });

  it("of a standby's snapshot takes writes, too, and asks its upstream nothing", async () => {
    const b = await bench.peer("b");
    await a.perform({ kind: "stop", mode: "fast" });
    await rename(a.config.dataDir, join(bench.folder, "elsewhere"));
    await storage.destroyDataset(DATASET);
    const other = bench.withConfig(a, { dataDir: join(bench.folder, "elsewhere") });
    await other.perform({
      kind: "start",
      as: "primary",
      settings: settingsWith({ syncNames: [], gate: "open" }),
      unfinishedTimeline: undefined,
    });
    const options = { storage, dataset: DATASET, chooseSnapshot: newestBeforeFork };
    const standby = await bench.peer(
      "c",
      { dataDir: a.config.dataDir, socketDir: join(bench.folder, "sc"), port: b.config.port },
      options,
    );
    await startStandby(standby, other);
    await other.sql("insert into t select generate_series(1001, 1500)");
    const { wal } = await other.primary();
    await standby.until("it has it", ({ server }) => server.kind === "standby" && server.wal.end >= wal.end);
    const taken = await snapshot(standby);
    const made = await make(taken, await freePorts(1));
    expect(await ask(made, "insert into t values (0) returning n")).toEqual([{ n: 0 }]);
    expect(await ask(made, "select count(*)::int as n from t")).toEqual([{ n: 1501 }]);
    expect(await other.sql("select count(*)::int as n from pg_stat_replication")).toEqual([{ n: 0 }]);
    await clones.drop(made.name);
    await expect(clones.drop(made.name)).rejects.toMatchObject({ code: "CLONE_UNKNOWN" });
  });

  it("of a fork is on the fork's own timeline, whatever history the peer has fetched since", async () => {
    await a.sql("insert into t values (4711)");
    await a.perform({ kind: "stop", mode: "immediate" });
    // As its upstream has it, which parted before anything that is here.
    await writeFile(join(a.config.dataDir, "pg_wal/00000002.history"), "1\t0/100\tno recovery target specified\n");
    const taken = await storage.snapshot({ dataset: DATASET, name: "fork-x", properties: {} });
    const made = await make(taken, await freePorts(1));
    expect(await ask(made, "select count(*)::int as n, max(n) as top from t")).toEqual([{ n: 1001, top: 4711 }]);
    await clones.drop(made.name);
    await expectNothingLeft(made);
  });

  it("whose server is gone is told as stopped, and one whose dataset was destroyed by hand holds nothing", async () => {
    const taken = await snapshot();
    const [one, two] = [await freePorts(1), await freePorts(1)];
    const first = await make(taken, one);
    const second = await make(taken, two);
    const pid = Number.parseInt(await readFile(join(first.socketDir, "../postmaster.pid"), "utf8"), 10);
    process.kill(pid, "SIGKILL");
    await expect.poll(async () => (await clones.list()).find(({ port }) => port === one)?.state).toBe("stopped");
    const other = Number.parseInt(await readFile(join(second.socketDir, "../postmaster.pid"), "utf8"), 10);
    process.kill(other, "SIGQUIT");
    expect(await waitGone(other, 60_000)).toBe(true);
    await storage.destroyDataset(second.dataset);
    expect((await storage.snapshots(DATASET))[0]?.holds).toHaveLength(2);
    // Its name alone makes nothing a clone of ours.
    await storage.create(`${DATASET}-clone-mine`);
    expect(await keeper(realClock.wall()).endOver()).toMatchObject({ ended: [] });
    expect((await storage.snapshots(DATASET))[0]?.holds).toEqual([`manatee-clone-${one}`]);
    expect(await keeper(first.untilWallMs).endOver()).toMatchObject({ ended: [String(one)] });
    expect(await storage.look(`${DATASET}-clone-mine`)).toBeDefined();
    await storage.destroyDataset(`${DATASET}-clone-mine`);
    await expectNothingLeft(first);
    await expectNothingLeft(second);
  });

  it("that can't be started leaves nothing, and says why", async () => {
    await a.perform({ kind: "stop", mode: "immediate" });
    const wal = join(bench.folder, "wal");
    await rename(join(a.config.dataDir, "pg_wal"), wal);
    await symlink(wal, join(a.config.dataDir, "pg_wal"));
    const leading = await storage.snapshot({ dataset: DATASET, name: "1", properties: {} });
    await rm(join(a.config.dataDir, "pg_wal"));
    await mkdir(join(a.config.dataDir, "pg_wal"));
    const torn = await storage.snapshot({ dataset: DATASET, name: "2", properties: {} });
    const port = await freePorts(1);
    await expect(make(leading, port)).rejects.toMatchObject({ code: "SNAPSHOT_LEADS_OUT" });
    await expectNothingLeft({ dataset: `${DATASET}-clone-${port}` });
    await expect(make(torn, port)).rejects.toMatchObject({
      code: "CLONE_NOT_STARTED",
      message: expect.stringMatching(/FATAL|PANIC/) as string,
    });
    await expectNothingLeft({ dataset: `${DATASET}-clone-${port}` });
    expect((await readdir(wal)).length).toBeGreaterThan(0);
  });

  it("gets no port that somebody has: the shard, another program, another clone", async () => {
    const taken = await snapshot();
    const { port } = a.config;
    for (const own of [port, port + 1])
      await expect(clones.choosePort(own)).rejects.toMatchObject({ code: "CLONE_PORT_TAKEN" });
    const server = createServer();
    const used = await freePorts(1);
    await new Promise<void>((resolve) => void server.listen({ port: used, host: "localhost" }, resolve));
    await expect(clones.choosePort(used)).rejects.toMatchObject({ code: "CLONE_PORT_TAKEN" });
    await new Promise((resolve) => server.close(resolve));
    expect(await clones.choosePort(used)).toBe(used);
    const made = await make(taken, await freePorts(1), 1);
    await expect(clones.choosePort(made.port)).rejects.toMatchObject({ code: "CLONE_PORT_TAKEN" });
    // The time of that one is over: whoever makes the next one ends it.
    const next = await make(taken, await freePorts(1));
    expect((await clones.list()).map(({ name }) => name)).toEqual([next.name]);
  });
});

describe("a clone whose maker was killed", () => {
  let folder: string;
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it.each([
    ["cloned", 1],
    ["held", 2],
    ["mounted", 3],
    ["being removed: its hold is gone", 4],
  ])("when it was %s goes with its time all the same", async (_when, done) => {
    becomeUnprivileged();
    folder = await mkdtemp(join(tmpdir(), "manatee-clone-"));
    const storage = directoryStorage({ root: folder });
    await storage.create(DATASET);
    const taken = await storage.snapshot({ dataset: DATASET, name: "1760000000000", properties: {} });
    const [port, untilWallMs] = [15432, 2_000];
    const clone = `${DATASET}-clone-${port}`;
    const facts = { port, snapshot: taken.name, takenWallMs: 0, madeWallMs: 1_000, untilWallMs };
    const steps = [
      () => storage.clone(taken, clone, { properties: encodeClone(facts) }),
      () => storage.hold(taken, cloneHold(String(port))),
      () => storage.mount(clone),
      () => storage.release(taken, cloneHold(String(port))),
    ];
    for (const step of steps.slice(0, done)) await step();
    const at = (wallMs: number) =>
      new KeptClones({
        storage: { storage, dataset: DATASET },
        clock: { now: () => realClock.now(), wall: () => wallMs },
        timers: realTimers,
      });
    expect(await at(1_999).list()).toMatchObject([{ name: "15432", state: "stopped" }]);
    expect(await at(1_999).endOver()).toEqual({ ended: [], nextWallMs: untilWallMs });
    expect(await at(2_000).endOver()).toEqual({ ended: ["15432"], nextWallMs: undefined });
    expect((await storage.children("tank")).map(({ name }) => name)).toEqual([DATASET]);
    expect((await storage.snapshots(DATASET)).flatMap(({ holds }) => holds)).toEqual([]);
    expect(await at(3_000).endOver()).toEqual({ ended: [], nextWallMs: undefined });
  });
});
