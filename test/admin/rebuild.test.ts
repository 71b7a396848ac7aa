import { describe, expect, it } from "vitest";
import { parseLineage } from "../../src/base/lineage.ts";
import { leavesRoomForLess, nextWay } from "../../src/cluster/rejoin-way.ts";
import { known, type LocalFacts, planRebuild, type RebuildFacts, unknown } from "../../src/postgres/rebuild-plan.ts";
import { formatRebuildRequest, parseRebuildRequest } from "../../src/status/rebuild-file.ts";
import { document, peer, report, ShardFixture, SYSTEM, wellReports } from "./fixture.ts";

const GB = 1_000_000_000;
const SEGMENT = 16_777_216n;

function lineage(text: string) {
  const parsed = parseLineage(text);
  if (!parsed) throw new Error(text);
  return parsed;
}

function snapshotAt(lsn: string, change: Readonly<Record<string, string>> = {}) {
  return {
    name: `at-${lsn}`,
    properties: {
      "manatee:timeline": "1",
      "manatee:lsn": lsn,
      "manatee:system": SYSTEM,
      "manatee:why": "x",
      ...change,
    },
  };
}

const STORED = {
  dataset: "tank/pg",
  mountedAt: "/data",
  format: "zfs",
  outside: undefined,
  snapshots: [snapshotAt("0/1000000")],
};

const LOCAL: LocalFacts = {
  dataDir: "/data",
  forksDir: "/data.forks",
  mark: known(undefined),
  dataBytes: known(2 * GB),
  wal: known({
    names: new Set(["000000010000000000000001", "000000010000000000000002", "000000010000000000000003"]),
    segmentBytes: SEGMENT,
  }),
  hasRewind: known(true),
  room: known({ freeBytes: 50 * GB, keptFreeBytes: GB }),
  storage: known(STORED),
  lastCopies: {},
};

type Change = Partial<Omit<RebuildFacts, "local">> & { readonly local?: Partial<LocalFacts> };

/** Of a peer that has gone on, on timeline 1, behind 0/3000060, where the primary left it. */
function facts({ local, ...change }: Change = {}): RebuildFacts {
  return {
    wish: { from: undefined, full: false },
    primary: "p",
    from: "p",
    forked: known(true),
    lineages: known({ own: lineage("1"), primary: lineage("1@0/3000060,2") }),
    hasData: true,
    fork: known("inc-d"),
    forksKept: known([]),
    forksKeptMax: 2,
    sourceBytes: known(3 * GB),
    sent: known({ format: "zfs", newestBytes: 4 * GB }),
    ...change,
    local: { ...LOCAL, ...local },
  };
}

describe("the way of a rebuild (R1)", () => {
  it("is the cheapest that applies: back to the newest snapshot before the fork", () => {
    const plan = planRebuild(facts());
    expect(plan).toMatchObject({ way: "roll-back", from: "p", snapshot: "at-0/1000000", passedOver: [], assumed: [] });
    // The segments 1, 2 and 3: the last one holds the fork.
    expect(plan.bytes).toEqual(known(3 * Number(SEGMENT)));
  });

  it("is the one that the rules take: each way that can't be gone leads to the next", () => {
    const without = (change: Partial<LocalFacts>) => planRebuild(facts({ local: change }));
    const late = known({ ...STORED, snapshots: [snapshotAt("0/4000000")] });
    expect(without({ storage: late })).toMatchObject({
      way: "rewind",
      passedOver: [{ way: "roll-back", because: "no snapshot ends before the fork" }],
    });
    const failed = known({ ...STORED, snapshots: [snapshotAt("0/1000000", { "manatee:verified": "failed 1 torn" })] });
    expect(without({ storage: failed }).way).toBe("rewind");
    const short = known({ names: new Set(["000000010000000000000003"]), segmentBytes: SEGMENT });
    expect(without({ wal: short }).passedOver[0]?.because).toContain("there is no 000000010000000000000001");
    expect(without({ storage: late, hasRewind: known(false) })).toMatchObject({ way: "seed", bytes: known(4 * GB) });
    expect(without({ storage: undefined })).toMatchObject({ way: "rewind", passedOver: [] });
    expect(without({ storage: undefined, hasRewind: known(false) })).toMatchObject({
      way: "base-backup",
      bytes: known(3 * GB),
      passedOver: [{ way: "rewind" }, { way: "seed", because: "no storage that takes snapshots is configured" }],
    });
  });

  it("is a copy of what has not forked, of all with --full, and of a peer that --from names", () => {
    const way = (change: Change) => planRebuild(facts(change));
    expect(way({ forked: known(false) }).passedOver).toEqual([
      { way: "roll-back", because: "its WAL has not left the primary's" },
      { way: "rewind", because: "its WAL has not left the primary's" },
    ]);
    expect(way({ forked: known(false) }).way).toBe("seed");
    expect(way({ wish: { from: undefined, full: true } })).toMatchObject({ way: "seed", passedOver: [] });
    expect(way({ wish: { from: "q", full: false }, from: "q" })).toMatchObject({
      way: "seed",
      from: "q",
      passedOver: [{ because: "--from names q, which is not the primary" }, {}],
    });
    expect(way({ wish: { from: "p", full: false } }).way).toBe("roll-back");
  });

  it.each([
    ["it is not mounted", { ...STORED, mountedAt: undefined }, "is not mounted"],
    ["it is mounted elsewhere", { ...STORED, mountedAt: "/other" }, "is mounted at /other"],
    ["the formats differ", { ...STORED, format: "btrfs" }, "sends zfs, and the one here receives btrfs"],
  ])("is a base backup where the dataset can't take a snapshot: %s", (_, storage, because) => {
    const plan = planRebuild(facts({ forked: known(false), local: { storage: known(storage) } }));
    expect(plan.way).toBe("base-backup");
    expect(plan.passedOver.at(-1)).toMatchObject({ way: "seed", because: expect.stringContaining(because) as string });
  });

  it("is a base backup where the source's backup server does not answer, and says so", () => {
    const plan = planRebuild(facts({ forked: known(false), sent: unknown("nobody listens there") }));
    expect(plan).toMatchObject({ way: "base-backup", bytes: known(3 * GB) });
    expect(plan.passedOver.at(-1)).toEqual({ way: "seed", because: "nobody listens there" });
  });

  it("takes the order of the rules, whatever was tried (R1.6)", () => {
    expect(nextWay(undefined, { canRollBack: true, incomplete: false })).toBe("roll-back");
    expect(nextWay(undefined, { canRollBack: false, incomplete: false })).toBe("rewind");
    expect(nextWay("roll-back", { canRollBack: true, incomplete: false })).toBe("rewind");
    expect(nextWay("roll-back", { canRollBack: true, incomplete: true })).toBe("copy");
    expect(nextWay("rewind", { canRollBack: true, incomplete: false })).toBe("copy");
    expect(nextWay("copy", { canRollBack: true, incomplete: false })).toBe("copy");
    const forked = { primary: "p", forked: true };
    expect(leavesRoomForLess({ from: undefined, full: false }, forked)).toBe(true);
    expect(leavesRoomForLess({ from: undefined, full: true }, forked)).toBe(false);
    expect(leavesRoomForLess({ from: "q", full: false }, forked)).toBe(false);
    expect(leavesRoomForLess({ from: undefined, full: false }, { ...forked, forked: false })).toBe(false);
  });
});

describe("what a rebuild costs", () => {
  const last = { bytes: GB, tookMs: 10_000, endedWallMs: 1 };

  it("is estimated by the last copy of that kind on this peer, and by nothing else", () => {
    const copied = (change: Change) => planRebuild(facts({ forked: known(false), ...change })).durationMs;
    expect(copied({ local: { lastCopies: { seed: last } } })).toEqual(known(40_000));
    expect(copied({ local: { lastCopies: { "base-backup": last } } })).toEqual(
      unknown("no seed has ended on this peer yet"),
    );
    expect(copied({ local: { storage: undefined, lastCopies: { "base-backup": last } } })).toEqual(known(30_000));
    expect(copied({ local: { lastCopies: { seed: { ...last, bytes: 0 } } } })).toMatchObject({ kind: "unknown" });
    expect(
      copied({ local: { lastCopies: { seed: last } }, sent: known({ format: "zfs", newestBytes: undefined }) }),
    ).toMatchObject({ kind: "unknown" });
  });

  it("does not grow with the data for a roll-back, and is not known for pg_rewind", () => {
    const took = { bytes: null, tookMs: 1500, endedWallMs: 1 };
    const lastCopies = { "roll-back": took, rewind: took };
    expect(planRebuild(facts({ local: { lastCopies } })).durationMs).toEqual(known(1500));
    const rewound = planRebuild(facts({ local: { lastCopies, storage: undefined } }));
    expect(rewound.bytes.kind).toBe("unknown");
    expect(rewound.durationMs).toEqual(unknown("it depends on how much has changed; the last one took 1.5 s"));
  });
});

describe("what a rebuild keeps aside (I5)", () => {
  it("waits for room where as many are kept as may be, unless it is the one that is kept already", () => {
    const full = { forksKept: known(["one", "two"]) };
    expect(planRebuild(facts(full)).fork?.waits).toBe("2 forks are kept, and policy.forksKeptMax is 2");
    expect(planRebuild(facts({ ...full, forksKeptMax: 3 })).fork?.waits).toBeUndefined();
    expect(planRebuild(facts({ ...full, fork: known("two") })).fork?.waits).toBeUndefined();
    expect(planRebuild(facts({ ...full, hasData: false })).fork).toBeUndefined();
  });

  it("is a copy, and nothing is rolled back, where a part of the data shows in no snapshot", () => {
    const plan = planRebuild(facts({ local: { storage: known({ ...STORED, outside: "pg_wal" }) } }));
    expect(plan).toMatchObject({
      way: "rewind",
      passedOver: [{ way: "roll-back", because: "pg_wal lies outside of the dataset" }],
      fork: { kind: "copy" },
    });
  });

  it("waits for space where a fork is a copy, and costs none where it is a snapshot", () => {
    const room = known({ freeBytes: 2.5 * GB, keptFreeBytes: GB });
    expect(planRebuild(facts({ local: { room } })).fork).toMatchObject({ kind: "snapshot", bytes: known(0) });
    expect(planRebuild(facts({ local: { room } })).fork?.waits).toBeUndefined();
    const { fork } = planRebuild(facts({ local: { room, storage: undefined } }));
    expect(fork).toMatchObject({ kind: "copy", bytes: known(2 * GB) });
    expect(fork?.waits).toContain("2000000000 are needed");
    const unsaid = planRebuild(facts({ local: { room: unknown("EACCES"), storage: undefined } }));
    expect(unsaid.fork?.waits).toBeUndefined();
    expect(unsaid.assumed).toEqual(["how much space there is for it: EACCES"]);
  });
});

describe("rebuild --dry-run", () => {
  const config = (name: string) =>
    JSON.stringify({
      ip: peer(name).ip,
      zoneId: peer(name).zoneId,
      shardPath: "/manatee/1",
      zkCfg: { connStr: "10.0.0.9" },
      postgres: { dataDir: "/data" },
    });

  async function shardWith(reports = {}, documents = [document({ deposed: [peer("d")] })]) {
    const shard = await new ShardFixture({ ...wellReports(), ...reports }).prepare(documents);
    for (const name of ["c", "d"]) shard.files.set(`/etc/${name}.json`, config(name));
    return shard;
  }

  const forked = report("d", "deposed", {
    postgres: { lineage: "1", timeline: 1, walEnd: "0/2000000", replayed: "0/2000000" },
  });

  it("says which way, from whom, how much and how long, and writes nothing", async () => {
    const shard = await shardWith({ d: forked });
    shard.local = {
      ...shard.local,
      mark: known({
        shard: "1",
        incarnation: "inc-d",
        claim: undefined,
        founding: false,
        incomplete: false,
        source: undefined,
        lastDocument: undefined,
      }),
    };
    const { status, out } = await shard.adm("rebuild", "-c", "/etc/d.json", "--dry-run");
    expect(out).toContain(`Way:     pg_rewind, from ${peer("a").zoneId}`);
    expect(out).toContain("Size:    unknown (pg_rewind tells only when it has compared both)");
    expect(out).toContain("Time:    unknown (no rewind has ended on this peer yet)");
    expect(out).toContain("kept as inc-d, a copy of 1.9G at first; 0 of at most 2 are kept now");
    expect(out).not.toContain("Waits");
    expect(status).toBe(0);
    expect(shard.files.has("/data.manatee/rebuild.json")).toBe(false);
  });

  it("says so as JSON, with null and the reason for what can't be known", async () => {
    const shard = await shardWith({ d: forked });
    const { out } = await shard.adm("rebuild", "-c", "/etc/d.json", "--dry-run", "--full", "-o", "json");
    expect(JSON.parse(out)).toMatchObject({
      peer: peer("d").zoneId,
      from: peer("a").zoneId,
      way: "base-backup",
      snapshot: null,
      bytes: 3_000_000_000,
      bytesUnknown: null,
      durationMs: null,
      durationUnknown: "no base-backup has ended on this peer yet",
      passedOver: [{ way: "seed", because: "no storage that takes snapshots is configured" }],
      fork: { kind: "copy", kept: 0, keptMax: 2, waits: null },
      waits: [],
      unknown: [],
    });
  });

  it("names the wait for room, and how to make some", async () => {
    const shard = await shardWith({ d: forked });
    for (const name of ["one", "two"])
      shard.kept.push({
        name,
        kind: "folder",
        place: `/data.forks/${name}`,
        keptWallMs: undefined,
        ownBytes: undefined,
      });
    const { out } = await shard.adm("rebuild", "-c", "/etc/d.json", "--dry-run");
    expect(out).toMatch(/Waits: {3}2 forks are kept.*manatee-adm diverged, and --drop/);
  });

  it("does not claim to know what a silent sitter knows", async () => {
    const shard = await shardWith();
    const { out } = await shard.adm("rebuild", "-c", "/etc/d.json", "--dry-run");
    expect(out).toContain("not by pg_rewind: it is not known to have forked: this peer's sitter does not answer");
    expect(out).toContain("Unknown: whether its WAL has forked: this peer's sitter does not answer");
  });

  it("waits for a primary that serves", async () => {
    const shard = await shardWith({ d: forked });
    delete shard.reports["a"];
    const { out } = await shard.adm("rebuild", "-c", "/etc/d.json", "--dry-run");
    expect(out).toContain(`Waits:   the primary ${peer("a").id} does not serve`);
  });
});

describe("rebuild --from", () => {
  const UNFIT = "ADMIN_REBUILD_SOURCE";
  const config = JSON.stringify({
    ip: peer("d").ip,
    zoneId: peer("d").zoneId,
    shardPath: "/manatee/1",
    zkCfg: { connStr: "10.0.0.9" },
    postgres: { dataDir: "/data" },
  });

  async function shardWith(change = {}) {
    const shard = await new ShardFixture({ ...wellReports(), ...change }).prepare([
      document({ async: [peer("c"), peer("d")], deposed: [peer("e")] }),
    ]);
    shard.files.set("/etc/d.json", config);
    return shard;
  }

  it.each([
    ["zoneId", peer("c").zoneId],
    ["short name", "cccccccc"],
    ["id", peer("c").id],
    ["host and port", "10.0.0.3:5432"],
  ])("takes a peer by its %s, and asks for it by its id", async (_, name) => {
    const shard = await shardWith();
    const { status } = await shard.adm("rebuild", "-c", "/etc/d.json", "-y", "--from", name, "--full");
    expect(status).toBe(0);
    const written = shard.files.get("/data.manatee/rebuild.json") ?? "";
    expect(parseRebuildRequest(written)).toEqual({ from: peer("c").id, full: true });
  });

  it.each([
    ["is unknown", "zzzzzzzz", {}, "ADMIN_UNKNOWN_PEER", "no peer of the shard is zzzzzzzz"],
    ["is itself", "dddddddd", {}, UNFIT, "it is the peer that is to be rebuilt"],
    ["is deposed", "eeeeeeee", {}, UNFIT, "it is deposed"],
    ["can't be reached", "cccccccc", { c: undefined }, UNFIT, "its sitter is silent"],
    [
      "has no PostgreSQL",
      "cccccccc",
      { c: report("c", "async", { postgres: { state: "stopped" } }) },
      UNFIT,
      "its PostgreSQL is stopped",
    ],
    [
      "is on another timeline",
      "cccccccc",
      { c: report("c", "async", { postgres: { timeline: 1 } }) },
      UNFIT,
      "is on timeline 1, and the shard on 2",
    ],
  ])("refuses a peer that %s, with the way out", async (_, name, change, code, message) => {
    const shard = await shardWith(change);
    const { status, err } = await shard.adm("rebuild", "-c", "/etc/d.json", "-y", "--from", name);
    expect(status).toBe(1);
    expect(err).toContain(message);
    expect(err).toContain(`(${code})`);
    expect(shard.files.has("/data.manatee/rebuild.json")).toBe(false);
  });
});

describe("the request's file", () => {
  it("says what it was made of", () => {
    const wish = { from: peer("c").id, full: true };
    expect(parseRebuildRequest(formatRebuildRequest({ ...wish, requestedAt: "t", by: "me" }))).toEqual(wish);
  });

  it("accepts requests of before there was a choice", () => {
    for (const text of ['{"requestedAt":"2026-03-01T12:00:00.000Z","by":"x"}\n', "{}", ""])
      expect(parseRebuildRequest(text)).toEqual({ from: undefined, full: false });
  });

  it.each(["{", "[]", "7", '{"from":7}', '{"from":"nobody"}', '{"full":"yes"}', '"x"'])(
    "does not guess at %s",
    (text) => {
      expect(() => parseRebuildRequest(text)).toThrow("can't be understood");
    },
  );
});
