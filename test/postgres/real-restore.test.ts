// Putting a peer's data back to a snapshot (O2) by the real server, on plain folders: where it ends, what is kept, and that it is never half done.

import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Wal } from "../../src/base/lineage.ts";
import type { RestoreEnd, RestoreTarget } from "../../src/postgres/restore.ts";
import { findBinaries } from "../../src/postgres/real/binaries.ts";
import type { PostgresStorage } from "../../src/postgres/real/dataset.ts";
import { KeptForks } from "../../src/postgres/real/kept-forks.ts";
import { markIn } from "../../src/postgres/real/mark.ts";
import { postgresProcessesOn } from "../../src/postgres/real/processes.ts";
import { startRecovered } from "../../src/postgres/real/recovered-server.ts";
import { PeerRestores } from "../../src/postgres/real/restore-data.ts";
import { newestBeforeFork } from "../../src/snapshots/choice.ts";
import { directoryStorage } from "../../src/storage/directory/driver.ts";
import type { Snapshot, Storage } from "../../src/storage/port.ts";
import { realClock, realTimers } from "../../src/world/real/clock.ts";
import type { Log } from "../../src/world/port.ts";
import {
  becomeUnprivileged,
  follow,
  leftOfAnother,
  PostgresBench,
  startPrimary,
  startStandby,
  type TestPeer,
} from "../support/postgres.ts";

const DATASET = "tank/pg";
const quiet: Log = { trace() {}, debug() {}, info() {}, warn() {}, error() {}, child: () => quiet };

describe("putting a peer's data back to a snapshot (O2)", { timeout: 300_000 }, () => {
  let bench: PostgresBench;
  let storage: Storage;
  /** The shard's primary, and an async on storage that snapshots. */
  let primary: TestPeer;
  let peer: TestPeer;
  let kept: PostgresStorage;

  beforeEach(async () => {
    becomeUnprivileged();
    bench = await PostgresBench.open();
    const root = join(bench.folder, "pool");
    await mkdir(root);
    storage = directoryStorage({ root });
    kept = { storage, dataset: DATASET, chooseSnapshot: newestBeforeFork };
    primary = await bench.peer("a");
    peer = await bench.peer("c", { dataDir: join(root, DATASET), socketDir: join(bench.folder, "s") }, kept);
    await startPrimary(primary);
    await primary.sql("create table t as select generate_series(1, 1000) as n");
    await startStandby(peer, primary, "old");
  });
  afterEach(() => bench.cleanUp());

  const restores = (using: Storage = storage) =>
    new PeerRestores({
      config: peer.config,
      storage: { ...kept, storage: using },
      clock: realClock,
      timers: realTimers,
      log: quiet,
      hold: () => Promise.resolve({ release: () => undefined }),
    });
  const onStep = () => undefined;
  const tryIt = (snapshot: Snapshot, to?: RestoreTarget) => restores().try({ snapshot, to, limitMs: 100_000, onStep });
  const put = (
    snapshot: Snapshot,
    end: RestoreEnd,
    {
      using = storage,
      incarnation = "new",
      forksMax = 100,
      to,
    }: { using?: Storage; incarnation?: string; forksMax?: number; to?: RestoreTarget } = {},
  ) => restores(using).putBack({ snapshot, to, end, incarnation, forksMax, onStep });

  async function insert(from: number, to: number): Promise<Wal> {
    await primary.sql(`insert into t select generate_series(${from}, ${to})`);
    const { wal } = await primary.primary();
    await peer.until("it has it", ({ server }) => server.kind === "standby" && server.wal.end >= wal.end);
    return wal;
  }

  /** As storage with instants would show a server that runs: one that crashed. It follows again afterwards. */
  async function snapshot(): Promise<Snapshot> {
    await peer.perform({ kind: "stop", mode: "immediate" });
    const taken = await storage.snapshot({ dataset: DATASET, name: "1760000000000", properties: {} });
    await follow(peer, primary);
    return taken;
  }

  async function rows(): Promise<unknown> {
    return (await peer.sql("select count(*)::int as n, max(n) as top from t"))[0];
  }

  /** Starts as its sitter would after the document was written. Returns where its server's WAL ends before it is promoted. */
  async function takeOver(timeline: number): Promise<{ timeline: number; end: bigint }> {
    peer = peer.reopen();
    await follow(peer, undefined, timeline);
    const { server } = await peer.until(
      "all is replayed",
      (seen) => seen.server.kind === "standby" && seen.server.caughtUpLocally,
    );
    const { wal } = server as { wal: Wal };
    await peer.perform({ kind: "promote", timeline });
    await peer.primary();
    await peer.apply({ syncNames: [], gate: "open" });
    return { timeline: wal.timeline, end: wal.end };
  }

  async function datasets(): Promise<readonly string[]> {
    return (await storage.children("tank")).map(({ name }) => name).sort();
  }

  it("ends exactly where the try ended, under the new incarnation; what was there is kept whole, with all that came since", async () => {
    await insert(1001, 1500);
    // What a snapshot brings along.
    await peer.sql("select pg_create_physical_replication_slot('left')");
    const taken = await snapshot();
    await insert(1501, 3000);
    // Beside the server that runs.
    const end = await tryIt(taken);
    expect(end).toMatchObject({ timeline: 1, systemIdentifier: expect.stringMatching(/^\d+$/) as string });
    expect(Math.abs((end.lastCommitWallMs ?? 0) - realClock.wall())).toBeLessThan(600_000);
    expect(await datasets()).toEqual([DATASET]);
    expect(await rows()).toEqual({ n: 3000, top: 3000 });
    await expect(put(taken, end)).rejects.toMatchObject({
      code: "RESTORE_REFUSED",
      message: /PostgreSQL runs/ as never,
    });

    await peer.perform({ kind: "stop", mode: "fast" });
    expect(await put(taken, end)).toEqual({ kept: `${DATASET}-fork-old` });
    expect(await datasets()).toEqual([DATASET, `${DATASET}-fork-old`]);
    expect(await leftOfAnother(peer)).toEqual([]);
    expect(await peer.reopen().observe()).toMatchObject({
      data: { kind: "present", standbySignal: true, mark: { incarnation: "new", incomplete: false, shard: "test" } },
      forks: ["old"],
    });
    expect(await takeOver(7)).toEqual({ timeline: end.timeline, end: end.lsn });
    expect(await rows()).toEqual({ n: 1500, top: 1500 });
    expect(await peer.sql("select slot_name from pg_replication_slots")).toEqual([]);
    expect((await peer.primary()).wal).toMatchObject({ timeline: 7, past: [{ timeline: 1, end: end.lsn }] });
    await peer.sql("insert into t values (-1)");
    expect((await primary.sql("select count(*)::int as n from t"))[0]).toEqual({ n: 3000 });
    // What was lost to the shard can be told.
    const { postgres } = await findBinaries({ binDir: peer.config.binDir, major: undefined });
    if (existsSync(join(dirname(postgres), "pg_waldump"))) {
      const forks = new KeptForks({ config: peer.config, storage: kept });
      expect(await forks.content("old")).toMatchObject({ timeline: 1, fork: end.lsn, commits: [expect.anything()] });
    }
  });

  it("ends the server that a command has left behind that was killed while it tried", async () => {
    const taken = await snapshot();
    const end = await tryIt(taken);
    const look = `${DATASET}-look`;
    await storage.clone(taken, look);
    const { folder } = await storage.mount(look);
    await startRecovered({
      folder,
      config: peer.config,
      port: 5432,
      hba: ["local all all trust"],
      settings: {},
      detached: false,
      limitMs: 100_000,
      onStep,
      clock: realClock,
      timers: realTimers,
    });
    expect(await postgresProcessesOn(folder)).not.toEqual([]);
    expect(await tryIt(taken)).toEqual(end);
    expect(await postgresProcessesOn(folder)).toEqual([]);
    expect(await datasets()).toEqual([DATASET]);
    expect(await rows()).toEqual({ n: 1000, top: 1000 });
  });

  it("without a document it follows the shard again, from where the snapshot ends", async () => {
    const taken = await snapshot();
    await insert(1001, 2000);
    const end = await tryIt(taken);
    await peer.perform({ kind: "stop", mode: "fast" });
    await put(taken, end);
    peer = peer.reopen();
    await follow(peer, primary);
    await insert(2001, 2500);
    expect(await rows()).toEqual({ n: 2500, top: 2500 });
  });

  it("goes on to a WAL position or a time by the WAL that is still there, and says where that does not reach", async () => {
    const taken = await snapshot();
    const { end: middle } = await insert(1001, 2000);
    const [{ now } = {}] = await primary.sql("select (extract(epoch from clock_timestamp()) * 1000)::bigint as now");
    await primary.sql("select pg_sleep(0.05)");
    await primary.sql("select pg_switch_wal()");
    const { end: last } = await insert(2001, 4000);
    const byTime = await tryIt(taken, { kind: "time", wallMs: Number(now) });
    // The next commit's record is where it stops; nothing lies between but what is no commit.
    expect(byTime.lsn).toBeGreaterThanOrEqual(middle);
    expect(byTime.lsn).toBeLessThan(last);
    const byPosition = await tryIt(taken, { kind: "lsn", lsn: middle });
    expect(byPosition.lsn).toBeGreaterThanOrEqual(middle);
    const beyond = { kind: "lsn", lsn: (last + 0x10000000n) as typeof last } as const;
    await expect(tryIt(taken, beyond)).rejects.toMatchObject({ code: "RESTORE_NOT_REACHED" });
    await expect(tryIt(taken, { kind: "time", wallMs: realClock.wall() + 3_600_000 })).rejects.toMatchObject({
      code: "RESTORE_NOT_REACHED",
    });
    expect(await datasets()).toEqual([DATASET]);
    await peer.perform({ kind: "stop", mode: "fast" });
    await put(taken, byTime, { to: { kind: "time", wallMs: Number(now) } });
    expect(await takeOver(2)).toEqual({ timeline: 1, end: byTime.lsn });
    expect(await rows()).toEqual({ n: 2000, top: 2000 });
  });

  it("ends on the timeline that the snapshot shows, and goes on from there to a later one by the WAL that is there", async () => {
    const early = await snapshot();
    await insert(1001, 1500);
    await peer.perform({ kind: "stop", mode: "fast" });
    await primary.perform({ kind: "stop", mode: "fast" });
    await follow(primary, undefined);
    await primary.standby();
    // Number 2 was used elsewhere.
    await primary.perform({ kind: "promote", timeline: 3 });
    await primary.primary();
    await primary.apply({ syncNames: [], gate: "open" });
    await follow(peer, primary);
    const { end: middle } = await insert(1501, 2000);
    await insert(2001, 3000);
    await peer.perform({ kind: "stop", mode: "immediate" });
    const late = await storage.snapshot({ dataset: DATASET, name: "1760000000001", properties: {} });
    const [first, second] = [await tryIt(early), await tryIt(late)];
    expect([first.timeline, second.timeline]).toEqual([1, 3]);
    expect(second.lsn).toBeGreaterThan(middle);
    const to = { kind: "lsn", lsn: middle } as const;
    const across = await tryIt(early, to);
    expect(across.timeline).toBe(3);
    expect(across.lsn).toBeGreaterThanOrEqual(middle);
    expect(across.lsn).toBeLessThan(second.lsn);
    await put(early, across, { to });
    expect(await takeOver(5)).toEqual({ timeline: 3, end: across.lsn });
    expect(await rows()).toEqual({ n: 2000, top: 2000 });
    const { past } = (await peer.primary()).wal;
    expect(past.map(({ timeline }) => timeline)).toEqual([1, 3]);
    // And back to the first timeline, from what is there now.
    await peer.perform({ kind: "stop", mode: "fast" });
    await put(early, first, { incarnation: "newer" });
    expect(await takeOver(6)).toEqual({ timeline: 1, end: first.lsn });
    expect(await rows()).toEqual({ n: 1000, top: 1000 });
  });

  it("wherever it is killed, what was there is whole, or the rest is done by who comes next (I5)", async () => {
    const taken = await snapshot();
    await insert(1001, 2000);
    const end = await tryIt(taken);
    await peer.perform({ kind: "stop", mode: "fast" });
    const changing = ["clone", "mount", "unmount", "rename", "promote", "destroyDataset"];
    const seen = new Set<string>();
    for (let calls = 0, done = false; !done && calls < 40; calls++) {
      const before = (await markIn(peer.config.dataDir))?.incarnation ?? "";
      const incarnation = `new-${calls}`;
      let left = calls;
      const killed = new Proxy(storage, {
        get(target, name: keyof Storage) {
          const method = target[name] as (...args: unknown[]) => unknown;
          if (typeof method !== "function") return method;
          return (...args: unknown[]) =>
            !changing.includes(name) || left-- > 0
              ? method.apply(target, args)
              : Promise.reject(new Error(`killed before ${name}`));
        },
      });
      const error = await put(taken, end, { using: killed, incarnation }).catch((thrown: Error) => thrown);
      done = !(error instanceof Error);
      if (error instanceof Error) seen.add(error.message);
      // Another process, as the sitter is: it ends what was begun.
      const found = await peer.reopen().observe();
      expect(found.data, `after ${calls} calls`).toMatchObject({ kind: "present", mark: { incomplete: false } });
      const mark = await markIn(peer.config.dataDir);
      const swapped = (await datasets()).includes(`${DATASET}-fork-${before}`);
      expect([before, incarnation]).toContain(mark?.incarnation);
      // Data of the snapshot's never bears a name that other data had.
      if (swapped) expect(mark?.incarnation).toBe(incarnation);
      if (swapped) {
        const aside = `${DATASET}-fork-${before}`;
        expect(await readdir((await storage.mount(aside)).folder)).toContain("PG_VERSION");
        await storage.unmount(aside);
      }
      if (calls === 0) expect(swapped).toBe(false);
    }
    expect(seen.size).toBeGreaterThan(4);
    expect([...seen].join("\n")).toMatch(/before clone[^]*before rename/);
    // All that was ever in its place is still there: the first with all rows.
    const names = await datasets();
    expect(names).toContain(`${DATASET}-fork-old`);
    expect(names.filter((name) => /look|staged/.test(name))).toEqual([]);
    await takeOver(9);
    expect(await rows()).toEqual({ n: 1000, top: 1000 });
    await peer.perform({ kind: "stop", mode: "fast" });
    await storage.rename(DATASET, "tank/over");
    await storage.rename(`${DATASET}-fork-old`, DATASET);
    await storage.mount(DATASET);
    peer = peer.reopen();
    await follow(peer, primary);
    expect(await rows()).toEqual({ n: 2000, top: 2000 });
  });

  it("touches nothing where it can't be: no room for a fork, a snapshot that does not start, data of another shard, a copy that has not ended", async () => {
    const taken = await snapshot();
    const end = await tryIt(taken);
    await peer.perform({ kind: "stop", mode: "fast" });
    const path = join(peer.config.dataDir, "manatee.json");
    const mark = JSON.parse(await readFile(path, "utf8")) as Record<string, unknown>;
    const untouched = async () => {
      expect(await datasets()).toEqual([DATASET]);
      expect((await markIn(peer.config.dataDir))?.incarnation).toBe("old");
      expect(await postgresProcessesOn(peer.config.dataDir.replace(/pg$/, "pg-look"))).toEqual([]);
    };
    await expect(put(taken, end, { forksMax: 0 })).rejects.toThrow(/can't be kept: 0 forks are kept already/);
    await untouched();
    await expect(put(taken, { ...end, systemIdentifier: "1" })).rejects.toThrow(/not what was tried/);
    await untouched();
    for (const [change, message] of [
      [{ shard: "another" }, /is of the shard test/],
      [{ incomplete: true }, /has not ended/],
      [{ claim: { version: 3 } }, /claim of this peer/],
      [{ founding: true }, /in no document/],
    ] as const) {
      await writeFile(path, JSON.stringify({ ...mark, ...change }));
      await expect(put(taken, end)).rejects.toThrow(message);
      await untouched();
    }
    await writeFile(path, JSON.stringify(mark));
    const torn = join(peer.config.dataDir, "pg_wal");
    execFileSync("cp", ["-a", torn, join(bench.folder, "wal")]);
    for (const name of await readdir(torn)) await rm(join(torn, name), { recursive: true });
    const broken = await storage.snapshot({ dataset: DATASET, name: "1760000000001", properties: {} });
    await expect(tryIt(broken)).rejects.toMatchObject({ code: "CLONE_NOT_STARTED" });
    await untouched();
    await rm(torn, { recursive: true });
    execFileSync("cp", ["-a", join(bench.folder, "wal"), torn]);
    await follow(peer, primary);
    expect(await rows()).toEqual({ n: 1000, top: 1000 });
  });
});
