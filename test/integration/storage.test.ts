// Whole shards on a real ZFS, and a Btrfs: peers are seeded from snapshots, and come back by rolling back. And on plain folders, where they do neither.

import { Client } from "pg";
import { describe, expect } from "vitest";
import { forkPrimary } from "../support/fork.ts";
import type { TestPeer } from "../support/peer.ts";
import { listProcesses } from "../support/processes.ts";
import { scenario } from "../support/scenario.ts";
import type { TestShard } from "../support/shard.ts";
import { noBtrfs } from "../support/btrfs-disk.ts";
import { noZfs } from "../support/zfs-pool.ts";

async function saysOf(peer: TestPeer, message: string): Promise<number> {
  return (await peer.logEntries()).filter(({ msg }) => msg === message).length;
}

async function jobsOf(peer: TestPeer): Promise<string> {
  return (await peer.logEntries())
    .filter(({ msg, job }) => msg === "job ended" && job !== "start" && job !== "stop")
    .map(({ job }) => String(job))
    .join(" ");
}

/** Nothing in the making is left, and nothing is held but kept forks. */
async function expectTidy(shard: TestShard): Promise<void> {
  await expect
    .poll(() => shard.storage.datasets(), { timeout: 120_000 })
    .not.toContainEqual(expect.stringMatching(/-(staged|verify)$/));
  expect((await shard.storage.holds()).filter((tag) => tag !== "manatee-sitter")).toEqual([]);
}

/** Peers are seeded from a snapshot; a forked former primary rolls back, and keeps its fork. */
async function seedThenRollBack(shard: TestShard): Promise<void> {
  const founder = await shard.primary();
  for (const peer of shard.peers.filter((one) => one !== founder)) {
    expect(await saysOf(peer, "snapshot received"), peer.name).toBe(1);
    expect(await saysOf(peer, "copied by base backup instead of a snapshot"), peer.name).toBe(0);
  }
  await shard.storage.startSnapshotter(founder, { pollInterval: 2_000, verification: { enabled: false } });
  await shard.writer();
  await expect
    .poll(async () => (await shard.storage.serviceLog(founder, "manatee-snapshotter")).includes('"snapshot taken"'), {
      timeout: 180_000,
    })
    .toBe(true);
  const victim = await forkPrimary(shard);
  expect(victim).toBe(founder);
  victim.startSitter();
  await shard.waitForChain();
  expect(await jobsOf(victim)).toMatch(/roll-back/);
  expect(await jobsOf(victim)).not.toMatch(/copy|rewind/);
  expect(await shard.query(victim, "SELECT n FROM forked")).toEqual([]);
  expect(await shard.storage.datasets()).toContainEqual(
    expect.stringContaining(`${shard.storage.dataset(victim)}-fork-`),
  );
  await shard.check();
  await expectTidy(shard);
}

/** A clone takes writes that the shard never sees, and goes with its time, also where the snapshotter was killed meanwhile. */
async function cloneAndEnd(shard: TestShard): Promise<void> {
  const primary = await shard.primary();
  await shard.query(primary, "CREATE TABLE seen AS SELECT generate_series(1, 1000) AS n");
  await shard.writer();
  const peer = await shard.async();
  await expect
    .poll(() => shard.query(peer, "SELECT count(*)::int AS n FROM seen").catch(() => []))
    .toEqual([{ n: 1000 }]);
  await shard.storage.startSnapshotter(peer, { verification: { enabled: false } });
  const adm = (...args: readonly string[]) =>
    shard.tool("manatee-adm", ["clone", ...args, "-f", peer.configFile, "-o", "json"], 200_000);
  const json = async <T>(...args: readonly string[]): Promise<T> => {
    const { status, stdout, stderr } = await adm(...args);
    expect(status, stderr).toBe(0);
    return JSON.parse(stdout) as T;
  };
  const one = await json<{ port: number; socket: string; snapshot: string }>("now", "--ttl", "1h");
  expect(await askClone(one, "INSERT INTO seen VALUES (-1) RETURNING n")).toEqual([{ n: -1 }]);
  expect(await askClone(one, "SELECT count(*)::int AS n FROM seen")).toEqual([{ n: 1001 }]);
  expect(await json("--list")).toMatchObject([{ port: String(one.port), state: "running", snapshot: one.snapshot }]);
  expect(await shard.storage.holds()).toEqual([`manatee-clone-${one.port}`]);
  // Nobody is there when its time is over.
  await shard.storage.kill(peer, "manatee-snapshotter");
  const two = await json<{ port: number; socket: string }>(one.snapshot, "--ttl", "1s");
  expect(await askClone(two, "SELECT count(*)::int AS n FROM seen")).toEqual([{ n: 1000 }]);
  await shard.storage.startSnapshotter(peer, { verification: { enabled: false } });
  const ofTwo = `${shard.storage.dataset(peer)}-clone-${two.port}`;
  await expect.poll(() => shard.storage.datasets(), { timeout: 120_000 }).not.toContain(ofTwo);
  expect(await askClone(one, "SELECT min(n) AS n FROM seen")).toEqual([{ n: -1 }]);
  expect(await json("--drop", String(one.port), "-y")).toEqual({ dropped: String(one.port) });
  for (const gone of [one, two]) await expect(askClone(gone, "SELECT 1")).rejects.toThrow();
  expect(await shard.storage.datasets()).not.toContainEqual(expect.stringContaining("-clone-"));
  const places = [one, two].map(({ port }) => `-clone-${port}`);
  expect(listProcesses().filter(({ cwd }) => places.some((place) => cwd?.includes(place)))).toEqual([]);
  expect(await shard.query(primary, "SELECT count(*)::int AS n FROM seen")).toEqual([{ n: 1000 }]);
  expect((await shard.state()).primary.id).toBe(primary.id);
  await shard.check();
  await expectTidy(shard);
}

interface Restored {
  /** As it was before. */
  readonly primary: TestPeer;
  readonly peer: TestPeer;
}

/** A table is dropped, and the shard put back to a snapshot of its async's that has it, or to a point between the two. The primary runs meanwhile, and is told. */
async function restoreShard(shard: TestShard, to: "snapshot" | "point"): Promise<Restored> {
  const [primary, peer] = [await shard.primary(), await shard.async()];
  await shard.writer();
  await shard.query(primary, "CREATE TABLE seen AS SELECT generate_series(1, 1000) AS n");
  const on = (text: string) => shard.query<{ n: number | null }>(peer, text).catch(() => []);
  await expect.poll(() => on("SELECT count(*)::int AS n FROM seen"), { timeout: 60_000 }).toEqual([{ n: 1000 }]);
  const now = await shard.tool("manatee-adm", ["snapshot", "now", "-f", peer.configFile, "-j"]);
  expect(now.status, now.stderr).toBe(0);
  const { name, properties } = JSON.parse(now.stdout) as { name: string; properties: Record<string, string> };
  await shard.query(primary, "INSERT INTO seen VALUES (1001)");
  const [{ point } = { point: "" }] = await shard.query<{ point: string }>(
    primary,
    "SELECT pg_current_wal_flush_lsn()::text AS point",
  );
  const rows = to === "point" ? 1001 : 1000;
  await shard.query(primary, "DROP TABLE seen");
  await shard.query(primary, "CREATE TABLE later AS SELECT 1 AS n");
  await expect.poll(() => on("SELECT n FROM later"), { timeout: 60_000 }).toEqual([{ n: 1 }]);
  const before = await shard.state();
  const restore = (...args: readonly string[]) =>
    shard.tool(
      "manatee-adm",
      ["restore", name, "-f", peer.configFile, "-o", "json", ...(to === "point" ? ["--to", point] : []), ...args],
      300_000,
    );

  const dry = await restore("--dry-run");
  expect(dry.status, dry.stderr).toBe(0);
  expect(JSON.parse(dry.stdout)).toMatchObject({ written: false, kept: null, generation: before.generation + 1 });
  expect((await restore("-y")).stderr).toContain("this peer's sitter runs");
  await peer.stopSitter();
  expect((await restore("-y")).stderr).toMatch(/the shard runs: .*RESTORE_REFUSED/s);
  expect((await shard.state()).generation).toBe(before.generation);
  expect(await shard.storage.datasets()).not.toContainEqual(expect.stringMatching(/-(look|staged|fork-.*)$/));

  const { status, stdout, stderr } = await restore("-y", "--while-running");
  expect(status, stderr).toBe(0);
  const done = JSON.parse(stdout) as { kept: string; lsn: string; lastCommit: string };
  expect(done).toMatchObject({ written: true, refused: [], generation: before.generation + 1 });
  const position = (lsn: string) => Number.parseInt(lsn.split("/")[1] ?? "", 16);
  if (to === "point") expect(position(done.lsn)).toBeGreaterThanOrEqual(position(point));
  else expect(position(done.lsn)).toBeLessThanOrEqual(position(properties["manatee:lsn"] ?? ""));
  expect(Date.parse(done.lastCommit)).toBeGreaterThan(0);
  expect(await shard.storage.datasets()).toContain(done.kept);
  peer.startSitter();
  await shard.waitFor(
    "it is open to clients, and the others keep what they hold",
    ({ state, reports }) =>
      state?.primary.id === peer.id &&
      state.provisional !== true &&
      reports[peer.name]?.postgres.gate === "open" &&
      reports[primary.name]?.role === "deposed" &&
      reports[primary.name]?.postgres.state === "standby",
    120_000,
  );
  expect(await shard.query(peer, "SELECT count(*)::int AS n, max(n) AS top FROM seen")).toEqual([
    { n: rows, top: rows },
  ]);
  expect(await shard.query(peer, "SELECT to_regclass('later')::text AS n")).toEqual([{ n: null }]);
  const state = await shard.state();
  expect(state).toMatchObject({ sync: null, oneNodeWriteMode: true, generation: before.generation + 1 });
  expect(new Set(state.deposed.map(({ id }) => id))).toEqual(new Set([before.primary.id, before.sync?.id]));
  return { primary, peer };
}

/** The others come after it, and keep what they held. */
async function restoreAndGoOn(shard: TestShard): Promise<void> {
  const { primary, peer } = await restoreShard(shard, "snapshot");
  await shard.query(peer, "INSERT INTO seen VALUES (-1)");
  const off = await shard.adm("set-onwm", "-m", "off", "-y");
  expect(off.status, off.stderr).toBe(0);
  await shard.waitForChain();
  expect((await shard.state()).primary.id).toBe(peer.id);
  for (const each of shard.peers)
    await expect
      .poll(() => shard.query(each, "SELECT count(*)::int AS n FROM seen"), { timeout: 60_000, message: each.name })
      .toEqual([{ n: 1001 }]);
  for (const each of shard.peers) expect((await each.report())?.postgres.forksKept, each.name).toBeGreaterThan(0);
  const forks = await shard.tool("manatee-adm", ["diverged", "-f", primary.configFile, "-o", "json"]);
  const [fork] = JSON.parse(forks.stdout) as { name: string }[];
  const held = await shard.tool("manatee-adm", [
    "diverged",
    "-f",
    primary.configFile,
    "-t",
    fork?.name ?? "",
    "-o",
    "json",
  ]);
  expect(held.status, held.stderr).toBe(0);
  // The table that was dropped, and the one that was made.
  expect((JSON.parse(held.stdout) as { commits: unknown[] }).commits.length).toBeGreaterThanOrEqual(2);
  await shard.checkEqual();
  await expectTidy(shard);
}

/** It was the wrong point in time: the former primary takes over with all that it holds, and nothing was lost. */
async function restoreAndGoBack(shard: TestShard): Promise<void> {
  const { primary, peer } = await restoreShard(shard, "point");
  await peer.stopSitter();
  const back = await shard.adm("takeover", "--accept-loss", "-n", primary.name, "-y");
  expect(back.status, back.stderr).toBe(0);
  expect(await shard.query(primary, "SELECT n FROM later")).toEqual([{ n: 1 }]);
  expect(await shard.query(primary, "SELECT to_regclass('seen')::text AS n")).toEqual([{ n: null }]);
  peer.startSitter();
  if ((await shard.state()).oneNodeWriteMode === true) {
    const off = await shard.adm("set-onwm", "-m", "off", "-y");
    expect(off.status, off.stderr).toBe(0);
  }
  if ((await shard.state()).freeze !== undefined) {
    const unfrozen = await shard.adm("unfreeze");
    expect(unfrozen.status, unfrozen.stderr).toBe(0);
  }
  await shard.waitForChain();
  expect((await shard.state()).primary.id).toBe(primary.id);
  for (const each of shard.peers)
    await expect
      .poll(() => shard.query(each, "SELECT n FROM later").catch(() => []), { timeout: 60_000, message: each.name })
      .toEqual([{ n: 1 }]);
  await shard.checkEqual();
  await expectTidy(shard);
}

/** By its socket, as the superuser. */
async function askClone({ port, socket }: { port: number; socket: string }, text: string): Promise<readonly unknown[]> {
  const client = new Client({ host: socket, port, user: "postgres", database: "postgres" });
  client.on("error", () => undefined);
  await client.connect();
  try {
    return (await client.query(text)).rows as unknown[];
  } finally {
    await client.end();
  }
}

describe.skipIf(noZfs !== undefined)(noZfs ?? "on a real ZFS", () => {
  scenario(
    "O2: the shard goes back to a snapshot, and the other peers after it when they are told (ZFS)",
    { zfsMegabytes: 3000 },
    restoreAndGoOn,
  );

  scenario(
    "a clone of an async takes writes that the shard never sees, and goes with its time (ZFS)",
    { zfsMegabytes: 2000 },
    cloneAndEnd,
  );

  scenario(
    "R1: peers are seeded from a snapshot; a forked former primary rolls back, and keeps its fork (ZFS)",
    { zfsMegabytes: 2000 },
    seedThenRollBack,
  );

  scenario(
    "A1: a fourth peer is seeded under load; sender and receiver are killed in the middle",
    { zfsMegabytes: 3000, peers: 4, started: 3 },
    async (shard) => {
      const [fourth] = shard.peers.slice(3) as [TestPeer];
      const chain = shard.peers.slice(0, 3);
      await shard.query(
        await shard.primary(),
        "CREATE TABLE load AS SELECT n, repeat(md5(n::text), 30) AS text FROM generate_series(1, 100000) n",
      );
      await shard.writer();
      const source = await shard.async();
      fourth.startSitter();
      await expect.poll(() => receives(fourth), { timeout: 180_000 }).toBe(true);
      await shard.zfs.kill(source, "manatee-backupserver");
      await shard.zfs.startBackupServer(source);
      await fourth.killSitter();
      fourth.startSitter();
      await shard.waitForChain();
      expect(await shard.query(fourth, "SELECT count(*)::int AS n FROM load")).toEqual([{ n: 100_000 }]);
      expect((await shard.state()).primary.id).toBe((await shard.primary()).id);
      await shard.check([...chain, fourth]);
      await expectTidy(shard);
    },
  );

  scenario(
    "snapshots of a peer that runs are verified, and without a backup server a peer is copied all the same",
    { zfsMegabytes: 2000 },
    async (shard) => {
      await shard.writer();
      const peer = await shard.async();
      await shard.zfs.startSnapshotter(peer, { pollInterval: 5_000 });
      const dataset = shard.zfs.dataset(peer);
      const verdict = async () => {
        const all = await shard.zfs.snapshots(dataset);
        return (await Promise.all(all.map((one) => shard.zfs.property(one, "manatee:verified")))).join("\n");
      };
      await expect.poll(verdict, { timeout: 240_000 }).toMatch(/passed \d+ started with .*checksums/);
      await shard.zfs.kill(peer, "manatee-snapshotter", "SIGTERM");
      for (const other of shard.peers) await shard.zfs.kill(other, "manatee-backupserver");
      await peer.crash();
      await shard.zfs.empty(peer);
      peer.startSitter();
      await shard.waitForChain();
      expect(await saysOf(peer, "copied by base backup instead of a snapshot")).toBeGreaterThan(0);
      await shard.check();
      await expectTidy(shard);
    },
  );
});

async function receives(peer: TestPeer): Promise<boolean> {
  const report = await peer.report();
  return /GB/.test(JSON.stringify(report?.decision ?? ""));
}

describe.skipIf(noBtrfs !== undefined)(noBtrfs ?? "on a real Btrfs", () => {
  scenario(
    "O2: the shard goes back to a snapshot, and the other peers after it when they are told (Btrfs)",
    { btrfsMegabytes: 3000 },
    restoreAndGoOn,
  );

  scenario(
    "O2: back from a point in time that was the wrong one, nothing is lost that was there before (Btrfs)",
    { btrfsMegabytes: 3000 },
    restoreAndGoBack,
  );

  scenario(
    "a clone of an async takes writes that the shard never sees, and goes with its time (Btrfs)",
    { btrfsMegabytes: 2000 },
    cloneAndEnd,
  );

  scenario(
    "R1: peers are seeded from a snapshot; a forked former primary rolls back, and keeps its fork (Btrfs)",
    { btrfsMegabytes: 3000 },
    seedThenRollBack,
  );
});

scenario(
  "R1: where snapshots show no one instant, none is taken of a running server: peers are copied and rewound, and a fork is kept as a snapshot",
  { directories: true },
  async (shard) => {
    const founder = await shard.primary();
    for (const peer of shard.peers.filter((one) => one !== founder)) {
      const said = (await peer.logEntries()).filter(({ msg }) => msg === "copied by base backup instead of a snapshot");
      expect(said.map(({ because }) => String(because)).join("\n"), peer.name).toContain("do not show one instant");
    }
    await shard.storage.startSnapshotter(founder, { pollInterval: 2_000, verification: { enabled: false } });
    await expect
      .poll(() => shard.storage.serviceLog(founder, "manatee-snapshotter"), { timeout: 180_000 })
      .toContain("SNAPSHOT_NOT_ATOMIC");
    await shard.storage.kill(founder, "manatee-snapshotter", "SIGTERM");
    await shard.writer();
    const victim = await forkPrimary(shard);
    victim.startSitter();
    await shard.waitForChain();
    expect(await jobsOf(victim)).toMatch(/rewind|copy/);
    // No snapshot serves a roll-back, which is tried first.
    expect(await shard.storage.datasets()).not.toContainEqual(expect.stringContaining("-fork-"));
    expect(await shard.query(victim, "SELECT n FROM forked")).toEqual([]);
    const kept = await shard.storage.storage.snapshots(shard.storage.dataset(victim));
    expect(kept).toMatchObject([{ name: expect.stringMatching(/^fork-/), holds: ["manatee-sitter"] }]);
    await shard.check();
    await expectTidy(shard);
  },
);
