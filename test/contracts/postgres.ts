// What every driver of PostgresServer does, whatever stands behind it. Through the port alone: a driver's own tests look deeper.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Lsn } from "../../src/base/lsn.ts";
import type { PostgresAction } from "../../src/cluster/decision.ts";
import {
  NOBODY,
  type PostgresObservation,
  type PostgresSettings,
  type PrimaryServer,
  type StandbyServer,
} from "../../src/cluster/observation.ts";
import type { PeerAddress } from "../../src/cluster/state.ts";
import type { PostgresServer } from "../../src/postgres/port.ts";

export interface ContractPeer {
  readonly self: PeerAddress;
  readonly postgres: PostgresServer;
  /** The server's process dies, without a word. */
  kill(): Promise<void>;
}

export interface PostgresContractBench {
  peer(name: string): Promise<ContractPeer>;
  /** Lets time pass: real or simulated. */
  wait(ms: number): Promise<void>;
  close(): Promise<void>;
}

const LOOKS_MAX = 2000;
const LOOK_EVERY_MS = 20;

export function postgresContract(name: string, open: () => Promise<PostgresContractBench>): void {
  describe(`PostgresServer, ${name}`, () => {
    let bench: PostgresContractBench;
    let a: ContractPeer;
    let b: ContractPeer;

    beforeAll(async () => {
      bench = await open();
      a = await bench.peer("a");
      b = await bench.peer("b");
    });
    afterAll(() => bench.close());

    const admitted = () => [a, b].map(({ self }) => ({ ip: self.ip }));
    const settings = (changes: Partial<PostgresSettings> = {}): PostgresSettings => ({
      syncNames: [NOBODY],
      gate: "closed",
      upstream: null,
      ...changes,
    });
    const until = async (
      peer: ContractPeer,
      what: string,
      holds: (seen: PostgresObservation) => boolean,
    ): Promise<PostgresObservation> => {
      for (let look = 0; look < LOOKS_MAX; look++) {
        const seen = await peer.postgres.observe();
        if (holds(seen)) return seen;
        await bench.wait(LOOK_EVERY_MS);
      }
      throw new Error(`never seen: ${what}`);
    };
    const act = async (peer: ContractPeer, action: PostgresAction): Promise<PostgresObservation> => {
      await peer.postgres.perform(action, admitted());
      return until(peer, `${action.kind} is over`, ({ job }) => job === undefined);
    };
    const apply = (peer: ContractPeer, changes: Partial<PostgresSettings>) =>
      peer.postgres.applySettings(settings(changes), admitted());
    const primary = async (peer: ContractPeer) =>
      (await until(peer, "a primary", ({ server }) => server.kind === "primary")).server as PrimaryServer;
    const standby = async (peer: ContractPeer) =>
      (await until(peer, "a standby", ({ server }) => server.kind === "standby")).server as StandbyServer;
    const start = (peer: ContractPeer, as: "primary" | "standby", changes: Partial<PostgresSettings> = {}) =>
      act(peer, { kind: "start", as, settings: settings(changes), unfinishedTimeline: undefined });
    const streams = ({ server }: PostgresObservation) =>
      server.kind === "standby" && server.receiver.kind === "streaming";
    const stands = ({ server }: PostgresObservation) =>
      server.kind === "standby" && server.receiver.kind === "none" && server.caughtUpLocally;

    it("sees nothing where there is nothing", async () => {
      expect(await a.postgres.observe()).toMatchObject({
        data: { kind: "none" },
        server: { kind: "stopped", how: "not-started" },
        job: undefined,
        failure: undefined,
        forks: [],
        canRollBack: false,
      });
    });

    it("makes a marked database, founding until a document names it (B1)", async () => {
      const { data } = await act(a, { kind: "initdb", incarnation: "one" });
      expect(data).toMatchObject({
        kind: "present",
        mark: { incarnation: "one", founding: true, incomplete: false },
        standbySignal: false,
        lineage: { timeline: 1, past: [] },
      });
    });

    it("does one long piece of work at a time", async () => {
      await a.postgres.perform({ kind: "keep-fork", name: "first" }, []);
      await a.postgres.perform({ kind: "keep-fork", name: "second" }, []).then(
        // Over already: then there was nothing to refuse.
        async () => void (await until(a, "over", ({ job }) => job === undefined)),
        (error: unknown) => expect(error).toMatchObject({ code: "PG_JOB_RUNNING" }),
      );
      const { forks } = await until(
        a,
        "the first is kept",
        (seen) => seen.job === undefined && seen.forks.includes("first"),
      );
      expect(forks).toContain("first");
    });

    it("keeps a fork once under its name (I5)", async () => {
      const before = (await a.postgres.observe()).forks;
      expect((await act(a, { kind: "keep-fork", name: "first" })).forks).toEqual(before);
    });

    it("starts a primary that lets nobody in and waits for nobody that exists (P1)", async () => {
      await start(a, "primary");
      const seen = await primary(a);
      expect(seen.settings).toEqual(settings());
      expect(seen.recoveredEnd).toBeLessThanOrEqual(seen.wal.end);
      expect(seen.walsenders).toEqual([]);
      await until(a, "commits wait", ({ server }) => server.kind === "primary" && server.commitsWait);
    });

    it("writes a marker that waits for nobody, with the position behind it (S1)", async () => {
      const before = (await primary(a)).wal.end;
      await act(a, { kind: "write-marker", token: "marker" });
      const { marker, wal, recoveredEnd } = await primary(a);
      expect(marker?.token).toBe("marker");
      expect(marker?.lsn).toBeGreaterThan(before);
      expect(wal.end).toBeGreaterThanOrEqual(marker?.lsn ?? 0n);
      expect(recoveredEnd).toBeLessThanOrEqual(before);
    });

    it("copies a peer under a new incarnation, and follows it (R1)", async () => {
      const { data } = await act(b, { kind: "copy", from: a.self, incarnation: "two" });
      expect(data).toMatchObject({
        kind: "present",
        standbySignal: true,
        mark: { incarnation: "two", founding: false, incomplete: false, source: a.self.id },
      });
      await start(b, "standby", { upstream: a.self, gate: "open" });
      await until(b, "it streams", streams);
      expect((await standby(b)).settings).toEqual(settings({ upstream: a.self, gate: "open" }));
      const seen = await until(
        a,
        "its walsender",
        ({ server }) => server.kind === "primary" && server.walsenders[0]?.state === "streaming",
      );
      expect(seen.server).toMatchObject({ walsenders: [{ name: b.self.pgUrl, syncPriority: 0 }] });
    });

    it("shows the place in the list that each walsender has applied (S1)", async () => {
      await apply(a, { syncNames: ["another", b.self.pgUrl] });
      expect((await primary(a)).settings.syncNames).toEqual(["another", b.self.pgUrl]);
      await until(a, "second", ({ server }) => server.kind === "primary" && server.walsenders[0]?.syncPriority === 2);
      await apply(a, { syncNames: [b.self.pgUrl] });
      await until(a, "first", ({ server }) => server.kind === "primary" && server.walsenders[0]?.syncPriority === 1);
    });

    it("shows how far a standby has flushed (S1, P1)", async () => {
      await act(a, { kind: "write-marker", token: "flushed" });
      const lsn = (await primary(a)).marker?.lsn ?? 0n;
      await until(
        a,
        "flushed there",
        ({ server }) => server.kind === "primary" && (server.walsenders[0]?.flush ?? 0n) >= lsn,
      );
      await until(b, "and said so itself", ({ server }) => server.kind === "standby" && server.wal.end >= lsn);
    });

    it("stops receiving without a restart, and its position stays (T1)", async () => {
      await apply(b, { upstream: null, gate: "open" });
      await until(b, "it stands", stands);
      const { end } = (await standby(b)).wal;
      await act(a, { kind: "write-marker", token: "missed" });
      const seen = await standby(b);
      expect(seen.wal.end).toBe(end);
      expect(seen.replayed).toBe(end);
      expect(seen.settings.upstream).toBeNull();
      await apply(b, { upstream: a.self, gate: "open" });
      await until(
        b,
        "it streams on",
        (now) => streams(now) && now.server.kind === "standby" && now.server.wal.end > end,
      );
    });

    it("remembers what was marked (B1, T1)", async () => {
      await act(b, { kind: "mark-claim", version: 5 });
      await b.postgres.rememberDocument({ version: 6, json: '{"generation":2}' });
      expect((await b.postgres.observe()).data).toMatchObject({
        mark: { incarnation: "two", claim: { version: 5 }, lastDocument: { version: 6, json: '{"generation":2}' } },
      });
      await act(b, { kind: "mark-claim", version: undefined });
      expect((await b.postgres.observe()).data).toMatchObject({ mark: { claim: undefined } });
    });

    it("refuses what its state does not allow, and shows the failure until one of its kind succeeds", async () => {
      const { failure } = await act(b, { kind: "copy", from: a.self, incarnation: "never" });
      expect(failure).toMatchObject({ action: "copy", count: 1 });
      expect((await b.postgres.observe()).data).toMatchObject({ mark: { incarnation: "two", incomplete: false } });
    });

    it("tells when the server has died by itself (T2)", async () => {
      let told = 0;
      const forget = a.postgres.onChange(() => told++);
      await a.kill();
      const seen = await until(a, "its end", ({ server }) => server.kind === "stopped");
      expect(seen).toMatchObject({ server: { how: "exited" }, data: { controlState: "production" } });
      expect(told).toBeGreaterThan(0);
      forget();
    });

    it("promotes to exactly the timeline asked for, with the gate as it was (T1)", async () => {
      await apply(b, { upstream: null });
      await until(b, "it stands", stands);
      const { end } = (await standby(b)).wal;
      await act(b, { kind: "promote", timeline: 4 });
      const seen = await primary(b);
      expect(seen.wal).toMatchObject({ timeline: 4, past: [{ timeline: 1, end }] });
      expect(seen.wal.end).toBeGreaterThanOrEqual(end);
      expect(seen.recoveredEnd).toBeGreaterThanOrEqual(end);
      expect(seen.settings).toMatchObject({ syncNames: [NOBODY], gate: "closed" });
    });

    it("stops cleanly with a shutdown record, or at once without (T3)", async () => {
      expect(await act(b, { kind: "stop", mode: "fast" })).toMatchObject({
        server: { kind: "stopped", how: "stopped" },
        data: { controlState: "shutdown", lineage: { timeline: 4, past: [{ timeline: 1 }] } },
      });
      await start(b, "primary");
      await primary(b);
      expect(await act(b, { kind: "stop", mode: "immediate" })).toMatchObject({
        server: { kind: "stopped", how: "stopped" },
        data: { controlState: "production" },
      });
    });

    it("bears a new name before its content is touched (R1)", async () => {
      const leaving = { fork: "two", end: { timeline: 3, lsn: 0x3000060n as Lsn } };
      await act(a, { kind: "renew-incarnation", incarnation: "three", leaving });
      expect((await a.postgres.observe()).data).toMatchObject({
        mark: { incarnation: "three", source: undefined, leaving },
      });
    });

    it("reports what it saw last", async () => {
      await start(b, "primary", { syncNames: [], gate: "open" });
      await primary(b);
      expect(await b.postgres.report()).toMatchObject({
        healthy: true,
        state: "primary",
        gate: "open",
        timeline: 4,
        syncNames: [],
      });
    });
  });
}
