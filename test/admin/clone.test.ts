import { describe, expect, it } from "vitest";
import { readSitterConfig } from "../../src/config/read-sitter.ts";
import { clonesOf } from "../../src/main/clones-of.ts";
import type { Clones } from "../../src/postgres/clones.ts";
import { realClock, realTimers } from "../../src/world/real/clock.ts";
import { document, NOW, peer, ShardFixture, snapshot } from "./fixture.ts";

const HOUR = 3_600_000;
const TAKEN = NOW - HOUR;
const FILE = ["-f", "/etc/sitter.json"] as const;

/** With the file of this peer's sitter; it has one snapshot, of an hour ago. */
async function shardOn(name: string, properties: Readonly<Record<string, string>> = {}): Promise<ShardFixture> {
  const shard = await new ShardFixture().prepare([document()]);
  shard.files.set(
    "/etc/sitter.json",
    JSON.stringify({
      ip: peer(name).ip,
      zoneId: peer(name).zoneId,
      shardPath: "/manatee/1",
      zkCfg: { connStr: "10.0.0.9" },
      postgres: { dataDir: "/data" },
      storage: { kind: "zfs", dataset: "tank/pg" },
    }),
  );
  add(shard, TAKEN, properties);
  return shard;
}

function add(shard: ShardFixture, wallMs: number, properties: Readonly<Record<string, string>> = {}): void {
  const { ownBytes: _, referencedBytes: __, ...rest } = snapshot(wallMs, properties);
  shard.clonePlace.snapshots.push({ ...rest, dataset: "tank/pg", ownBytes: undefined, referencedBytes: undefined });
}

describe("clone", () => {
  it("makes one of a snapshot on an async without a question, and says what it shows, where, and for how long", async () => {
    const shard = await shardOn("c");
    const { status, out, err } = await shard.adm("clone", String(TAKEN), ...FILE, "--ttl", "2h");
    expect(shard.questions).toEqual([]);
    expect(err).toMatch(
      /^Starts PostgreSQL on a clone of snapshot \d+ \(of 2026-03-01T11:00:00.000Z, up to 0\/79E8E0A0 on timeline 2 at the latest\), on port 15432 of this machine, for 2h\.\n +\d+\.\d s {2}recovers$/,
    );
    expect(out).toMatch(/^Clone 15432 takes writes after .* It shows the database as of 2026-03-01T11:00:00.000Z/);
    expect(out).toContain("psql -h 127.0.0.1 -p 15432");
    expect(out).toContain("It goes at 2026-03-01T14:00:00.000Z");
    expect(status).toBe(0);
  });

  it("takes a snapshot for it, and answers in JSON", async () => {
    const shard = await shardOn("c");
    shard.snapshots["c"] = [];
    add(shard, NOW);
    const { out } = await shard.adm("clone", "now", ...FILE, "--port", "6000", "-o", "json");
    expect(JSON.parse(out)).toEqual({
      name: "6000",
      port: 6000,
      snapshot: String(NOW),
      asOf: "2026-03-01T12:00:00.000Z",
      lsn: "0/79E8E0A0",
      timeline: 2,
      until: "2026-03-01T20:00:00.000Z",
      dataset: "tank/pg-clone-6000",
      socket: "/tank/pg-clone-6000/.clone",
    });
    expect(shard.snapshots["c"]).toHaveLength(1);
  });

  it("says what serves as well where none can be taken", async () => {
    const shard = await shardOn("c");
    const { status, err } = await shard.adm("clone", "now", ...FILE);
    expect(err).toContain("BACKUP_UNREACHABLE");
    expect(err).toContain("One that is there already serves as well");
    expect(status).toBe(1);
    expect(shard.clonesKept).toEqual([]);
  });

  it.each([
    ["a", "this host's peer is the primary"],
    ["b", "this host's peer is the sync"],
  ])("warns and asks on %s, and makes none where nobody can be asked", async (name, warning) => {
    const shard = await shardOn(name);
    const refused = await shard.adm("clone", String(TAKEN), ...FILE);
    expect(refused.err).toContain(`warning: ${warning}`);
    expect(refused.err).toContain("option is required: --yes");
    expect(refused.status).toBe(2);
    shard.interactive = true;
    shard.answers.push("no");
    expect((await shard.adm("clone", String(TAKEN), ...FILE)).status).toBe(1);
    expect(shard.clonesKept).toEqual([]);
    expect((await shard.adm("clone", String(TAKEN), ...FILE, "-y")).status).toBe(0);
    expect(shard.clonesKept).toHaveLength(1);
  });

  it("asks where the storage has no room, or copies everything", async () => {
    const shard = await shardOn("c");
    Object.assign(shard.clonePlace, { freePercent: 14, shared: false });
    const { status, err } = await shard.adm("clone", String(TAKEN), ...FILE);
    expect(err).toContain("14 % of the storage are free");
    expect(err).toContain("the clone is a copy of all data");
    expect(status).toBe(2);
  });

  it("makes none in a dry run, of a snapshot that is not there, or of one that can't be restored", async () => {
    const shard = await shardOn("c");
    expect((await shard.adm("clone", String(TAKEN), ...FILE, "--dry-run")).out).toBe("Dry run: nothing is made.");
    const unknown = await shard.adm("clone", "17", ...FILE);
    expect(unknown.err).toContain("CLONE_NO_SNAPSHOT");
    expect(unknown.err).toContain(`Its newest is ${TAKEN}`);
    const bad = await shardOn("c", { "manatee:verified": `failed ${NOW} it does not start` });
    expect((await bad.adm("clone", String(TAKEN), ...FILE)).err).toContain("SNAPSHOT_UNSOUND");
    expect([shard.clonesKept, bad.clonesKept]).toEqual([[], []]);
  });

  it.each([
    [[], "what shall be done?"],
    [["now", "--list"], "exclude each other"],
    [["--list", "--drop", "1"], "exclude each other"],
    [["--list", "--port", "6000"], "belong to a snapshot"],
    [["now", "--port", "80"], "from 1024 to 65535"],
    [["now", "--ttl", "8"], "a time such as"],
    [["now", "--ttl", "31d"], "30d at most"],
    [["now", "--ttl", "0s"], "a time such as"],
    [["now", "-o", "name"], "takes json only"],
    [["--list", "-o", "nmae"], "did you mean name?"],
  ])("is told what is wrong with %j", async (args, message) => {
    const shard = await shardOn("c");
    const { status, err } = await shard.adm("clone", ...args, ...FILE);
    expect(err).toContain(message);
    expect(status).toBe(2);
  });
});

describe("clone --list and --drop", () => {
  it("lists what there is, and how long it stays", async () => {
    const shard = await shardOn("c");
    await shard.adm("clone", String(TAKEN), ...FILE, "--ttl", "2h");
    const { out } = await shard.adm("clone", "--list", ...FILE, "-H", "-o", "name,state,snapshot,left");
    expect(out.split(/ +/)).toEqual(["15432", "running", String(TAKEN), "2h"]);
    const [row] = JSON.parse((await shard.adm("clone", "--list", ...FILE, "-o", "json")).out) as object[];
    expect(row).toMatchObject({ name: "15432", port: "15432", asof: "2026-03-01T11:00:00.000Z", left: "2h" });
  });

  it("drops one only when told to", async () => {
    const shard = await shardOn("c");
    await shard.adm("clone", String(TAKEN), ...FILE);
    const refused = await shard.adm("clone", "--drop", "15432", ...FILE);
    expect(refused.err).toContain("Ends the server on port 15432, and removes tank/pg-clone-15432.");
    expect(refused.err).toContain("option is required: --yes");
    expect((await shard.adm("clone", "--drop", "15432", ...FILE, "--dry-run")).out).toContain("nothing is removed");
    expect(shard.clonesKept).toHaveLength(1);
    expect((await shard.adm("clone", "--drop", "15432", ...FILE, "-y")).out).toBe("15432 is gone.");
    expect(shard.clonesKept).toEqual([]);
  });
});

describe("the clones of this host's peer", () => {
  function clonesWith(section: object): Clones {
    const json = JSON.stringify({
      ip: "127.0.0.1",
      zoneId: "peer1",
      shardPath: "/manatee/1",
      zkCfg: { connStr: "127.0.0.1:2181" },
      // Whoever runs this test does not own it, or is root.
      postgres: { dataDir: "/" },
      ...section,
    });
    const read = readSitterConfig({ json, env: {}, file: "sitter.json" });
    if (read.kind === "invalid") throw new Error(JSON.stringify(read.problems));
    return clonesOf(read.config, { clock: realClock, timers: realTimers });
  }

  it("need a storage", () => {
    expect(() => clonesWith({})).toThrow(
      expect.objectContaining({ code: "CLONE_NO_STORAGE", remedy: "operator" }) as Error,
    );
  });

  it("are made by the user that owns the data, who is not root, before anything is made", async () => {
    const clones = clonesWith({ storage: { kind: "zfs", dataset: "tank/pg" } });
    const making = clones.make({
      snapshot: { name: "1", createdWallMs: TAKEN, properties: {} },
      port: 15_432,
      ttlMs: HOUR,
      limitMs: 1_000,
      onStep: (text) => expect.fail(`it goes on: ${text}`),
    });
    await expect(making).rejects.toMatchObject({
      code: "CLONE_NOT_OWNER",
      message: expect.stringMatching(/^this is for the user that owns \/ \(uid 0\), not for uid \d+$/) as string,
    });
  });
});
