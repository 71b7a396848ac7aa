// Traps of synchronous commit and of the gate, on real servers (docs/protocol.md: S1, P1, I1).

import { once } from "node:events";
import { readFile, rm, writeFile } from "node:fs/promises";
import { createConnection } from "node:net";
import { join } from "node:path";
import type { Client } from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { formatLsn, parseLsn } from "../../src/base/lsn.ts";
import { NOBODY, type PostgresObservation, type Walsender } from "../../src/cluster/observation.ts";
import { signal } from "../support/processes.ts";
import {
  backendPids,
  eventually,
  follow,
  PostgresBench,
  postmasterPid,
  settingsWith,
  startPrimary,
  startStandby,
  type TestPeer,
} from "../support/postgres.ts";

describe("a primary with two standbys", () => {
  let bench: PostgresBench;
  let a: TestPeer;
  let b: TestPeer;
  let c: TestPeer;

  beforeAll(async () => {
    bench = await PostgresBench.open();
    a = await bench.peer("a");
    b = await bench.peer("b");
    c = await bench.peer("c");
    await startPrimary(a);
    await a.sql("create table t (n int)");
    await startStandby(b, a, "two");
    await startStandby(c, a, "three");
  });
  afterAll(() => bench.cleanUp());

  const sender = ({ server }: PostgresObservation, of: TestPeer): Walsender | undefined =>
    server.kind === "primary" ? server.walsenders.find(({ name }) => name === of.self.pgUrl) : undefined;

  it("shows in each walsender's priority whether it has applied the list: a reload is a rumour (S1)", async () => {
    await a.apply({ syncNames: [b.self.pgUrl], gate: "open" });
    await a.until(
      "b is required",
      (seen) => sender(seen, b)?.syncPriority === 1 && sender(seen, c)?.syncPriority === 0,
    );
    const [frozen] = await backendPids(a, `backend_type = 'walsender' and application_name = '${b.self.pgUrl}'`);
    process.kill(frozen as number, "SIGSTOP");
    try {
      await a.apply({ syncNames: [c.self.pgUrl, b.self.pgUrl], gate: "open" });
      const seen = await a.until("c's walsender has applied it", (now) => sender(now, c)?.syncPriority === 1);
      // In force for new sessions, and not for the walsender that can't run.
      expect(seen.server).toMatchObject({ settings: { syncNames: [c.self.pgUrl, b.self.pgUrl] } });
      expect(sender(seen, b)?.syncPriority).toBe(1);
    } finally {
      process.kill(frozen as number, "SIGCONT");
    }
    await a.until("b's has, too", (now) => sender(now, b)?.syncPriority === 2);
  });

  it("releases whatever waits when the list becomes empty, which is why it never is (S1, O1)", async () => {
    await a.apply({ syncNames: [NOBODY], gate: "open" });
    const client = await a.connect();
    let acknowledged = false;
    const insert = client.query("insert into t values (1)").then(() => (acknowledged = true));
    await eventually("the commit waits", async () => (await backendPids(a, "wait_event = 'SyncRep'")).length === 1);
    expect(acknowledged).toBe(false);
    await a.apply({ syncNames: [], gate: "open" });
    await insert;
    expect(acknowledged).toBe(true);
  });

  it("writes a marker although commits wait for nobody's answer, and the flush position is behind it (S1)", async () => {
    await a.apply({ syncNames: [NOBODY], gate: "open" });
    const before = (await a.primary()).wal.end;
    await a.perform({ kind: "write-marker", token: "token" });
    const { marker, wal } = await a.primary();
    expect(marker?.token).toBe("token");
    expect(marker?.lsn).toBeGreaterThan(before);
    expect(wal.end).toBeGreaterThanOrEqual(marker?.lsn ?? 0n);
    await a.until("both standbys have it", (seen) =>
      [b, c].every((peer) => (sender(seen, peer)?.flush ?? 0n) >= (marker?.lsn ?? 0n)),
    );
  });

  it("writes a marker that idle standbys reach, while more is inserted than is flushed (S1)", async () => {
    await a.apply({ syncNames: [NOBODY], gate: "open" });
    const client = await a.connect();
    const { pid } = (await client.query("select pg_backend_pid() as pid")).rows[0] as { pid: number };
    // Whoever flushes what others have inserted, and then who inserts.
    const frozen = await backendPids(a, "backend_type in ('walwriter', 'background writer')");
    expect(frozen).toHaveLength(2);
    for (const each of frozen) process.kill(each, "SIGSTOP");
    try {
      const inserting = client
        .query(
          "do $$ begin loop perform pg_logical_emit_message(false, 'test', 'inserted'); perform pg_sleep(0.001); end loop; end $$",
        )
        .catch(() => undefined);
      const ahead = async () =>
        (await a.sql("select pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn() as ahead"))[0]?.["ahead"];
      await eventually("more is inserted than is flushed", async () => (await ahead()) === true);
      await a.perform({ kind: "write-marker", token: "ahead" });
      await eventually("and again behind the marker", async () => (await ahead()) === true);
      process.kill(pid, "SIGSTOP");
      frozen.push(pid);
      const { marker } = await a.primary();
      expect(marker?.token).toBe("ahead");
      await a.until("both standbys have it", (seen) =>
        [b, c].every((peer) => (sender(seen, peer)?.flush ?? 0n) >= (marker?.lsn ?? 0n)),
      );
      expect(await ahead(), "nothing has flushed it meanwhile").toBe(true);
      process.kill(pid, "SIGCONT");
      await a.sql(`select pg_terminate_backend(${pid})`);
      await inserting;
    } finally {
      for (const each of frozen) signal(each, "SIGCONT");
    }
  });

  it("counts commits whose wait was cancelled, and tells of each", async () => {
    const client = await a.connect();
    const warnings: string[] = [];
    client.on("notice", ({ message }) => warnings.push(message ?? ""));
    const insert = client.query("insert into t values (2)");
    await eventually("the commit waits", async () => (await backendPids(a, "wait_event = 'SyncRep'")).length === 1);
    await a.sql("select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'");
    await insert;
    expect(warnings).toEqual(["canceling wait for synchronous replication due to user request"]);
    await a.observe();
    expect((await a.postgres.report()).cancelledWaits).toBe(1);
    expect(a.lines.filter(({ level, message }) => level === "warn" && message.includes("cancelled"))).toHaveLength(1);
  });

  it("knows where a commit ends whose wait was cancelled, or ended with its session, and that the sync lacks it until then (I1)", async () => {
    await b.perform({ kind: "stop", mode: "fast" });
    await a.apply({ syncNames: [b.self.pgUrl], gate: "open" });
    const before = (await a.postgres.report()).cancelledWaits;
    const flushed = async () =>
      parseLsn(String((await a.sql("select pg_current_wal_flush_lsn()::text as at"))[0]?.["at"]));
    const giveUp = async (how: "cancel" | "terminate") => {
      const client = await a.connect();
      const insert = client.query("insert into t values (3)").catch(() => undefined);
      await eventually("the commit waits", async () => (await backendPids(a, "wait_event = 'SyncRep'")).length === 1);
      await a.observe();
      expect((await a.postgres.report()).waitingCommits).toBe(1);
      const commitEnd = (await flushed()) ?? 0n;
      await a.sql(`select pg_${how}_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'`);
      await insert;
      return commitEnd;
    };
    for (const [done, how] of (["cancel", "terminate"] as const).entries()) {
      const commitEnd = await giveUp(how);
      const { cancelledUpTo, wal } = await a.primary();
      const report = await a.postgres.report();
      expect(report).toMatchObject({ cancelledWaits: before + done + 1, waitingCommits: 0 });
      expect(report.inDoubt).toEqual({ timeline: 1, upTo: cancelledUpTo && formatLsn(cancelledUpTo.lsn) });
      expect(cancelledUpTo?.lsn).toBeGreaterThanOrEqual(commitEnd);
      expect(cancelledUpTo?.lsn).toBeLessThanOrEqual(wal.end);
    }
    // More WAL moves it no further: what comes later is not in doubt.
    const { cancelledUpTo } = await a.primary();
    await a.sql("set synchronous_commit = local; insert into t values (4)");
    const { wal, cancelledUpTo: after } = await a.primary();
    expect(wal.end).toBeGreaterThan(cancelledUpTo?.lsn ?? wal.end);
    expect(after).toEqual(cancelledUpTo);
    // A sitter that starts anew reads it in the log, and knows no better than that it ends before what is there now.
    const again = (await a.reopen().primary()).cancelledUpTo;
    expect(again?.lsn).toBeGreaterThanOrEqual(cancelledUpTo?.lsn ?? wal.end);
    await follow(b, a);
    await a.until("b has it", (seen) => (sender(seen, b)?.flush ?? 0n) >= (cancelledUpTo?.lsn ?? wal.end));
  });

  it("does not place a cancelled wait by a look that failed: it is in doubt, and not known up to where (I1)", async () => {
    await a.apply({ syncNames: [NOBODY], gate: "open" });
    await a.primary();
    const pid = await postmasterPid(a);
    const client = await a.connect();
    const canceller = await a.connect();
    const insert = client.query("insert into t values (5)");
    await eventually("the commit waits", async () => (await backendPids(a, "wait_event = 'SyncRep'")).length === 1);
    process.kill(pid, "SIGSTOP");
    try {
      await a.until("no session can be opened", ({ server }) => server.kind === "unresponsive");
      const before = (await a.postgres.report()).cancelledWaits;
      await canceller.query("select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'");
      await insert;
      await a.observe();
      const report = await a.postgres.report();
      expect(report.cancelledWaits).toBe(before + 1);
      expect(report.inDoubt).toEqual({ timeline: null, upTo: null });
    } finally {
      process.kill(pid, "SIGCONT");
    }
    const { cancelledUpTo, wal } = await a.primary();
    expect(cancelledUpTo).toEqual({ timeline: 1, lsn: wal.end });
    expect((await a.postgres.report()).inDoubt).toEqual({ timeline: 1, upTo: formatLsn(wal.end) });
  });

  it("ends one standby's walsender by its pid, and no other session", async () => {
    const before = sender(await a.observe(), b)?.pid as number;
    const client = await a.connect();
    const { pid } = (await client.query("select pg_backend_pid() as pid")).rows[0] as { pid: number };
    await a.perform({ kind: "end-walsender", pid });
    await a.perform({ kind: "end-walsender", pid: before });
    await a.until("it comes again", (seen) => sender(seen, b) !== undefined && sender(seen, b)?.pid !== before);
    expect((await client.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
  });

  it("counts and ends sessions of clients, those opened before the gate closed too (P1, X1)", async () => {
    await a.apply({ syncNames: [], gate: "open" });
    await a.perform({ kind: "end-clients" });
    expect((await a.primary()).clientSessions).toBe(0);
    const client = await a.connect();
    expect((await a.primary()).clientSessions).toBe(1);
    await a.apply({ syncNames: [], gate: "closed" });
    expect((await a.primary()).clientSessions).toBe(1);
    await a.perform({ kind: "end-clients" });
    expect((await a.primary()).clientSessions).toBe(0);
    await expect(client.query("select 1")).rejects.toThrow();
    expect((await a.primary()).walsenders).toHaveLength(2);
  });

  it("ends a client that is still being authenticated, by rules that let it in before the gate closed (I3)", async () => {
    await a.apply({ syncNames: [], gate: "open" });
    const words = Buffer.from("user\0postgres\0database\0postgres\0\0");
    const startup = Buffer.alloc(8);
    startup.writeInt32BE(8 + words.length, 0);
    startup.writeInt32BE(196_608, 4);
    const socket = createConnection({ host: a.config.host, port: a.config.port });
    const closed = once(socket, "close");
    socket.write(Buffer.concat([startup, words]));
    // A request for a password, and no refusal.
    expect(((await once(socket, "data"))[0] as Buffer).subarray(0, 1).toString()).toBe("R");
    await a.apply({ syncNames: [], gate: "closed" });
    expect(socket.closed).toBe(false);
    socket.resume();
    await a.perform({ kind: "end-clients" });
    await closed;
  });

  it("shows no commit that waits to anybody while sessions end, or the server stops (I3)", async () => {
    const settings = { syncNames: [NOBODY], upstream: null } as const;
    // On the server, each look with a snapshot of its own: as close as a reader can come.
    const readUntilEnded = async (client: Client, value: number): Promise<number> => {
      let seen = 0;
      client.on("notice", () => seen++);
      const look = `perform n from t where n = ${value}; if found then raise notice 'seen'; exit; end if;`;
      await client.query(`do $$ begin loop ${look} end loop; end $$`).catch(() => undefined);
      return seen;
    };
    const during = async (value: number, end: () => Promise<unknown>): Promise<number> => {
      await a.apply({ ...settings, gate: "open" });
      const clients: Client[] = [];
      for (let n = 0; n < 25; n++) clients.push(await a.connect());
      const commits = clients
        .splice(0, 5)
        .map((client) => client.query(`insert into t values (${value})`).catch(() => 0));
      await eventually("commits wait", async () => (await backendPids(a, "wait_event = 'SyncRep'")).length === 5);
      const reads = clients.map((client) => readUntilEnded(client, value));
      await eventually("all read", async () => (await backendPids(a, "query ~ '^do .. begin loop'")).length === 20);
      await end();
      await Promise.all(commits);
      return (await Promise.all(reads)).reduce((sum, seen) => sum + seen, 0);
    };
    const seenWhileEnding = await during(1000, async () => {
      await a.apply({ ...settings, gate: "closed" });
      await a.perform({ kind: "end-clients" });
    });
    const seenWhileStopping = await during(1001, () => a.perform({ kind: "stop", mode: "fast" }));
    expect({ seenWhileEnding, seenWhileStopping }).toEqual({ seenWhileEnding: 0, seenWhileStopping: 0 });
    await a.perform({
      kind: "start",
      as: "primary",
      settings: { syncNames: [], gate: "open", upstream: null },
      unfinishedTimeline: undefined,
    });
    // Ended, not undone.
    expect(await a.sql("select count(*)::int as n from t where n >= 1000")).toEqual([{ n: 10 }]);
  });

  it("ends no commit that waits before all that could read it have ended (I3)", async () => {
    await a.apply({ syncNames: [NOBODY], gate: "open" });
    const [reader, writer] = [await a.connect(), await a.connect()];
    const { pid } = (await reader.query("select pg_backend_pid() as pid")).rows[0] as { pid: number };
    const commit = writer.query("insert into t values (2000)").catch(() => undefined);
    await eventually("the commit waits", async () => (await backendPids(a, "wait_event = 'SyncRep'")).length === 1);
    await a.apply({ syncNames: [NOBODY], gate: "closed" });
    process.kill(pid, "SIGSTOP");
    await expect(a.perform({ kind: "end-clients" })).rejects.toMatchObject({ code: "PG_SESSIONS_REMAIN" });
    expect(await backendPids(a, "wait_event = 'SyncRep'")).toHaveLength(1);
    process.kill(pid, "SIGCONT");
    await a.perform({ kind: "end-clients" });
    await commit;
    expect((await a.primary()).clientSessions).toBe(0);
    await a.apply({ syncNames: [], gate: "open" });
  });

  it("admits clients by the operator's rules while the gate is open, and nobody while it is closed (P1)", async () => {
    const { rows } = { rows: await a.sql("create role app login password 'secret'") };
    expect(rows).toEqual([]);
    const enter = () => a.connect({ user: "app", overTcp: true, password: "secret" });
    await a.apply({ syncNames: [], gate: "closed" });
    await expect(enter()).rejects.toThrow(/pg_hba.conf rejects/);
    await a.apply({ syncNames: [], gate: "open" });
    await (await enter()).end();
    // The operator's file is taken in again.
    const hba = join(a.config.dataDir, "pg_hba.conf");
    const before = await readFile(hba, "utf8");
    await writeFile(hba, `host all app all reject\n${before}`);
    await a.apply({ syncNames: [], gate: "open" });
    await expect(enter()).rejects.toThrow(/pg_hba.conf rejects/);
    await writeFile(hba, before);
    await a.apply({ syncNames: [], gate: "open" });
    await (await enter()).end();
  });

  describe("with an error in the operator's pg_hba.conf", () => {
    const accepted = () => `${a.config.dataDir}.manatee/pg_hba.accepted.conf`;
    const enter = (peer: TestPeer) => peer.connect({ user: "visitor", overTcp: true, password: "secret" });
    const warnings = async (peer: TestPeer) => (await peer.postgres.report()).warnings.join();
    const complaints = (peer: TestPeer) =>
      peer.lines.filter(({ level, fields }) => level === "error" && fields?.["code"] === "PG_HBA_REJECTED");
    let hba: string;
    let good: string;
    let broken: string;
    let lineOfError: number;

    beforeAll(async () => {
      hba = join(a.config.dataDir, "pg_hba.conf");
      const rules = await readFile(hba, "utf8");
      await a.sql("create role visitor login password 'secret'");
      // What is wrong stands behind a rule that would close the door.
      good = `host all visitor all scram-sha-256\n${rules}`;
      broken = `host all visitor all reject\n${rules}host nonsense\n`;
      lineOfError = broken.split("\n").length - 1;
    });
    beforeEach(async () => {
      await writeFile(hba, good);
      a.postgres.takeInFiles();
      await a.apply({ syncNames: [], gate: "open" });
      await a.primary();
      await (await enter(a)).end();
    });
    afterAll(() => writeFile(hba, good));

    it("goes on with the rules of before, names the line, and changes all that the sitter needs (S1, P1)", async () => {
      await writeFile(hba, broken);
      a.postgres.takeInFiles();
      const before = complaints(a).length;
      await a.apply({ syncNames: [], gate: "open" });
      expect(complaints(a).slice(before)).toMatchObject([
        {
          fields: {
            error: expect.stringMatching(`line ${lineOfError} of ${hba} .*rules of before are in force`) as string,
          },
        },
      ]);
      expect(await warnings(a)).toContain(`line ${lineOfError} of ${hba}`);
      await (await enter(a)).end();
      await a.apply({ syncNames: [], gate: "closed" });
      await a.observe();
      await expect(enter(a)).rejects.toThrow(/pg_hba.conf rejects/);
      await a.apply({ syncNames: ["b"], gate: "open" });
      expect((await a.primary()).settings).toMatchObject({ gate: "open", syncNames: ["b"] });
      await (await enter(a)).end();
      expect(complaints(a).slice(before), "said once").toHaveLength(1);
      a.postgres.takeInFiles();
      await a.apply({ syncNames: [], gate: "open" });
      expect(complaints(a).slice(before), "and again when it is asked for").toHaveLength(2);
      await writeFile(hba, good);
      await a.apply({ syncNames: [], gate: "open" });
      expect(await warnings(a)).not.toContain("pg_hba");
    });

    it("goes on with them also where the sitter and the server were started meanwhile, and starts with a closed gate", async () => {
      await writeFile(hba, broken);
      await a.perform({ kind: "stop", mode: "fast" });
      const later = a.reopen();
      const settings = settingsWith({ syncNames: [] });
      await later.perform({ kind: "start", as: "primary", settings, unfinishedTimeline: undefined });
      await later.primary();
      await later.apply({ syncNames: [] });
      expect(await warnings(later), "before the gate is to open").toContain(`line ${lineOfError} of ${hba}`);
      await later.apply({ syncNames: [], gate: "open" });
      expect((await later.primary()).settings.gate).toBe("open");
      await (await enter(later)).end();
      await later.postgres.close("leave");
    });

    it("lets nobody in where no rules of before are known, says so, and changes settings nevertheless", async () => {
      await a.apply({ syncNames: [], gate: "closed" });
      await rm(accepted());
      await writeFile(hba, broken);
      const later = a.reopen();
      await later.primary();
      await later.apply({ syncNames: ["b"], gate: "open" });
      expect((await later.primary()).settings).toMatchObject({ gate: "open", syncNames: ["b"] });
      await expect(enter(later)).rejects.toThrow(/no pg_hba.conf entry/);
      expect(complaints(later)).toMatchObject([
        { fields: { error: expect.stringMatching(/none of the operator's rules are in force/) as string } },
      ]);
      await writeFile(hba, good);
      later.postgres.takeInFiles();
      await later.apply({ syncNames: [], gate: "open" });
      await (await enter(later)).end();
      expect(await warnings(later)).not.toContain("pg_hba");
      await later.postgres.close("leave");
    });

    it("takes a file that can't be read for a mistake, too", async () => {
      await rm(hba);
      a.postgres.takeInFiles();
      await a.apply({ syncNames: [], gate: "open" });
      expect(await warnings(a)).toMatch(/ENOENT.*pg_hba.conf.*rules of before are in force/);
      await (await enter(a)).end();
    });

    it("takes a rule that PostgreSQL takes in, though it can't match, for none", async () => {
      await writeFile(hba, `hostssl all nobody all scram-sha-256\n${good}`);
      a.postgres.takeInFiles();
      await a.apply({ syncNames: [], gate: "open" });
      expect(await a.sql("select from pg_hba_file_rules where error like '%SSL%'")).toHaveLength(1);
      expect(await warnings(a)).not.toContain("pg_hba");
      expect(await readFile(accepted(), "utf8")).toContain("hostssl");
    });
  });

  describe("with a mistake in the operator's postgresql.conf", () => {
    let conf: string;
    let good: string;
    const warnings = async () => (await a.postgres.report()).warnings.join();
    const complaints = () => a.lines.filter(({ fields }) => fields?.["code"] === "PG_CONF_REJECTED");
    const show = async (name: string) => (await a.sql(`select current_setting('${name}') as value`))[0]?.["value"];
    const lineOf = (text: string) => `line ${text.split("\n").length - 1} of ${conf}`;

    beforeAll(async () => {
      conf = join(a.config.dataDir, "postgresql.conf");
      good = `${await readFile(conf, "utf8")}work_mem = '5MB'\napp.motto = 'it''s'\n`;
    });
    afterEach(async () => {
      await writeFile(conf, good);
      a.postgres.takeInFiles();
      await a.apply({ syncNames: [], gate: "open" });
      expect(await warnings()).not.toContain("postgresql.conf");
    });

    it.each(["work_mem = 6MB oops", "no_such_setting = 1", "include 'nowhere.conf'"])(
      "goes on with the settings of before, names the line, and changes all that the sitter needs (S1): %s",
      async (wrong) => {
        await writeFile(conf, good);
        a.postgres.takeInFiles();
        await a.apply({ syncNames: [], gate: "open" });
        await a.primary();
        const before = complaints().length;
        const broken = `${good.replace("5MB", "7MB")}${wrong}\n`;
        await writeFile(conf, broken);
        a.postgres.takeInFiles();
        await a.apply({ syncNames: ["b"], gate: "open" });
        expect((await a.primary()).settings).toMatchObject({ gate: "open", syncNames: ["b"] });
        await a.apply({ syncNames: [], gate: "closed" });
        expect((await a.primary()).settings).toMatchObject({ gate: "closed", syncNames: [] });
        expect([await show("work_mem"), await show("app.motto"), await show("max_connections")]).toEqual([
          "5MB",
          "it's",
          "30",
        ]);
        expect(await a.sql("select name from pg_settings where pending_restart")).toEqual([]);
        expect(await warnings()).toMatch(new RegExp(`${lineOf(broken)} .*settings of before are in force`));
        expect(complaints().slice(before), "said once").toHaveLength(1);
      },
    );

    it("says so of a value that alone is not taken in, since the server would not start with it", async () => {
      const broken = `${good}log_min_duration_statement = 'soon'\n`;
      await writeFile(conf, broken);
      a.postgres.takeInFiles();
      await a.apply({ syncNames: ["b"], gate: "open" });
      expect((await a.primary()).settings.syncNames).toEqual(["b"]);
      expect(await warnings()).toMatch(new RegExp(`${lineOf(broken)} .*the others are in force`));
    });

    it("takes a setting that waits for the next start for no mistake", async () => {
      await writeFile(conf, `${good}max_prepared_transactions = 7\n`);
      a.postgres.takeInFiles();
      await a.apply({ syncNames: [], gate: "open" });
      expect(await a.sql("select name from pg_settings where pending_restart")).toEqual([
        { name: "max_prepared_transactions" },
      ]);
      expect(await warnings()).not.toContain("rejects");
    });
  });

  it("says which setting can't hold, and where it comes from", async () => {
    await a.sql("alter role postgres set wal_sender_timeout = '1min'");
    try {
      await a.apply({ syncNames: [NOBODY], gate: "open" }).then(
        () => expect.unreachable("the setting was taken"),
        (error: unknown) =>
          expect(error).toMatchObject({
            code: "PG_SETTING_OVERRIDDEN",
            message: expect.stringContaining("wal_sender_timeout") as string,
          }),
      );
    } finally {
      await a.apply({ syncNames: [], gate: "open" }).catch(() => undefined);
      await a.sql("alter role postgres reset wal_sender_timeout");
    }
    await a.apply({ syncNames: [], gate: "open" });
  });

  it("takes what is ours out of postgresql.auto.conf, which would win", async () => {
    const path = join(a.config.dataDir, "postgresql.auto.conf");
    await writeFile(path, "# kept\nwork_mem = '5MB'\nsynchronous_standby_names = 'intruder'\n");
    await a.apply({ syncNames: [NOBODY], gate: "open" });
    expect((await a.primary()).settings.syncNames).toEqual([NOBODY]);
    expect(await readFile(path, "utf8")).toBe("# kept\nwork_mem = '5MB'\n");
    await a.apply({ syncNames: [], gate: "open" });
  });

  it("does nothing where the settings hold already", async () => {
    await a.apply({ syncNames: [], gate: "open" });
    await a.observe();
    const loaded = await a.sql("select pg_conf_load_time()::text as at");
    await a.apply({ syncNames: [], gate: "open" });
    expect(await a.sql("select pg_conf_load_time()::text as at")).toEqual(loaded);
  });

  it("is adopted by a driver that comes later, settings and upstream included", async () => {
    const again = a.reopen();
    const primary = await again.primary();
    expect(primary.settings).toEqual({ syncNames: [], gate: "open", upstream: null });
    expect(primary.recoveredEnd).toBeLessThanOrEqual(primary.wal.end);
    const standby = await b.reopen().standby();
    expect(standby.settings.upstream).toEqual(a.self);
    expect(standby.receiver).toMatchObject({ kind: "streaming", from: { host: "127.0.0.1", port: a.config.port } });
  });

  it("is reported under the names that clients of the original read", async () => {
    await a.observe();
    const report = await a.postgres.report();
    expect(report).toMatchObject({
      healthy: true,
      error: null,
      state: "primary",
      gate: "open",
      timeline: 1,
      lineage: "1",
    });
    expect(report.replication).toHaveLength(2);
    expect(Object.keys(report.replication[0] ?? {})).toEqual(
      expect.arrayContaining(["sent_location", "flush_location", "replay_location", "sync_state", "application_name"]),
    );
    await b.observe();
    expect(await b.postgres.report()).toMatchObject({ state: "standby", receiver: "streaming" });
  });

  it("refuses a peer's URL that PostgreSQL would cut, since a cut name is nobody's", async () => {
    const long = await bench.peer("d", {});
    const named = bench.withAddress(long, { ...long.self, pgUrl: `tcp://postgres@127.0.0.1:5432/${"x".repeat(40)}` });
    await expect(named.perform({ kind: "initdb", incarnation: "x" })).rejects.toMatchObject({
      code: "PG_NAME_TOO_LONG",
    });
  });
});
