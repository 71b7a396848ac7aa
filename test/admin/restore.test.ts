import { describe, expect, it } from "vitest";
import { lsn } from "../../src/base/lsn.ts";
import { readSitterConfig } from "../../src/config/read-sitter.ts";
import { restoresOf } from "../../src/main/restores-of.ts";
import type { Restores } from "../../src/postgres/restore.ts";
import { realWorld } from "../../src/world/real/world.ts";
import { document, NOW, peer, report, ShardFixture, snapshot, SYSTEM } from "./fixture.ts";

const TAKEN = NOW - 3_600_000;
const FILE = ["-f", "/etc/sitter.json"] as const;

/** On the host of that peer, whose sitter is stopped, as are those named; it has one snapshot. */
async function shardOn(
  name: string,
  { running = [], properties = {} }: { running?: readonly string[]; properties?: Record<string, string> } = {},
): Promise<ShardFixture> {
  const roles = { a: "primary", b: "sync", c: "async", d: "async" } as const;
  const reports = Object.fromEntries(running.map((each) => [each, report(each, roles[each as "a"])]));
  const shard = await new ShardFixture(reports).prepare([document({ async: [peer("c"), peer("d")] })], []);
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
  const { ownBytes: _, referencedBytes: __, ...rest } = snapshot(TAKEN, properties);
  shard.clonePlace.snapshots.push({ ...rest, dataset: "tank/pg", ownBytes: undefined, referencedBytes: undefined });
  return shard;
}

function expectUntouched(shard: ShardFixture): void {
  expect(shard.restored).toEqual([]);
  expect(shard.current().version).toBe(1);
  expect(shard.sitterHolds).toBe(false);
}

describe("restore (O2)", () => {
  it("puts the data back under a new incarnation, then has this peer go on alone, at the end that was tried", async () => {
    const shard = await shardOn("c");
    const { status, out, err } = await shard.adm("restore", String(TAKEN), ...FILE, "-y");
    expect(err).toContain(
      "It was tried: it recovers, up to 0/3000060 on timeline 2; its last commit there is of 2026-03-01T11:00:00.000Z",
    );
    expect(err).toContain('This peer "cccccccc" becomes the primary of generation 4, alone');
    expect(err).toContain('"aaaaaaaa" (primary) doesn\'t answer from here. That it is down is your word.');
    expect(out).toContain("What it held is kept as tank/pg-fork-inc-c.");
    expect(out).toContain("manatee-adm set-onwm -m off, and the others come back");
    expect(status).toBe(0);
    const [{ snapshot: from, incarnation } = { snapshot: "", incarnation: "" }] = shard.restored;
    expect(from).toBe(String(TAKEN));
    expect(incarnation).toMatch(/^[0-9a-f]{16}$/);
    expect(shard.sitterHolds).toBe(false);
    expect(shard.current().json).toMatchObject({
      generation: 4,
      primary: { id: peer("c").id, incarnation },
      sync: null,
      async: [{ id: peer("d").id }],
      deposed: [
        { id: peer("a").id, incarnation: "inc-a" },
        { id: peer("b").id, incarnation: "inc-b" },
      ],
      initWal: "0/3000060",
      initTimeline: 2,
      provisional: true,
      timeline: 3,
      highestTimeline: 3,
      oneNodeWriteMode: true,
      freeze: { reason: "forced to go on alone (takeover --accept-loss)" },
      rule: "O2",
      reason: `restored by an operator from snapshot ${TAKEN} of ${peer("c").id}, up to 0/3000060 on timeline 2`,
    });
  });

  it("asks, and does nothing where it is told no, or nobody can be asked", async () => {
    const shard = await shardOn("c");
    const refused = await shard.adm("restore", String(TAKEN), ...FILE);
    expect(refused.err).toContain("option is required: --yes");
    expect(refused.status).toBe(2);
    shard.interactive = true;
    shard.answers.push("no");
    expect((await shard.adm("restore", String(TAKEN), ...FILE)).status).toBe(1);
    expectUntouched(shard);
    shard.answers.push("yes");
    expect((await shard.adm("restore", String(TAKEN), ...FILE)).status).toBe(0);
    expect(shard.restored).toHaveLength(1);
  });

  it("tries in a dry run, beside everything that runs, shows the document, and says what would be refused", async () => {
    const shard = await shardOn("c", { running: ["a", "b", "c"] });
    const { status, out, err } = await shard.adm("restore", String(TAKEN), ...FILE, "--dry-run");
    expect(status).toBe(0);
    expect(shard.tried).toEqual([undefined]);
    expect(err).toContain("It would be refused: this peer's sitter runs");
    expect(err).toContain('It would be refused: the shard runs: "aaaaaaaa" (primary) and "bbbbbbbb" (sync)');
    expect(JSON.parse(out.slice(out.indexOf("\n{") + 1))).toMatchObject({
      generation: 4,
      sync: null,
      provisional: true,
    });
    expectUntouched(shard);
    const json = await shard.adm("restore", String(TAKEN), ...FILE, "--dry-run", "-o", "json");
    expect(JSON.parse(json.out)).toEqual({
      peer: peer("c").zoneId,
      snapshot: String(TAKEN),
      timeline: 2,
      lsn: "0/3000060",
      lastCommit: "2026-03-01T11:00:00.000Z",
      generation: 4,
      written: false,
      kept: null,
      refused: [
        "this peer's sitter runs",
        'the shard runs: "aaaaaaaa" (primary) and "bbbbbbbb" (sync) could confirm what would be lost',
      ],
    });
    expectUntouched(shard);
  });

  it.each([
    ["a", ["a"]],
    ["b", ["b"]],
  ] as const)("refuses while %s runs, unless told that it may", async (_name, running) => {
    const shard = await shardOn("c", { running });
    const refused = await shard.adm("restore", String(TAKEN), ...FILE, "-y");
    expect(refused.err).toContain("the shard runs");
    expect(refused.err).toContain("RESTORE_REFUSED");
    expect(refused.status).toBe(1);
    expect(shard.tried).toEqual([]);
    expectUntouched(shard);
    const { status, out } = await shard.adm("restore", String(TAKEN), ...FILE, "-y", "--while-running", "-o", "json");
    expect(status).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ written: true, kept: "tank/pg-fork-inc-c", generation: 4, refused: [] });
  });

  it("refuses where only the PostgreSQL of the primary answers", async () => {
    const shard = await shardOn("c");
    shard.ports["a"] = "open";
    expect((await shard.adm("restore", String(TAKEN), ...FILE, "-y")).err).toContain("the shard runs");
    expectUntouched(shard);
  });

  it.each([
    ["a", "is the primary", "with a snapshot of that peer's"],
    ["b", "is the sync", "set-onwm -m on"],
  ])("refuses on %s: what that holds may be the only copy", async (name, message, hint) => {
    const shard = await shardOn(name);
    const { status, err } = await shard.adm("restore", String(TAKEN), ...FILE, "-y", "--while-running");
    expect(err).toContain(message);
    expect(err).toContain(hint);
    expect(status).toBe(1);
    expectUntouched(shard);
  });

  it("refuses while its own sitter runs, whether that answers or not", async () => {
    const answers = await shardOn("c", { running: ["c"] });
    expect((await answers.adm("restore", String(TAKEN), ...FILE, "-y")).err).toContain("this peer's sitter runs");
    expectUntouched(answers);
    const silent = await shardOn("c");
    silent.sitterHolds = true;
    expect((await silent.adm("restore", String(TAKEN), ...FILE, "-y")).err).toContain("SITTER_ALREADY_RUNNING");
    expect(silent.restored).toEqual([]);
    expect(silent.current().version).toBe(1);
  });

  it("begins nothing where no other fork may be kept (I5)", async () => {
    const shard = await shardOn("c");
    for (const name of ["one", "two", "three", "four", "five", "six", "seven", "eight"])
      shard.kept.push({ name, kind: "dataset", place: `tank/pg-fork-${name}`, keptWallMs: NOW, ownBytes: 1 });
    const { err } = await shard.adm("restore", String(TAKEN), ...FILE, "-y");
    expect(err).toContain("what this peer holds now can't be kept: 8 forks are kept already");
    expect(err).toContain("manatee-adm diverged");
    expectUntouched(shard);
  });

  it("refuses a snapshot that is not there, one that failed, and one of another database", async () => {
    const shard = await shardOn("c");
    expect((await shard.adm("restore", "17", ...FILE, "-y")).err).toContain("CLONE_NO_SNAPSHOT");
    shard.restoreEnd = { ...shard.restoreEnd, systemIdentifier: "1" };
    expect((await shard.adm("restore", String(TAKEN), ...FILE, "-y")).err).toContain("holds another database");
    const bad = await shardOn("c", { properties: { "manatee:verified": `failed ${NOW} it does not start` } });
    expect((await bad.adm("restore", String(TAKEN), ...FILE, "-y")).err).toContain("SNAPSHOT_UNSOUND");
    for (const each of [shard, bad]) expectUntouched(each);
  });

  it("goes on where this peer was taken out of the asyncs meanwhile, and says what is there where another generation began", async () => {
    const left = await shardOn("c");
    left.onPutBack = () => left.put(document({ async: [peer("d")], written: { by: "x", version: 2 } }), 1);
    expect((await left.adm("restore", String(TAKEN), ...FILE, "-y")).status).toBe(0);
    expect(left.current().json).toMatchObject({ generation: 4, primary: { id: peer("c").id } });
    const moved = await shardOn("c");
    moved.onPutBack = () =>
      moved.put(document({ generation: 4, primary: peer("b"), sync: peer("d"), async: [], deposed: [peer("a")] }), 1);
    const { status, err } = await moved.adm("restore", String(TAKEN), ...FILE, "-y");
    expect(err).toContain("ADMIN_STATE_CHANGED");
    expect(err).toContain("start its sitter, and it follows the shard again");
    expect(err).toContain("What it held is tank/pg-fork-inc-c.");
    expect(status).toBe(1);
    expect(moved.current().json).toMatchObject({ generation: 4, primary: { id: peer("b").id } });
    expect(moved.sitterHolds).toBe(false);
  });

  it("takes a point in time with its zone, or a WAL position", async () => {
    const shard = await shardOn("c");
    for (const point of ["2026-03-01T14:02:00+02:00", "0/3000060"])
      expect((await shard.adm("restore", String(TAKEN), ...FILE, "--dry-run", "--to", point)).status).toBe(0);
    expect(shard.tried).toEqual([
      { kind: "time", wallMs: NOW + 120_000 },
      { kind: "lsn", lsn: 0x3000060n },
    ]);
    for (const point of ["14:02", "2026-03-01T14:02:00", "2026-13-01T14:02:00Z", "yesterday"]) {
      const { status, err } = await shard.adm("restore", String(TAKEN), ...FILE, "--to", point);
      expect(err).toContain("option --to takes a time with its zone");
      expect(status).toBe(2);
    }
  });

  it.each([
    [[], "missing required argument"],
    [[String(TAKEN), "-o", "name"], "takes json"],
  ])("is told what is wrong with %j", async (args, message) => {
    const shard = await shardOn("c");
    const { status, err } = await shard.adm("restore", ...args, ...FILE);
    expect(err).toContain(message);
    expect(status).toBe(2);
  });
});

describe("putting this host's peer back", () => {
  function restoresWith(section: object): Restores {
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
    return restoresOf(read.config, realWorld({ name: "test", level: "error" }));
  }

  it("needs a storage that takes snapshots", () => {
    expect(() => restoresWith({})).toThrow(
      expect.objectContaining({ code: "RESTORE_NO_STORAGE", remedy: "operator" }) as Error,
    );
  });

  it("is for the user that owns the data, who is not root, before anything is looked at or made", async () => {
    const restores = restoresWith({ storage: { kind: "zfs", dataset: "tank/pg" } });
    const wish = {
      snapshot: { name: "1", createdWallMs: TAKEN, properties: {} },
      to: undefined,
      onStep: (text: string) => expect.fail(`it goes on: ${text}`),
    };
    const end = { timeline: 1, lsn: lsn(1n), systemIdentifier: SYSTEM, lastCommitWallMs: undefined };
    const refused = { code: "CLONE_NOT_OWNER" };
    await expect(restores.place()).rejects.toMatchObject(refused);
    await expect(restores.try({ ...wish, limitMs: 1_000 })).rejects.toMatchObject(refused);
    await expect(restores.putBack({ ...wish, end, incarnation: "x", forksMax: 1 })).rejects.toMatchObject(refused);
  });
});
