// Traps of synchronous commit and of the gate, on real servers (docs/protocol.md: S1, P1, I1).

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { NOBODY, type PostgresObservation, type Walsender } from "../../src/cluster/observation.ts";
import {
  backendPids,
  eventually,
  PostgresBench,
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

  it("keeps the old rules and says so where the operator's pg_hba.conf has an error", async () => {
    const hba = join(a.config.dataDir, "pg_hba.conf");
    const before = await readFile(hba, "utf8");
    await writeFile(hba, `${before}\nhost nonsense\n`);
    await expect(a.apply({ syncNames: [], gate: "open" })).rejects.toMatchObject({
      code: "PG_HBA_REJECTED",
      remedy: "operator",
    });
    expect((await a.primary()).settings.gate).toBe("open");
    // Closed before, it stays closed, and is seen to be.
    await a.apply({ syncNames: [], gate: "closed" });
    await a.observe();
    await expect(a.apply({ syncNames: [], gate: "open" })).rejects.toMatchObject({ code: "PG_HBA_REJECTED" });
    expect((await a.primary()).settings.gate).toBe("closed");
    await writeFile(hba, before);
    await a.apply({ syncNames: [], gate: "open" });
    expect((await a.primary()).settings.gate).toBe("open");
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
