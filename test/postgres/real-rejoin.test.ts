// Copies, forks kept and rewinds on real servers (docs/protocol.md: R1, I5), and the ways in which they are cut short.

import { chmod, cp, mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { findBinaries } from "../../src/postgres/real/binaries.ts";
import { KeptForks } from "../../src/postgres/real/kept-forks.ts";
import { placesOf } from "../../src/postgres/real/places.ts";
import {
  eventually,
  follow,
  PostgresBench,
  settingsWith,
  startPrimary,
  startStandby,
  streams,
  type TestPeer,
} from "../support/postgres.ts";
import { processesIn, signal } from "../support/processes.ts";

describe("a former primary whose WAL has forked", () => {
  let bench: PostgresBench;
  let a: TestPeer;
  let b: TestPeer;
  /** Of the transaction that the shard never had. */
  let lost: string;

  beforeAll(async () => {
    bench = await PostgresBench.open();
    // Autovacuum's workers commit, too: the fork is to hold one transaction, and no other.
    const parameters = { shared_buffers: "16MB", max_connections: "30", autovacuum: "off" };
    a = await bench.peer("a", { parameters });
    b = await bench.peer("b", { parameters });
    await startPrimary(a);
    await a.sql("create table t (n int)");
    await startStandby(b, a);
    await b.apply({ upstream: null });
    await b.until(
      "it stands",
      ({ server }) => server.kind === "standby" && server.receiver.kind === "none" && server.caughtUpLocally,
    );
    const [row] = await a.sql("with it as (insert into t values (1)) select pg_current_xact_id()::text as xid");
    lost = String(row?.["xid"]);
    await b.perform({ kind: "promote", timeline: 2 });
    await b.apply({ syncNames: [], gate: "open" });
    await b.sql("insert into t values (2)");
    await a.perform({ kind: "stop", mode: "immediate" });
  });
  afterAll(() => bench.cleanUp());

  it("bears a new name before its content is touched", async () => {
    await a.perform({ kind: "renew-incarnation", incarnation: "renewed" });
    expect((await a.observe()).data).toMatchObject({
      mark: { incarnation: "renewed", source: undefined, incomplete: false },
    });
  });

  it("is kept whole under a name first, once (I5)", async () => {
    const seen = await a.perform({ kind: "keep-fork", name: "fork-1" });
    expect(seen.forks).toEqual(["fork-1"]);
    const kept = join(a.config.forksDir, "fork-1");
    expect((await readdir(kept)).sort()).toEqual((await readdir(a.config.dataDir)).sort());
    expect((await a.perform({ kind: "keep-fork", name: "fork-1" })).forks).toEqual(["fork-1"]);
    // Where it left the shard's WAL is known once this peer has the shard's again.
    await expect(new KeptForks({ config: a.config, storage: undefined }).content("fork-1")).rejects.toMatchObject({
      code: "PG_FORK_UNREADABLE",
      message: expect.stringContaining("which the data that this peer has now has not left") as string,
    });
  });

  it("is not kept where the disk has no room for it", async () => {
    const { forks } = await a.observe();
    const greedy = bench.withConfig(a, { freeBytesMin: 2 ** 52 });
    await expect(greedy.perform({ kind: "keep-fork", name: "fork-2" })).rejects.toMatchObject({ code: "PG_NO_SPACE" });
    expect((await greedy.observe()).forks).toEqual(forks);
  });

  it("is rewound, keeps its own mark, and follows with nothing of the fork left", async (context) => {
    const { rewind } = await findBinaries({ binDir: a.config.binDir, major: undefined });
    if (rewind === undefined) {
      await expect(a.perform({ kind: "rewind", from: b.self })).rejects.toMatchObject({ code: "PG_REWIND_MISSING" });
      context.skip("no pg_rewind in this installation");
      return;
    }
    const { data } = await a.perform({ kind: "rewind", from: b.self });
    expect(data).toMatchObject({
      kind: "present",
      standbySignal: true,
      mark: { incarnation: "renewed", incomplete: false },
    });
    await follow(a, b);
    await eventually(
      "it has the same rows",
      async () => JSON.stringify(await a.sql("select n from t order by n")) === '[{"n":2}]',
    );
    expect((await a.standby()).wal).toMatchObject({ timeline: 2 });
  });

  it("has a fork that tells what the shard lacks, and that goes when it is told to (I5)", async (context) => {
    const forks = new KeptForks({ config: a.config, storage: undefined });
    expect(await forks.list()).toMatchObject([
      { name: "fork-1", kind: "folder", place: join(a.config.forksDir, "fork-1") },
    ]);
    const { postgres } = await findBinaries({ binDir: a.config.binDir, major: undefined });
    if (existsSync(join(dirname(postgres), "pg_waldump"))) {
      const { timeline, commits } = await forks.content("fork-1");
      expect(timeline).toBe(1);
      expect(commits.map(({ xid }) => xid)).toEqual([lost]);
      expect(Date.parse(commits[0]?.committedAt ?? "")).toBeGreaterThan(Date.now() - 600_000);
    } else context.skip("no pg_waldump in this installation");
    await expect(forks.content("fork-2")).rejects.toMatchObject({ code: "PG_FORK_UNKNOWN" });
    const journal = placesOf(a.config).swapJournal;
    await writeFile(journal, "{}");
    await expect(forks.drop("fork-1")).rejects.toMatchObject({ code: "PG_FORK_IN_USE" });
    await rm(journal);
    expect(await forks.list()).toHaveLength(1);
    await forks.drop("fork-1");
    expect(await forks.list()).toEqual([]);
    expect(await readdir(a.config.forksDir)).toEqual([]);
  });

  it("counts as incomplete while a rewind was cut short, by the mark beside the data", async () => {
    await a.perform({ kind: "stop", mode: "immediate" });
    const journal = `${a.config.dataDir}.manatee/rewind-under-way.json`;
    const mark = await readFile(join(a.config.dataDir, "manatee.json"), "utf8");
    await writeFile(journal, JSON.stringify({ ...JSON.parse(mark), incomplete: true }));
    // What pg_rewind brings along: the source's own mark.
    await writeFile(
      join(a.config.dataDir, "manatee.json"),
      await readFile(join(b.config.dataDir, "manatee.json"), "utf8"),
    );
    expect((await a.observe()).data).toMatchObject({
      kind: "unusable",
      code: "PG_DATA_INCOMPLETE",
      mark: { incarnation: "renewed", incomplete: true },
    });
    const { data } = await a.perform({ kind: "copy", from: b.self, incarnation: "copied" });
    expect(data).toMatchObject({ kind: "present", mark: { incarnation: "copied", incomplete: false } });
    await follow(a, b);
  });
});

describe("a copy", () => {
  let bench: PostgresBench;
  let a: TestPeer;
  let b: TestPeer;

  beforeAll(async () => {
    bench = await PostgresBench.open();
    a = await bench.peer("a");
    b = await bench.peer("b");
    await startPrimary(a);
    await a.sql("create table t as select generate_series(1, 100000) as n");
  });
  beforeEach(async () => {
    await b.postgres.cancelJob();
    await b.perform({ kind: "stop", mode: "immediate" });
  });
  afterAll(() => bench.cleanUp());

  it("is complete without its source, in place of what was there", async () => {
    await b.perform({ kind: "copy", from: a.self, incarnation: "x" });
    await writeFile(join(b.config.dataDir, "leftover"), "x");
    await b.postgres.rememberDocument({ version: 3, json: "{}" });
    const { data } = await b.perform({ kind: "copy", from: a.self, incarnation: "y" });
    expect(data).toMatchObject({ mark: { incarnation: "y", lastDocument: { version: 3, json: "{}" } } });
    expect(await readdir(b.config.dataDir)).not.toContain("leftover");
    await follow(b, undefined);
    await b.standby();
    expect(await b.sql("select count(*)::int as n from t")).toEqual([{ n: 100000 }]);
    expect((await stat(b.config.dataDir)).mode & 0o777).toBe(0o700);
  });

  it("that is cancelled stays marked as incomplete, and the next one succeeds", async () => {
    await b.postgres.perform({ kind: "copy", from: a.self, incarnation: "cut" }, []);
    await b.until("data arrive", ({ job }) => job?.progress !== undefined || job === undefined);
    await b.postgres.cancelJob();
    const { data, job } = await b.observe();
    expect(job).toBeUndefined();
    if (data.kind === "unusable")
      expect(data).toMatchObject({ code: "PG_DATA_INCOMPLETE", mark: { incarnation: "cut", incomplete: true } });
    else expect(data).toMatchObject({ mark: { incarnation: "cut", incomplete: false } });
    await b.perform({ kind: "copy", from: a.self, incarnation: "whole" });
    await follow(b, a);
  });

  it("from a source that falls silent can be cancelled, and has touched nothing (I5)", async () => {
    const silent = createServer();
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const { port } = silent.address() as { port: number };
    try {
      await b.postgres.perform(
        { kind: "copy", from: { ...a.self, id: `127.0.0.1:${port}:${port}` }, incarnation: "z" },
        [],
      );
      expect((await b.observe()).job).toMatchObject({ kind: "copy" });
      await b.postgres.cancelJob();
      expect(await b.observe()).toMatchObject({
        data: { kind: "present", mark: { incomplete: false } },
        failure: undefined,
      });
    } finally {
      silent.close();
    }
  });

  it("removes nothing that was not there when it was decided (I5)", async () => {
    const { dataDir } = b.config;
    const aside = `${dataDir}-aside`;
    await rename(dataDir, aside);
    await b.until("there is nothing", ({ data }) => data.kind === "none");
    // As a volume that is mounted once it was decided.
    await rename(aside, dataDir);
    await expect(b.perform({ kind: "copy", from: a.self, incarnation: "z" })).rejects.toMatchObject({
      code: "PG_DATA_CHANGED",
    });
    expect((await b.observe()).data).toMatchObject({ kind: "present", mark: { incomplete: false } });
    await b.perform({ kind: "copy", from: a.self, incarnation: "z" });
  });

  it("from a source that is not there fails, counted, and touches nothing (I5)", async () => {
    const nobody = { ...a.self, id: "127.0.0.1:1:1" };
    for (const count of [1, 2]) {
      await expect(b.perform({ kind: "copy", from: nobody, incarnation: "z" })).rejects.toMatchObject({
        code: "PG_COPY_FAILED",
      });
      expect(await b.observe()).toMatchObject({
        data: { kind: "present", mark: { incomplete: false } },
        failure: { action: "copy", count },
      });
    }
    await b.perform({ kind: "copy", from: a.self, incarnation: "z" });
    expect((await b.observe()).failure).toBeUndefined();
  });

  it("says which password file to bring from which peer", async () => {
    const file = b.config.replicationPasswordFile;
    await rename(file, `${file}.away`);
    try {
      await expect(b.perform({ kind: "copy", from: a.self, incarnation: "z" })).rejects.toMatchObject({
        code: "PG_REPLICATION_PASSWORD_MISSING",
      });
      expect((await b.observe()).failure?.hint).toContain(file);
      expect((await b.observe()).failure?.hint).toContain(a.self.id);
    } finally {
      await rename(`${file}.away`, file);
    }
  });

  it("is refused with a password file that others may read, and with a wrong password", async () => {
    const file = b.config.replicationPasswordFile;
    const password = await readFile(file, "utf8");
    await chmod(file, 0o644);
    await expect(b.perform({ kind: "copy", from: a.self, incarnation: "z" })).rejects.toMatchObject({
      code: "PG_PASSWORD_FILE",
    });
    await chmod(file, 0o600);
    await writeFile(file, "wrong\n");
    await expect(b.perform({ kind: "copy", from: a.self, incarnation: "z" })).rejects.toMatchObject({
      message: expect.stringContaining("password authentication failed") as string,
    });
    await writeFile(file, password);
  });

  it("of which a byte changed on its way is no copy, and counts as unfinished (I5)", async () => {
    const marked = join(a.config.dataDir, "marked.txt");
    // More than once: one may lie on the edge of two pieces.
    await writeFile(marked, DAMAGE_HERE.repeat(100), { mode: 0o600 });
    const relay = await damagingRelay(a.config.port);
    try {
      const from = { ...a.self, id: `127.0.0.1:${relay.port}:${relay.port}` };
      await expect(b.perform({ kind: "copy", from, incarnation: "damaged" })).rejects.toMatchObject({
        code: "PG_COPY_DAMAGED",
        message: expect.stringContaining("marked.txt") as string,
      });
      expect(relay.damaged()).toBe(1);
      expect((await b.observe()).data).toMatchObject({ kind: "unusable", code: "PG_DATA_INCOMPLETE" });
    } finally {
      relay.close();
      await rm(marked);
    }
    await b.perform({ kind: "copy", from: a.self, incarnation: "whole" });
  });

  it("of tablespaces elsewhere is refused", async () => {
    const folder = join(bench.folder, "space");
    const { mkdir } = await import("node:fs/promises");
    await mkdir(folder);
    await a.sql(`create tablespace elsewhere location '${folder}'`);
    await expect(b.perform({ kind: "copy", from: a.self, incarnation: "z" })).rejects.toMatchObject({
      code: "PG_TABLESPACES",
    });
    await a.sql("drop tablespace elsewhere");
    await rm(folder, { recursive: true, force: true });
  });

  it("does not begin without room for it", async () => {
    const greedy = bench.withConfig(b, { freeBytesMin: 2 ** 52 });
    await expect(greedy.perform({ kind: "copy", from: a.self, incarnation: "z" })).rejects.toMatchObject({
      code: "PG_NO_SPACE",
    });
  });

  it("can be made of a standby", async () => {
    await b.perform({ kind: "copy", from: a.self, incarnation: "middle" });
    await follow(b, a);
    const c = await bench.peer("c");
    await startStandby(c, b, "end");
    const { wal } = await a.primary();
    await c.until(
      "it has what the primary had",
      (seen) => streams(seen) && seen.server.kind === "standby" && seen.server.wal.end >= wal.end,
    );
  });

  it("is made where pg_rewind would do nothing, and say that all is well: on one and the same timeline", async (context) => {
    const { rewind } = await findBinaries({ binDir: b.config.binDir, major: undefined });
    if (rewind === undefined) return context.skip("no pg_rewind in this installation");
    await b.perform({ kind: "copy", from: a.self, incarnation: "same" });
    await expect(b.perform({ kind: "rewind", from: a.self })).rejects.toMatchObject({
      code: "PG_REWIND_FAILED",
      message: expect.stringContaining("pg_rewind does nothing between two servers on one timeline") as string,
    });
    expect((await b.observe()).data).toMatchObject({ kind: "present", mark: { incarnation: "same" } });
  });

  it("is not made while the server runs", async () => {
    await expect(a.perform({ kind: "copy", from: b.self, incarnation: "z" })).rejects.toMatchObject({
      code: "PG_RUNNING",
    });
    await expect(a.perform({ kind: "keep-fork", name: "f" })).rejects.toMatchObject({ code: "PG_FORK_FAILED" });
  });

  it("of a standby that is promoted meanwhile is worth nothing, and counts as unfinished (I5)", async () => {
    await a.sql("create table large as select n, repeat('x', 1000) as text from generate_series(1, 50000) n");
    await b.perform({ kind: "copy", from: a.self, incarnation: "promoted" });
    await follow(b, a);
    const d = await bench.peer("d");
    await d.postgres.perform({ kind: "copy", from: b.self, incarnation: "cut" }, []);
    const senders = () => processesIn(b.config.dataDir).filter(({ args }) => /sending backup/.test(args.join(" ")));
    // Looked for between any two pieces that this process receives: however fast it is sent, it can't end unseen.
    const limit = performance.now() + 60_000;
    while (senders().length === 0) {
      if (performance.now() > limit) throw new Error("no backup is sent");
      await nextTurn();
    }
    for (const { pid } of senders()) signal(pid, "SIGSTOP");
    try {
      await b.apply({ upstream: null });
      await b.until(
        "it receives from nobody",
        ({ server }) => server.kind === "standby" && server.receiver.kind === "none" && server.caughtUpLocally,
      );
      await b.perform({ kind: "promote", timeline: 7 });
    } finally {
      for (const { pid } of senders()) signal(pid, "SIGCONT");
    }
    await d.until("the copy has failed", ({ job, failure }) => job === undefined && failure?.action === "copy");
    const { data, failure } = await d.observe();
    expect(failure).toMatchObject({ code: "PG_COPY_FAILED", message: expect.stringContaining("promoted") });
    expect(data.kind === "unusable" ? data.mark?.incomplete : data.kind).toBe(data.kind === "unusable" ? true : "none");
  });
});

describe("a data directory", () => {
  let bench: PostgresBench;
  let a: TestPeer;

  beforeAll(async () => {
    bench = await PostgresBench.open();
    a = await bench.peer("a");
    await a.perform({ kind: "initdb", incarnation: "one" });
  });
  afterAll(() => bench.cleanUp());

  it("with the wrong mode, no database or no control file is unusable, and says why", async () => {
    await chmod(a.config.dataDir, 0o755);
    expect((await a.observe()).data).toMatchObject({
      kind: "unusable",
      code: "PG_DATA_MODE",
      mark: { incarnation: "one" },
    });
    await chmod(a.config.dataDir, 0o700);
    await rename(join(a.config.dataDir, "PG_VERSION"), join(bench.folder, "PG_VERSION"));
    expect((await a.observe()).data).toMatchObject({ kind: "unusable", code: "PG_DATA_NOT_POSTGRES" });
    await writeFile(join(a.config.dataDir, "PG_VERSION"), "9.6\n");
    expect((await a.observe()).data).toMatchObject({ kind: "unusable", code: "PG_DATA_VERSION" });
    await rename(join(bench.folder, "PG_VERSION"), join(a.config.dataDir, "PG_VERSION"));
    await rename(join(a.config.dataDir, "global/pg_control"), join(bench.folder, "pg_control"));
    expect((await a.observe()).data).toMatchObject({ kind: "unusable", code: "PG_CONTROL_FILE" });
    await rename(join(bench.folder, "pg_control"), join(a.config.dataDir, "global/pg_control"));
    expect((await a.observe()).data).toMatchObject({ kind: "present" });
  });

  it("that is another user's, or can't be read, is unusable, and says why", async () => {
    const elsewhere = bench.withConfig(a, { dataDir: "/usr" });
    expect((await elsewhere.observe()).data).toMatchObject({
      kind: "unusable",
      code: "PG_DATA_OWNER",
      message: `the data directory /usr belongs to user 0, and the sitter runs as ${process.geteuid?.()}`,
    });
    await chmod(a.config.dataDir, 0);
    expect((await a.observe()).data).toMatchObject({ kind: "unusable", code: "PG_DATA_UNREADABLE" });
    // Nor is it what an initdb that was cut short has left.
    const { initdbJournal } = placesOf(a.config);
    await writeFile(initdbJournal, "");
    expect((await a.observe()).data).toMatchObject({ kind: "unusable", code: "PG_DATA_UNREADABLE" });
    await rm(initdbJournal);
    await chmod(a.config.dataDir, 0o700);
    expect((await a.observe()).data).toMatchObject({ kind: "present" });
  });

  it("whose mark is mangled is unusable; one that has lost it takes nothing new down", async () => {
    const mark = join(a.config.dataDir, "manatee.json");
    const content = await readFile(mark, "utf8");
    await writeFile(mark, content.slice(1));
    expect((await a.observe()).data).toMatchObject({ kind: "unusable", code: "PG_MARK_MALFORMED" });
    await rm(mark);
    await expect(a.perform({ kind: "mark-claim", version: 7 })).rejects.toMatchObject({ code: "PG_MARK_MISSING" });
    await expect(readFile(mark)).rejects.toMatchObject({ code: "ENOENT" });
    await writeFile(mark, content, { mode: 0o600 });
    expect((await a.observe()).data).toMatchObject({ kind: "present", mark: { incarnation: "one" } });
  });

  it("in which nothing can be written fails what is to be kept there, with the system's reason", async () => {
    await chmod(a.config.dataDir, 0o500);
    await expect(a.perform({ kind: "mark-claim", version: 7 })).rejects.toMatchObject({ code: "EACCES" });
    expect((await a.observe()).failure).toMatchObject({
      action: "mark-claim",
      code: "PG_UNEXPECTED",
      message: expect.stringContaining("EACCES") as string,
    });
    await chmod(a.config.dataDir, 0o700);
    await a.perform({ kind: "mark-claim", version: undefined });
    expect((await a.observe()).failure).toBeUndefined();
  });

  it("is not made where PostgreSQL refuses the configuration, or its folder can't be", async () => {
    const initdb = { kind: "initdb", incarnation: "x" } as const;
    const named = await bench.peer("named", { superuser: "pg_root" });
    await expect(named.perform(initdb)).rejects.toMatchObject({
      code: "PG_INITDB_FAILED",
      message: expect.stringContaining("pg_root") as string,
    });
    const role = await bench.peer("role", { replicationUser: "pg_peers" });
    await expect(role.perform(initdb)).rejects.toMatchObject({
      code: "PG_ROLE_FAILED",
      message: expect.stringContaining("pg_peers") as string,
    });
    const closed = join(bench.folder, "closed");
    await mkdir(closed, { mode: 0o500 });
    const below = await bench.peer("below", { dataDir: join(closed, "data") });
    await expect(below.perform(initdb)).rejects.toMatchObject({ code: "PG_FOLDER" });
  });

  it("keeps what was marked: a claim, the last document", async () => {
    await a.perform({ kind: "mark-claim", version: 7 });
    await a.postgres.rememberDocument({ version: 8, json: '{"generation":1}' });
    const mark = { claim: { version: 7 }, lastDocument: { version: 8, json: '{"generation":1}' } };
    expect((await a.reopen().observe()).data).toMatchObject({ mark });
    await a.perform({ kind: "mark-claim", version: undefined });
    expect((await a.observe()).data).toMatchObject({ mark: { ...mark, claim: undefined } });
  });

  it("is never initialised over", async () => {
    await expect(a.perform({ kind: "initdb", incarnation: "again" })).rejects.toMatchObject({
      code: "PG_DATA_NOT_EMPTY",
    });
    expect((await a.observe()).data).toMatchObject({ mark: { incarnation: "one" } });
  });

  it("in which initdb was cut short counts as empty, and is initialised afresh (B1)", async () => {
    const b = await bench.peer("b");
    await b.postgres.perform({ kind: "initdb", incarnation: "first" }, []);
    await eventually("initdb has begun", async () => (await readdir(b.config.dataDir).catch(() => [])).length > 0);
    await b.postgres.cancelJob();
    expect((await b.observe()).data).toEqual({ kind: "none" });
    expect((await b.perform({ kind: "initdb", incarnation: "second" })).data).toMatchObject({
      mark: { incarnation: "second" },
    });
  });

  it("in which initdb was cut short, and to which a database was brought back since, is not initialised over (I5)", async () => {
    const d = await bench.peer("d");
    await d.postgres.perform({ kind: "initdb", incarnation: "first" }, []);
    await eventually("initdb has begun", async () => (await readdir(d.config.dataDir).catch(() => [])).length > 0);
    await d.postgres.cancelJob();
    const journal = `${d.config.dataDir}.manatee/initdb-under-way`;
    expect((await d.observe()).data).toEqual({ kind: "none" });
    await rm(d.config.dataDir, { recursive: true });
    await cp(a.config.dataDir, d.config.dataDir, { recursive: true });
    await chmod(d.config.dataDir, 0o700);
    expect((await readFile(journal, "utf8")).length).toBeGreaterThan(0);
    expect((await d.observe()).data).toMatchObject({ mark: { incarnation: "one" } });
    await expect(d.perform({ kind: "initdb", incarnation: "again" })).rejects.toMatchObject({
      code: "PG_DATA_NOT_EMPTY",
    });
  });

  it("without a mark is adopted when it was shut down cleanly, and becomes a primary that peers can copy (B1)", async () => {
    await rm(join(a.config.dataDir, "manatee.json"));
    await rm(a.config.replicationPasswordFile);
    expect((await a.observe()).data).toMatchObject({ kind: "present", mark: undefined });
    await a.perform({ kind: "adopt-data", incarnation: "adopted" });
    await expect(a.perform({ kind: "adopt-data", incarnation: "twice" })).rejects.toMatchObject({
      code: "PG_ADOPT_REFUSED",
    });
    expect((await a.observe()).data).toMatchObject({ mark: { incarnation: "adopted" } });
    await a.perform({
      kind: "start",
      as: "primary",
      settings: settingsWith({ syncNames: [] }),
      unfinishedTimeline: undefined,
    });
    await a.primary();
    const c = await bench.peer("c");
    await startStandby(c, a);
  });
});

const DAMAGE_HERE = "one letter of this changes on its way";

/** Passes everything on, and changes a letter where it first sees that text. */
async function damagingRelay(to: number): Promise<{ port: number; damaged(): number; close(): void }> {
  let damaged = 0;
  const sockets = new Set<Socket>();
  const relay = createServer((client) => {
    const server = connect({ host: "127.0.0.1", port: to });
    for (const socket of [client, server]) {
      sockets.add(socket);
      socket.on("error", () => undefined);
    }
    client.pipe(server);
    client.on("close", () => server.destroy());
    server.on("end", () => client.end());
    server.on("data", (chunk: Buffer) => {
      const at = damaged === 0 ? chunk.indexOf(DAMAGE_HERE) : -1;
      if (at >= 0) {
        chunk[at] = 0x58;
        damaged++;
      }
      client.write(chunk);
    });
  });
  await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
  return {
    port: (relay.address() as { port: number }).port,
    damaged: () => damaged,
    close: () => {
      relay.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
