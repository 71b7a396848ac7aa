// The driver's whole way on real servers: make a database, serve, copy, follow, take over.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { NOBODY } from "../../src/cluster/observation.ts";
import { eventually, follow, PostgresBench, settingsWith, startPrimary, type TestPeer } from "../support/postgres.ts";

describe("a database made, copied and promoted", () => {
  let bench: PostgresBench;
  let a: TestPeer;
  let b: TestPeer;

  beforeAll(async () => {
    bench = await PostgresBench.open();
    a = await bench.peer("a");
    b = await bench.peer("b");
  });
  afterAll(() => bench.cleanUp());

  it("sees no data before initdb, and a marked, founding database after it (B1)", async () => {
    expect((await a.observe()).data.kind).toBe("none");
    const { data } = await a.perform({ kind: "initdb", incarnation: "one" });
    expect(data).toMatchObject({
      kind: "present",
      controlState: "shutdown",
      standbySignal: false,
      lineage: { past: [], timeline: 1 },
      mark: { shard: "test", incarnation: "one", founding: true, incomplete: false },
    });
  });

  it("starts as a primary with the settings asked for, gate closed", async () => {
    await a.perform({ kind: "start", as: "primary", settings: settingsWith(), unfinishedTimeline: undefined });
    const primary = await a.primary();
    expect(primary.settings).toEqual({ syncNames: [NOBODY], gate: "closed", upstream: null });
    await a.until("commits wait", ({ server }) => server.kind === "primary" && server.commitsWait);
    expect(primary.recoveredEnd).toBeLessThanOrEqual(primary.wal.end);
  });

  it("opens the gate and stops waiting for anybody when told to (O1)", async () => {
    await a.apply({ syncNames: [], gate: "open" });
    expect((await a.primary()).settings).toEqual({ syncNames: [], gate: "open", upstream: null });
    await a.sql("create table t (n int)");
    await a.sql("insert into t select generate_series(1, 1000)");
  });

  it("copies the primary, and follows it", async () => {
    const { data } = await b.perform({ kind: "copy", from: a.self, incarnation: "two" });
    expect(data).toMatchObject({
      kind: "present",
      standbySignal: true,
      controlState: "recovery",
      mark: { incarnation: "two", founding: false, incomplete: false, source: a.self.id },
    });
    await follow(b, a);
    expect((await b.standby()).settings).toEqual({ syncNames: [NOBODY], gate: "open", upstream: a.self });
    const sender = (await a.primary()).walsenders.find(({ name }) => name === b.self.pgUrl);
    expect(sender).toMatchObject({ state: "streaming", syncPriority: 0 });
  });

  it("requires the standby when told to, and shows it applied", async () => {
    await a.apply({ syncNames: [b.self.pgUrl], gate: "open" });
    await a.until(
      "the walsender has applied it",
      ({ server }) => server.kind === "primary" && server.walsenders[0]?.syncPriority === 1,
    );
    await a.sql("insert into t values (1001)");
    await a.perform({ kind: "write-marker", token: "m1" });
    const { marker } = await a.primary();
    expect(marker?.token).toBe("m1");
    await a.until(
      "the marker is flushed there",
      ({ server }) => server.kind === "primary" && (server.walsenders[0]?.flush ?? 0n) >= (marker?.lsn ?? 0n),
    );
  });

  it("promotes to exactly the timeline asked for, and the former primary stops", async () => {
    await a.perform({ kind: "stop", mode: "fast" });
    expect((await a.observe()).server).toMatchObject({ kind: "stopped", how: "stopped" });
    await b.apply({ upstream: null });
    await b.until(
      "it receives from nobody",
      ({ server }) => server.kind === "standby" && server.receiver.kind === "none" && server.caughtUpLocally,
    );
    await b.perform({ kind: "promote", timeline: 5 });
    const primary = await b.primary();
    expect(primary.wal).toMatchObject({ timeline: 5, past: [{ timeline: 1 }] });
    await b.apply({ syncNames: [], gate: "open" });
    expect(await b.sql("select count(*)::int as n from t")).toEqual([{ n: 1001 }]);
  });

  it("lets the former primary follow without a rewind, across the placeholders", async () => {
    await follow(a, b);
    await a.until(
      "it has followed to the new timeline",
      ({ server }) => server.kind === "standby" && server.wal.timeline === 5 && server.caughtUpLocally,
    );
    expect((await a.standby()).wal.past).toEqual((await b.primary()).wal.past);
  });
});

describe("a server whose connections are all taken", () => {
  let bench: PostgresBench;

  beforeAll(async () => {
    bench = await PostgresBench.open();
  });
  afterAll(() => bench.cleanUp());

  it("is alive, and what is told of it bears the time of the last look that was answered", async () => {
    const a = await bench.peer("a", { parameters: { max_connections: "8", superuser_reserved_connections: "1" } });
    await startPrimary(a);
    await a.primary();
    const taken: Awaited<ReturnType<typeof a.connect>>[] = [];
    const lastCheck = async () => {
      const { server } = await a.observe();
      expect(server.kind).toBe("primary");
      return (await a.postgres.report()).lastCheck;
    };
    /** Whatever the sitter's own sessions leave, and what they give back. */
    const takeAll = async (): Promise<void> => {
      for (;;)
        try {
          taken.push(await a.connect());
        } catch (error) {
          expect((error as { code?: string }).code).toBe("53300");
          return;
        }
    };
    await eventually("a look is not answered", async () => {
      await takeAll();
      const before = await lastCheck();
      await new Promise((resolve) => setTimeout(resolve, 5));
      return (await lastCheck()) === before;
    });
    const stood = await lastCheck();
    await Promise.all(taken.map((client) => client.end()));
    await eventually("a look is answered again", async () => (await lastCheck()) > stood);
  });
});
