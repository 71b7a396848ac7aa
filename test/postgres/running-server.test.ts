// P1: a server that has just started may not make commits wait yet. What its checkpointer shows decides; the answers here are such a server's.

import { describe, expect, it } from "vitest";
import type { PrimaryServer } from "../../src/cluster/observation.ts";
import type { Context } from "../../src/postgres/real/context.ts";
import { RunningServer } from "../../src/postgres/real/running-server.ts";
import type { SqlSession } from "../../src/postgres/real/sql.ts";
import { realClock, realTimers } from "../../src/world/real/clock.ts";
import { settingsWith } from "../support/postgres.ts";

/** What the checkpointer waits for, by pg_stat_activity. */
type WaitEvent = string | null;

/** A primary that answers what the question asks for; by default it requires a sync. */
class AnsweringPrimary {
  checkpointer: WaitEvent = null;
  syncNames = 'FIRST 1 ("tcp://sync")';
  readonly server: RunningServer;

  constructor() {
    const session = { query: () => Promise.resolve([{ answer: JSON.stringify(this.#answer()) }]) };
    const context = {
      config: { probeLimitMs: 1000, superuser: "postgres", replicationUser: "replicator" },
      places: { dataDir: "/nowhere" },
      local: { host: "/nowhere", port: 1, user: "postgres", database: "postgres" },
      clock: realClock,
      timers: realTimers,
      ask: <T>(question: (session: SqlSession) => Promise<T>) => question(session as unknown as SqlSession),
    } as unknown as Context;
    this.server = new RunningServer(context, { pid: 1, since: 0 });
  }

  async commitsWait(): Promise<boolean> {
    const seen = await this.server.observe({ cannotGoOn: undefined, cancelledWaits: 0, removedWal: undefined });
    expect(seen.kind).toBe("primary");
    return (seen as PrimaryServer).commitsWait;
  }

  #answer() {
    return {
      recovery: false,
      version: "15.18",
      system: "7300000000000000001",
      timeline: 1,
      flush: "0/3000060",
      segment_bytes: 16 * 1024 ** 2,
      checkpointer: this.checkpointer,
      clients: 0,
      sync_names: this.syncNames,
      loaded_at: "1",
      lag_seconds: 0,
    };
  }
}

describe("commits of a server that has just started (P1)", () => {
  it.each<[string, WaitEvent]>([
    ["is not there yet, or waits for nothing", null],
    ["writes a checkpoint of the start", "DataFileFlush"],
    ["syncs what it wrote", "DataFileSync"],
    ["waits for a lock", "ControlFile"],
  ])("are not known to wait while its checkpointer %s", async (_, checkpointer) => {
    const primary = new AnsweringPrimary();
    primary.checkpointer = checkpointer;
    expect(await primary.commitsWait()).toBe(false);
    expect(await primary.commitsWait()).toBe(false);
  });

  it.each(["CheckpointerMain", "CheckpointWriteDelay"])(
    "wait from when its checkpointer was seen in %s, which it enters after it has taken in its list, and for good",
    async (checkpointer) => {
      const primary = new AnsweringPrimary();
      expect(await primary.commitsWait()).toBe(false);
      primary.checkpointer = checkpointer;
      expect(await primary.commitsWait()).toBe(true);
      primary.checkpointer = "DataFileSync";
      expect(await primary.commitsWait()).toBe(true);
    },
  );

  it("wait no more for certain where an empty list was replaced, until a checkpoint has passed (S1, O1)", async () => {
    const primary = new AnsweringPrimary();
    primary.checkpointer = "CheckpointerMain";
    primary.syncNames = "";
    expect(await primary.commitsWait()).toBe(true);
    primary.server.settingsApplied(settingsWith({ syncNames: ["tcp://sync"] }));
    expect(await primary.commitsWait()).toBe(false);
    primary.server.markerWritten({ token: "m", lsn: 1n as never, checkpointed: false });
    expect(await primary.commitsWait()).toBe(false);
    primary.server.markerWritten({ token: "n", lsn: 2n as never, checkpointed: true });
    expect(await primary.commitsWait()).toBe(true);
  });
});
