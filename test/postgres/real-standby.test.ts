// Traps of standbys and of promotion, on real servers (docs/protocol.md: T1, P1, R1).

import { appendFile, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { formatLsn, type Lsn } from "../../src/base/lsn.ts";
import type { PostgresObservation, StandbyServer } from "../../src/cluster/observation.ts";
import { postgresProcessesOn } from "../../src/postgres/real/processes.ts";
import {
  backendPids,
  eventually,
  follow,
  PostgresBench,
  settingsWith,
  startPrimary,
  startStandby,
  streams,
  type TestPeer,
} from "../support/postgres.ts";
import { FILL_A_SEGMENT } from "../support/partial-record.ts";

const stands = ({ server }: PostgresObservation) =>
  server.kind === "standby" && server.receiver.kind === "none" && server.caughtUpLocally;

describe("a standby", () => {
  let bench: PostgresBench;
  let a: TestPeer;
  let b: TestPeer;

  beforeAll(async () => {
    bench = await PostgresBench.open();
    a = await bench.peer("a");
    b = await bench.peer("b");
    await startPrimary(a);
    await a.sql("create table t (n int)");
    await startStandby(b, a);
  });
  afterAll(() => bench.cleanUp());

  it("stops receiving without a restart, a connecting receiver included, and its position is the end of replay (T1)", async () => {
    await a.sql("insert into t select generate_series(1, 5000)");
    await b.apply({ upstream: null, gate: "open" });
    const seen = await b.until("it stands", stands);
    expect(seen.server).toMatchObject({ settings: { upstream: null } });
    expect(await backendPids(b, "backend_type = 'walreceiver'")).toEqual([]);
    const before = (await b.standby()).wal.end;
    await a.sql("insert into t select generate_series(1, 5000)");
    await a.perform({ kind: "write-marker", token: "x" });
    const { wal, replayed } = await b.standby();
    expect(wal.end).toBe(before);
    expect(replayed).toBe(before);
    expect((await a.primary()).wal.end).toBeGreaterThan(before);
    await b.apply({ upstream: a.self, gate: "open" });
    await b.until(
      "it streams again, and holds more",
      (now) => streams(now) && now.server.kind === "standby" && now.server.wal.end > before,
    );
  });

  it("knows its position after a restart, where pg_last_wal_receive_lsn() says none (R1)", async () => {
    await a.sql("insert into t select generate_series(1, 1000)");
    await a.perform({ kind: "write-marker", token: "y" });
    const { marker } = await a.primary();
    await b.until("it has all", ({ server }) => server.kind === "standby" && server.replayed >= (marker?.lsn ?? 0n));
    await b.perform({ kind: "stop", mode: "immediate" });
    await follow(b, undefined);
    await b.until("it stands", stands);
    expect(await b.sql("select pg_last_wal_receive_lsn() as lsn")).toEqual([{ lsn: null }]);
    expect((await b.standby()).wal.end).toBeGreaterThanOrEqual(marker?.lsn ?? 0n);
    await b.apply({ upstream: a.self, gate: "open" });
    await b.until("it streams", streams);
  });

  it("shows a receiver that connects and is in no view of receivers", async () => {
    // An upstream that accepts connections and never answers: the receiver hangs in its handshake.
    const { createServer } = await import("node:net");
    const silent = createServer();
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const { port } = silent.address() as { port: number };
    try {
      await b.apply({ upstream: { ...a.self, id: `127.0.0.1:${port}:${port}` }, gate: "open" });
      const seen = await b.until(
        "a receiver connects",
        ({ server }) => server.kind === "standby" && server.receiver.kind === "connecting" && server.receiver.pid > 0,
      );
      expect(await b.sql("select * from pg_stat_wal_receiver where status = 'streaming'")).toEqual([]);
      await b.apply({ upstream: null, gate: "open" });
      if (seen.server.kind === "standby" && seen.server.receiver.kind === "connecting")
        await b.perform({ kind: "end-receiver", pid: seen.server.receiver.pid });
      await b.until("it stands", stands);
    } finally {
      silent.close();
    }
    await b.apply({ upstream: a.self, gate: "open" });
    await b.until("it streams", streams);
  });

  it("hears from an upstream that lives though nothing is written, and shows the silence of one that does not (D1)", async () => {
    const silentMs = (seen: PostgresObservation) =>
      seen.server.kind === "standby" && seen.server.receiver.kind === "streaming"
        ? seen.server.receiver.silentMs
        : undefined;
    const { receiver } = await b.standby();
    const before = receiver.kind === "streaming" ? receiver.pid : undefined;
    await b.until("nothing is said for a while", (seen) => (silentMs(seen) ?? 0) > 700);
    await b.until("it speaks again", (seen) => (silentMs(seen) ?? Infinity) < 700);
    // On the same connection: it was asked, and answered.
    expect((await b.standby()).receiver).toMatchObject({ pid: before });
    const [walsender] = await backendPids(a, `backend_type = 'walsender' and application_name = '${b.self.pgUrl}'`);
    process.kill(walsender as number, "SIGSTOP");
    try {
      await b.until("it is silent, or given up", (seen) => !streams(seen) || (silentMs(seen) ?? 0) > 1800);
    } finally {
      process.kill(walsender as number, "SIGCONT");
    }
    await b.until("it streams again", (seen) => (silentMs(seen) ?? Infinity) < 700);
  });

  it("shows that replay is paused (T1)", async () => {
    await b.sql("select pg_wal_replay_pause()");
    await b.until("paused", ({ server }) => server.kind === "standby" && server.replayPaused);
    await b.sql("select pg_wal_replay_resume()");
    await b.until("resumed", ({ server }) => server.kind === "standby" && !server.replayPaused);
  });

  it("replays to the end although a restore has left recovery targets and a delay behind (T1)", async () => {
    await b.perform({ kind: "stop", mode: "fast" });
    const target = (await a.primary()).wal.end;
    await a.sql("create table after_target as select generate_series(1, 100) as n");
    await appendFile(
      join(b.config.dataDir, "postgresql.auto.conf"),
      `recovery_target_lsn = '${(target >> 32n).toString(16)}/${(target & 0xffffffffn).toString(16)}'\nrecovery_target_action = 'promote'\nrecovery_min_apply_delay = '1h'\nrestore_command = 'false'\n`,
    );
    await writeFile(join(b.config.dataDir, "recovery.signal"), "");
    await follow(b, a);
    await eventually(
      "the table is there",
      async () => (await b.sql("select to_regclass('after_target') is not null as there"))[0]?.["there"] === true,
    );
    expect(
      await b.sql(
        "select current_setting('recovery_min_apply_delay') as delay, current_setting('recovery_target_lsn') as target, current_setting('restore_command') as command",
      ),
    ).toEqual([{ delay: "0", target: "", command: "" }]);
  });

  it("has what must hold on its command line, where nothing overrides it", async () => {
    const rows = await b.sql(
      "select name, setting, source from pg_settings where name in ('fsync', 'full_page_writes', 'restart_after_crash', 'recovery_target_timeline', 'hba_file', 'synchronous_commit', 'wal_log_hints', 'listen_addresses') order by name",
    );
    // PostgreSQL calls paths that were handed in an override.
    const sources = rows.map(({ name, source }) => `${name as string}: ${source as string}`);
    expect(sources.filter((text) => !/: (command line|override)$/.test(text))).toEqual([]);
    expect(Object.fromEntries(rows.map(({ name, setting }) => [name, setting]))).toMatchObject({
      fsync: "on",
      full_page_writes: "on",
      restart_after_crash: "off",
      recovery_target_timeline: "latest",
      synchronous_commit: "on",
      wal_log_hints: "on",
      listen_addresses: "127.0.0.1",
    });
  });

  it("waits for nobody's query once it receives from nobody, and a second before (T1)", async () => {
    const delay = async () =>
      (await b.sql("select current_setting('max_standby_streaming_delay') as delay"))[0]?.["delay"];
    expect(await delay()).toBe("1s");
    await b.apply({ upstream: null, gate: "open" });
    expect(await delay()).toBe("0");
  });

  it("keeps sessions that were open when it is promoted, and ends them when told to: they could write past the gate (P1)", async () => {
    await b.until("it stands", stands);
    const client = await b.connect();
    await client.query("select 1");
    await b.apply({ upstream: null, gate: "closed" });
    expect((await b.standby()).clientSessions).toBe(1);
    await b.perform({ kind: "promote", timeline: 7 });
    expect(await b.primary()).toMatchObject({ clientSessions: 1, wal: { timeline: 7 }, settings: { gate: "closed" } });
    await b.perform({ kind: "end-clients" });
    expect((await b.primary()).clientSessions).toBe(0);
    await expect(client.query("select 1")).rejects.toThrow();
  });

  it("was led to the number claimed by placeholders, which are no lineage (T1)", async () => {
    const names = (await readdir(join(b.config.dataDir, "pg_wal"))).filter((name) => name.endsWith(".history")).sort();
    expect(names).toEqual([2, 3, 4, 5, 6, 7].map((n) => `0000000${n}.history`));
    const { data, server } = await b.observe();
    expect(server).toMatchObject({ wal: { past: [{ timeline: 1 }], timeline: 7 } });
    expect(data).toMatchObject({ kind: "present", standbySignal: false });
    const { recoveredEnd, wal } = await b.primary();
    expect(recoveredEnd).toBeGreaterThanOrEqual(wal.past[0]?.end ?? 0n);
  });

  it("can't be promoted to a number that is taken, nor twice", async () => {
    await expect(b.perform({ kind: "promote", timeline: 8 })).rejects.toMatchObject({ code: "PG_PROMOTION_FAILED" });
  });
});

describe("a promotion that was cut short", () => {
  let bench: PostgresBench;
  let a: TestPeer;
  let b: TestPeer;

  beforeAll(async () => {
    bench = await PostgresBench.open();
    a = await bench.peer("a");
    b = await bench.peer("b");
    await startPrimary(a);
    await a.sql("create table t as select generate_series(1, 1000) as n");
    await startStandby(b, a);
    const { wal } = await a.primary();
    await b.until("it has all", ({ server }) => server.kind === "standby" && server.replayed >= wal.end);
    await a.perform({ kind: "stop", mode: "immediate" });
  });
  afterAll(() => bench.cleanUp());

  it("inside, leaves a data directory that starts as a standby again, and is promoted to the same number (RESUME)", async () => {
    await b.perform({ kind: "stop", mode: "immediate" });
    const folder = b.config.dataDir;
    const wal = join(folder, "pg_wal");
    // What PostgreSQL does first when it promotes: the new timeline's first segment, its history file, the signal file removed.
    const last = (await readdir(wal))
      .filter((name) => /^00000001[0-9A-F]{16}$/.test(name))
      .sort()
      .at(-1) as string;
    for (const n of [2, 3]) await writeFile(join(wal, `0000000${n}.history`), "# placeholder\n");
    await writeFile(join(wal, "00000004.history"), "1\t0/5000000\tno recovery target specified\n");
    await writeFile(join(wal, last.replace(/^00000001/, "00000004")), await readFile(join(wal, last)));
    await rm(join(folder, "standby.signal"));
    expect((await b.observe()).data).toMatchObject({ standbySignal: false, lineage: { timeline: 1 } });
    await follow(b, undefined, 4);
    await b.until(
      "it stands on the old timeline",
      (seen) => stands(seen) && seen.server.kind === "standby" && seen.server.wal.timeline === 1,
    );
    await b.perform({ kind: "promote", timeline: 4 });
    expect((await b.primary()).wal).toMatchObject({ timeline: 4, past: [{ timeline: 1 }] });
    await b.apply({ syncNames: [], gate: "open" });
    expect(await b.sql("select count(*)::int as n from t")).toEqual([{ n: 1000 }]);
  });

  it("by a kill right after the order, leaves one of the two forms that the data directory tells apart (RESUME)", async () => {
    await follow(a, b);
    await a.until(
      "it has followed",
      ({ server }) =>
        server.kind === "standby" && server.wal.timeline === 4 && streams({ server } as PostgresObservation),
    );
    await b.perform({ kind: "stop", mode: "immediate" });
    await a.apply({ upstream: null, gate: "closed" });
    await a.until("it stands", stands);
    await a.postgres.perform({ kind: "promote", timeline: 6 }, []);
    await a.perform({ kind: "stop", mode: "immediate" });
    const { data } = await a.observe();
    if (data.kind !== "present") throw new Error("the data are not there");
    if (data.lineage.timeline === 6) {
      await a.perform({
        kind: "start",
        as: "primary",
        settings: { syncNames: [], gate: "closed", upstream: null },
        unfinishedTimeline: undefined,
      });
    } else {
      await follow(a, undefined, 6);
      await a.until("it stands", stands);
      await a.perform({ kind: "promote", timeline: 6 });
    }
    expect((await a.primary()).wal.timeline).toBe(6);
  });

  it("goes on in no process of a postmaster that was killed, before the start looks at what it has left (RESUME)", async () => {
    await b.perform({ kind: "stop", mode: "immediate" });
    await follow(b, undefined);
    const [startup] = await backendPids(b, "backend_type = 'startup'");
    process.kill(startup as number, "SIGSTOP");
    const pid = (await readFile(join(b.config.dataDir, "postmaster.pid"), "utf8")).split("\n")[0];
    process.kill(Number(pid), "SIGKILL");
    await b.until("it is down", ({ server }) => server.kind === "stopped");
    expect(await postgresProcessesOn(b.config.dataDir)).toContain(startup);
    const start = b.perform({
      kind: "start",
      as: "standby",
      settings: settingsWith(),
      unfinishedTimeline: undefined,
      cutAfter: { timeline: 1, lsn: 0x1000000n as Lsn },
    });
    await expect(start).rejects.toMatchObject({ code: "PG_START_FAILED" });
    expect(await postgresProcessesOn(b.config.dataDir)).toEqual([]);
  });

  it("can't be called unfinished where the timeline has begun", async () => {
    await a.perform({ kind: "checkpoint" });
    await a.perform({ kind: "stop", mode: "fast" });
    await expect(follow(a, undefined, 6)).rejects.toMatchObject({ code: "PG_START_FAILED" });
  });
});

describe("a standby with fewer connections than its primary", () => {
  let bench: PostgresBench;
  let a: TestPeer;
  let b: TestPeer;

  beforeAll(async () => {
    bench = await PostgresBench.open();
    a = await bench.peer("a");
    b = await bench.peer("b");
    await startPrimary(a);
    await startStandby(b, a);
  });
  afterAll(() => bench.cleanUp());

  it("shows that its replay is paused: it would die on promotion (T1)", async () => {
    await a.perform({ kind: "stop", mode: "fast" });
    const larger = bench.withConfig(a, { parameters: { ...a.config.parameters, max_connections: "60" } });
    await larger.perform({
      kind: "start",
      as: "primary",
      settings: { syncNames: [], gate: "open", upstream: null },
      unfinishedTimeline: undefined,
    });
    await b.until(
      "replay is paused",
      ({ server }) => server.kind === "standby" && server.replayPaused && !server.caughtUpLocally,
      30_000,
    );
  });
});

describe("a standby whose primary died inside a WAL record that goes on in another segment", () => {
  let bench: PostgresBench;
  let b: TestPeer;
  let c: TestPeer;

  beforeAll(async () => {
    bench = await PostgresBench.open();
    const a = await bench.peer("a");
    b = await bench.peer("b");
    c = await bench.peer("c");
    await startPrimary(a);
    await startStandby(b, a);
    await startStandby(c, b, "three");
    const [walwriter] = await backendPids(a, "backend_type = 'walwriter'");
    process.kill(walwriter as number, "SIGSTOP");
    await a.sql(FILL_A_SEGMENT);
    const { end } = (await a.primary()).wal;
    const has = ({ server }: PostgresObservation) => server.kind === "standby" && server.wal.end >= end;
    for (const standby of [b, c]) await standby.until("it has all that is flushed", has);
    await a.perform({ kind: "stop", mode: "immediate" });
    await b.apply({ upstream: null });
    await b.until("it stands", stands);
    await b.perform({ kind: "promote", timeline: 2 });
    await b.apply({ syncNames: [], gate: "open" });
  });
  afterAll(() => bench.cleanUp());

  const cannotConnect = ({ server }: PostgresObservation) =>
    server.kind === "standby" && server.partialRecord && server.caughtUpLocally;

  it("asks the next primary for WAL that it has not, also after a restart, until that part is cut off (T1)", async () => {
    const start = (lsn?: Lsn) =>
      c.perform({
        kind: "start",
        as: "standby",
        settings: settingsWith({ upstream: b.self, gate: "open" }),
        unfinishedTimeline: undefined,
        cutAfter: lsn && { timeline: 1, lsn },
      });
    await c.until("it is refused", cannotConnect);
    await c.perform({ kind: "stop", mode: "fast" });
    // It streams for a moment at most.
    await start();
    const { server } = await c.until("it is refused again", cannotConnect);
    const { past } = (await b.primary()).wal;
    expect(server).toMatchObject({ replayed: past[0]?.end, wal: { timeline: 1 } });
    await b.sql("create table t (n int)");
    await c.perform({ kind: "stop", mode: "fast" });
    await expect(start(0x1000000n as Lsn)).rejects.toMatchObject({ code: "PG_START_FAILED" });
    await start(past[0]?.end as Lsn);
    await c.until("it streams", streams);
    await eventually(
      "it has what was written since",
      async () => (await c.sql("select to_regclass('t') is not null as there"))[0]?.["there"] === true,
    );
  });
});

describe("a standby whose WAL ends inside a record, at a segment's boundary, and whose upstream has removed the next segment", () => {
  let bench: PostgresBench;
  afterAll(() => bench.cleanUp());

  const isLeftBehind =
    (upstream: TestPeer) =>
    ({ server }: PostgresObservation) =>
      server.kind === "standby" && server.caughtUpLocally && server.walGoneAt === upstream.self.id;

  it("is known to lack what its upstream no longer has: the segment asked for lies behind that of its last whole record (R1.9)", async () => {
    bench = await PostgresBench.open();
    const a = await bench.peer("a", { walKeepBytes: 1024 ** 2 });
    const b = await bench.peer("b");
    await startPrimary(a);
    await startStandby(b, a);
    const [walwriter] = await backendPids(a, "backend_type = 'walwriter'");
    process.kill(walwriter as number, "SIGSTOP");
    await a.sql(FILL_A_SEGMENT);
    const { end } = (await a.primary()).wal;
    await b.until("it has all that is flushed", ({ server }) => server.kind === "standby" && server.wal.end >= end);
    await b.perform({ kind: "stop", mode: "immediate" });
    process.kill(walwriter as number, "SIGCONT");
    const [next] = await a.sql(`select pg_walfile_name('${formatLsn((end + 1n) as Lsn)}') as name`);
    await eventually("the primary has removed the next segment", async () => {
      await a.sql("create table if not exists later (n int)");
      await a.sql("insert into later values (1)");
      await a.sql("select pg_switch_wal()");
      await a.sql("checkpoint");
      const kept = await a.sql("select name from pg_ls_waldir()");
      return !kept.some(({ name }) => name === next?.["name"]);
    });
    const settings = settingsWith({ upstream: a.self, gate: "open" });
    await b.perform({ kind: "start", as: "standby", settings, unfinishedTimeline: undefined });
    await b.until("its upstream has said so", isLeftBehind(a));
    // So it stays when it receives from nobody, before its data is left.
    await b.apply({ upstream: null });
    const { server } = await b.until("it stands, and knows", (now) => stands(now) && isLeftBehind(a)(now));
    expect((server as StandbyServer).wal.end).toBeLessThan(end);
  });
});
