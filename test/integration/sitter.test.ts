// A sitter that dies or is restarted, while its PostgreSQL goes on: nobody should notice.

import { execFile } from "node:child_process";
import { appendFile, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { connect } from "../support/finals.ts";
import type { TestPeer } from "../support/peer.ts";
import { signal } from "../support/processes.ts";
import { currentRuntime } from "../support/runtime.ts";
import { giveAway, runAs } from "../support/unprivileged.ts";
import { expectNoOutage, scenario } from "../support/scenario.ts";
import { LONG_MS, type TestShard } from "../support/shard.ts";

type Role = "primary" | "sync" | "async";

async function peerOf(shard: TestShard, role: Role) {
  return role === "primary" ? shard.primary() : role === "sync" ? shard.sync() : shard.async();
}

for (const role of ["primary", "sync", "async"] as const)
  scenario(
    `SIGKILL of the sitter of the ${role} alone: writes go on, and restarted within the session it keeps its place and its PostgreSQL`,
    { sessionTimeoutMs: 6000, on: role === "primary" ? "everywhere" : "main" },
    async (shard) => {
      await shard.writer();
      const before = await shard.state();
      const peer = await peerOf(shard, role);
      const postmaster = await peer.postmasterPid();
      const since = shard.history.now();
      await peer.killSitter();
      await shard.waitForWrites(20);
      peer.startSitter();
      await shard.waitFor(
        "the new sitter leads on",
        ({ reports }) => reports[peer.name]?.role === role && reports[peer.name]?.postgres.healthy === true,
      );
      await shard.waitForChain();
      await shard.waitForWrites(20);
      expectNoOutage(shard, { since });
      const after = await shard.state();
      expect(after.generation).toBe(before.generation);
      expect(after.primary.id).toBe(before.primary.id);
      expect(after.async.map(({ id }) => id)).toEqual(before.async.map(({ id }) => id));
      expect(await peer.postmasterPid(), "PostgreSQL was adopted, not restarted").toBe(postmaster);
      await shard.check();
    },
  );

scenario("D1: a primary whose sitter stays dead goes on: its WAL flows, so it is not gone", {}, async (shard) => {
  await shard.writer();
  const before = await shard.state();
  const primary = await shard.primary();
  const since = shard.history.now();
  await primary.killSitter();
  await shard.waitFor("its election node is gone", ({ present }) => !present.includes(primary.id), 30_000);
  await shard.waitForWrites(200);
  expectNoOutage(shard, { since });
  expect((await shard.state()).generation).toBe(before.generation);
  primary.startSitter();
  await shard.waitForChain();
  expect((await shard.state()).primary.id).toBe(before.primary.id);
  await shard.check();
});

scenario(
  "the sitters are killed and restarted one after the other under load, three rounds, without an interruption",
  { sessionTimeoutMs: 8000 },
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const since = shard.history.now();
    for (let round = 0; round < 3; round++)
      for (const peer of shard.peers) {
        await peer.killSitter();
        peer.startSitter();
        await shard.waitFor(
          `the sitter of ${peer.name} answers again`,
          ({ reports }) => reports[peer.name]?.postgres.healthy === true,
        );
      }
    await shard.waitForWrites(20);
    expectNoOutage(shard, { since });
    await shard.waitForChain();
    expect((await shard.state()).primary.id).toBe(before.primary.id);
    await shard.check();
  },
);

scenario(
  "SIGTERM of the primary's sitter leaves in order: the sync takes over, nothing of it is left running",
  {},
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const primary = await shard.primary();
    await primary.stopSitter();
    await shard.waitFor("nothing of it runs", () => primary.leftovers().length === 0);
    await shard.waitFor("the sync has taken over", ({ state }) => state?.primary.id === before.sync?.id);
    await shard.waitForWrites(20);
    primary.startSitter();
    await shard.waitForChain();
    await shard.check();
  },
);

test("a sitter whose address this machine has not refuses to start, names the way out, and has begun nothing", async () => {
  const folder = await mkdtemp(join(tmpdir(), "manatee-address-"));
  try {
    giveAway(folder);
    const configFile = join(folder, "sitter.json");
    const config = {
      // Of the addresses for documentation (RFC 5737).
      ip: "192.0.2.1",
      zoneId: "peer1",
      shardPath: "/manatee/1",
      store: { kind: "local", directory: join(folder, "store") },
      postgres: { dataDir: join(folder, "data") },
    };
    await writeFile(configFile, JSON.stringify(config));
    giveAway(configFile);
    const { status, log } = await runToItsEnd(configFile);
    expect(status).toBe(1);
    expect(JSON.parse(log.trim())).toMatchObject({
      msg: "sitter ends",
      code: "STATUS_PORT_UNUSABLE",
      error: expect.stringContaining("cannot listen on 192.0.2.1:5433") as string,
      hint: expect.stringContaining("Set ip to an address of this machine, which 192.0.2.1 is not") as string,
    });
    // No database was made, no store started, and no lock is left.
    expect((await readdir(folder)).sort()).toEqual(["data.manatee", "sitter.json", "store"]);
    for (const made of ["data.manatee", "store"]) expect(await readdir(join(folder, made))).toEqual([]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

function runToItsEnd(configFile: string): Promise<{ status: number; log: string }> {
  const { node, folder } = currentRuntime();
  const command = [join(folder, "bin/manatee-sitter"), "-f", configFile];
  return new Promise((resolve) => {
    execFile(node, command, { ...runAs().credentials, timeout: LONG_MS }, (error, stdout) =>
      resolve({ status: error === null ? 0 : Number(error.code ?? -1), log: stdout }),
    );
  });
}

scenario("a second sitter on the same data directory refuses to start, and the first goes on", {}, async (shard) => {
  await shard.writer();
  const primary = await shard.primary();
  const second = await shard.runSitter(primary.configFile);
  expect(second.status).not.toBe(0);
  expect(second.stdout + second.stderr).toMatch(/[A-Z]+_[A-Z_]+/);
  await shard.waitForWrites(20);
  await shard.check();
});

scenario(
  "all sitters and all PostgreSQL servers are killed at once: the shard comes back by itself with every row",
  {},
  async (shard) => {
    await shard.writer();
    await shard.waitForWrites(50);
    await Promise.all(shard.peers.map((peer) => peer.crash()));
    for (const peer of shard.peers) peer.startSitter();
    await shard.waitForChain();
    await shard.waitForWrites(20);
    await shard.check();
  },
);

scenario(
  "SIGHUP takes in the policy and the operator's own files; a broken configuration is told, and changes nothing",
  {},
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const primary = await shard.primary();
    const sitter = primary.sitterPid;
    const rules = join(shard.folder, "operator-hba.conf");
    expect(await admits(shard, primary, "template1")).toBe(true);
    await writeFile(rules, `host template1 all samenet reject\n${await readFile(rules, "utf8")}`);
    await appendFile(join(primary.dataDir, "postgresql.conf"), "log_min_duration_statement = 4242\n");
    await primary.configure({ policy: { takeoversPerHourMax: 7 } });
    await hangUp(shard, primary, "configuration taken again");
    expect(await said(primary, "configuration taken again")).toMatchObject([{ policy: { takeoversPerHourMax: 7 } }]);
    await shard.waitFor("the operator's rules are in force", async () => !(await admits(shard, primary, "template1")));
    await shard.waitFor("the operator's settings are in force", async () => {
      const [row] = await shard.query<{ value: string }>(
        primary,
        "SELECT current_setting('log_min_duration_statement') AS value",
      );
      return row?.value === "4242ms";
    });
    const good = await readFile(primary.configFile, "utf8");
    for (const broken of [good.replace('"policy"', '"polici"'), "{"]) {
      await writeFile(primary.configFile, broken);
      await hangUp(shard, primary, "configuration not taken");
    }
    expect(JSON.stringify(await said(primary, "configuration not taken"))).toMatch(/polici.*did you mean policy/);
    await shard.waitForWrites(20);
    expect(await said(primary, "configuration taken again")).toHaveLength(1);
    expect(primary.sitterPid).toBe(sitter);
    expect((await shard.state()).generation).toBe(before.generation);
    await shard.check();
  },
);

scenario(
  "a mistake in the operator's pg_hba.conf is said, and holds up neither S1 nor a sitter's start nor a takeover",
  {},
  async (shard) => {
    await shard.writer();
    const [primary, sync] = [await shard.primary(), await shard.sync()];
    const since = shard.history.now();
    const rules = join(shard.folder, "operator-hba.conf");
    const good = await readFile(rules, "utf8");
    await writeFile(rules, `host template1 all samenet reject\n${good}host all all nonsense/99 scram-sha-256\n`);
    for (const peer of shard.peers) await hangUp(shard, peer, "the operator's pg_hba.conf is not taken in");
    expect(await said(primary, "the operator's pg_hba.conf is not taken in")).toMatchObject([
      { level: "error", code: "PG_HBA_REJECTED", error: expect.stringContaining(`line 3 of ${rules}`) as string },
    ]);
    expect(await admits(shard, primary, "template1"), "the rules of before hold").toBe(true);
    await shard.waitForWrites(20);
    expectNoOutage(shard, { since });

    await sync.crash();
    await shard.waitFor("another sync is named", ({ state }) => ![undefined, sync.id].includes(state?.sync?.id));
    await shard.waitForWrites(20);
    sync.startSitter();
    await shard.waitForChain();
    const next = await shard.sync();
    await primary.crash();
    await shard.waitForWritesOn(next, LONG_MS);
    expect(await admits(shard, next, "template1"), "the rules of before hold after the takeover").toBe(true);

    await writeFile(rules, good);
    await hangUp(shard, next, "the operator's pg_hba.conf is taken in");
    primary.startSitter();
    await shard.waitForChain();
    await shard.check();
  },
);

function said(peer: TestPeer, message: string): Promise<readonly Readonly<Record<string, unknown>>[]> {
  return peer.logEntries().then((entries) => entries.filter(({ msg }) => msg === message));
}

/** Sends SIGHUP, and waits until the sitter's log says that once more. */
async function hangUp(shard: TestShard, peer: TestPeer, message: string): Promise<void> {
  const before = (await said(peer, message)).length;
  signal(peer.sitterPid as number, "SIGHUP");
  await shard.waitFor(`${peer.name}: ${message}`, async () => (await said(peer, message)).length > before);
}

async function admits(shard: TestShard, { ip, port }: TestPeer, database: string): Promise<boolean> {
  try {
    const client = await connect({ host: ip, port, ...shard.credentials, database });
    await client.end();
    return true;
  } catch {
    return false;
  }
}
