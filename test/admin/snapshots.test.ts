import { describe, expect, it } from "vitest";
import { lsn } from "../../src/base/lsn.ts";
import { document, NOW, peer, ShardFixture, snapshot } from "./fixture.ts";

const HOUR = 3_600_000;

/** With the file of this peer's sitter. */
async function shardOn(name: string, more: object = STORAGE): Promise<ShardFixture> {
  const shard = await new ShardFixture().prepare([document({ deposed: [peer("d")] })]);
  shard.files.set(
    "/etc/sitter.json",
    JSON.stringify({
      ip: peer(name).ip,
      zoneId: peer(name).zoneId,
      shardPath: "/manatee/1",
      zkCfg: { connStr: "10.0.0.9" },
      postgres: { dataDir: "/data" },
      ...more,
    }),
  );
  return shard;
}

const STORAGE = { storage: { kind: "zfs", dataset: "tank/pg" } };

const FILE = ["-f", "/etc/sitter.json"] as const;

describe("snapshots", () => {
  it("lists those of every peer, with what is known of each", async () => {
    const shard = await shardOn("b");
    shard.snapshots["a"] = [
      snapshot(NOW - 50 * HOUR, {
        "manatee:verified": `passed ${NOW - HOUR} started with 15.6, checksums of 900 blocks`,
      }),
      snapshot(NOW - HOUR, {}, { holds: ["manatee-backup-12345"], ownBytes: null }),
    ];
    shard.snapshots["b"] = [snapshot(NOW - 60_000, { "manatee:verified": `failed ${NOW} it does not start` })];
    shard.snapshots["c"] = [];
    shard.snapshots["d"] = [];
    const { status, out, err } = await shard.adm("snapshots", ...FILE);
    expect(out.split("\n").map((line) => line.trim().split(/ +/))).toEqual([
      ["PEER", "ROLE", "SNAPSHOT", "AGE", "TL", "LSN", "OWN", "SIZE", "VERIFIED", "HELD", "WHY"],
      [
        "aaaaaaaa",
        "primary",
        String(NOW - 50 * HOUR),
        "2d",
        "2",
        "0/79E8E0A0",
        "1.4M",
        "3.0G",
        "passed",
        "-",
        "periodic",
      ],
      [
        "aaaaaaaa",
        "primary",
        String(NOW - HOUR),
        "60m",
        "2",
        "0/79E8E0A0",
        "-",
        "3.0G",
        "-",
        "manatee-backup-12345",
        "periodic",
      ],
      ["bbbbbbbb", "sync", String(NOW - 60_000), "60s", "2", "0/79E8E0A0", "1.4M", "3.0G", "FAILED", "-", "periodic"],
    ]);
    expect(err).toBe("");
    expect(status).toBe(0);
  });

  it("says whom it could not ask, and exits with 1", async () => {
    const shard = await shardOn("b");
    shard.snapshots["a"] = [snapshot(NOW)];
    const { status, out, err } = await shard.adm("snapshots", ...FILE, "-H", "-o", "peerabbr,name");
    expect(out).toBe(`aaaaaaaa ${String(NOW).padEnd(22)}`);
    expect(err.split("\n")).toEqual([
      ...["b", "c", "d"].map(
        (name) => `error: ${name.repeat(8)}: the backup server at ${peer(name).ip}:12345 does not answer`,
      ),
      "See whether it runs. (BACKUP_UNREACHABLE)",
    ]);
    expect(status).toBe(1);
  });

  it("says what it may mean that nobody answers where this host's data lie in a plain folder", async () => {
    const shard = await shardOn("b", {});
    const why = "This host's data lie in a plain folder (the sitter's file names no storage)";
    const list = await shard.adm("snapshots", ...FILE);
    expect(list.err.split("\n").at(-1)).toContain(why);
    expect(list.status).toBe(1);
    const now = await shard.adm("snapshot", "now", ...FILE);
    expect(now.err).toContain(why);
    expect(now.err).toContain("docs/operating/storage.md");
    expect(now.err).toContain("(BACKUP_UNREACHABLE)");
    expect(now.status).toBe(1);
    for (const name of ["a", "b", "c", "d"]) shard.snapshots[name] = [];
    expect((await shard.adm("snapshots", ...FILE)).err).toBe("");
  });

  it("of one peer, as JSON; one that is none of the shard's is an error", async () => {
    const shard = await shardOn("b");
    shard.snapshots["a"] = [snapshot(NOW)];
    shard.snapshots["c"] = [snapshot(NOW - HOUR)];
    const { out } = await shard.adm("snapshots", ...FILE, "-n", "cccccccc", "-o", "json");
    expect(JSON.parse(out)).toMatchObject([
      { peername: peer("c").zoneId, name: String(NOW - HOUR), verified: null, held: null },
    ]);
    expect((await shard.adm("snapshots", ...FILE, "-n", "nobody")).err).toContain("ADMIN_UNKNOWN_PEER");
  });
});

describe("verify, told of storage that snapshots", () => {
  async function shardWithStorage(): Promise<ShardFixture> {
    const shard = await new ShardFixture().prepare();
    const file = JSON.stringify({
      ip: peer("b").ip,
      zoneId: peer("b").zoneId,
      shardPath: "/manatee/1",
      zkCfg: { connStr: "10.0.0.9" },
      postgres: { dataDir: "/data" },
      storage: { kind: "zfs", dataset: "tank/pg" },
    });
    shard.files.set("/etc/sitter.json", file);
    const verified = { "manatee:verified": `passed ${NOW} started` };
    for (const name of ["a", "b", "c"]) shard.snapshots[name] = [snapshot(NOW - HOUR, verified)];
    return shard;
  }

  it("finds nothing where every peer has a good one, and asks nobody without the file", async () => {
    const shard = await shardWithStorage();
    expect(await shard.adm("verify", ...FILE)).toEqual({ status: 0, out: "", err: "" });
    delete shard.snapshots["a"];
    expect((await shard.adm("verify")).status).toBe(0);
  });

  it("says why those of a peer can't be verified, until one is", async () => {
    const shard = await shardWithStorage();
    const refused = snapshot(NOW - 2 * HOUR, { "manatee:verified": "refused pg_wal leads out of the snapshot" });
    shard.snapshots["c"] = [refused, snapshot(NOW - HOUR)];
    const { status, out } = await shard.adm("verify", "-v", ...FILE);
    expect(out).toMatch(
      /^warning: cccccccc: its snapshots can't be verified, because pg_wal leads out of the snapshot \(/,
    );
    expect(out.split("\n")).toHaveLength(1);
    expect(status).toBe(1);
    shard.snapshots["c"] = [refused, snapshot(NOW - HOUR, { "manatee:verified": `passed ${NOW} started` })];
    expect(await shard.adm("verify", ...FILE)).toMatchObject({ status: 0, out: "" });
  });

  it("says what is wrong with them", async () => {
    const shard = await shardWithStorage();
    delete shard.snapshots["a"];
    shard.snapshots["b"] = [snapshot(NOW - 49 * HOUR)];
    shard.snapshots["c"] = [snapshot(NOW - HOUR, { "manatee:verified": `failed ${NOW} it does not start` })];
    shard.freePercent = 14;
    const { status, out } = await shard.adm("verify", "-v", ...FILE);
    expect(out.split("\n").map((line) => line.replace(/ \(.*/, ""))).toEqual([
      "warning: aaaaaaaa: its backup server can't be asked: the backup server at 10.0.0.1:12345 does not answer",
      "warning: bbbbbbbb: its newest good snapshot is 2 days old",
      "note: bbbbbbbb: none of its snapshots was shown to be restorable",
      "warning: bbbbbbbb: 14 % of its storage are free",
      `warning: cccccccc: its snapshot ${NOW - HOUR} can't be restored: it does not start`,
      "warning: cccccccc: it has no snapshot that could serve a peer",
      "warning: cccccccc: 14 % of its storage are free",
    ]);
    expect(status).toBe(1);
    shard.freePercent = 4;
    expect((await shard.adm("verify", ...FILE)).out).toContain("error: cccccccc: 4 % of its storage are free");
  });
});

describe("snapshot now", () => {
  it("takes one of this host's peer, or of the one that is named", async () => {
    const shard = await shardOn("b");
    shard.snapshots["b"] = [];
    shard.snapshots["a"] = [];
    const { status, out } = await shard.adm("snapshot", "now", ...FILE);
    expect(out).toMatch(
      new RegExp(`^${NOW} of bbbbbbbb, after .* it ends at 0/79E8E0A0 on timeline 2, at the latest$`),
    );
    expect(status).toBe(0);
    expect(JSON.parse((await shard.adm("snapshot", "now", ...FILE, "-n", "aaaaaaaa", "-j")).out)).toMatchObject({
      peer: peer("a").zoneId,
      name: String(NOW),
    });
    expect([shard.snapshots["a"].length, shard.snapshots["b"].length]).toEqual([1, 1]);
  });

  it("takes none in a dry run, and says what to do where there is no backup server", async () => {
    const shard = await shardOn("b");
    shard.snapshots["b"] = [];
    expect((await shard.adm("snapshot", "now", ...FILE, "--dry-run")).out).toContain("nothing is done");
    expect(shard.snapshots["b"]).toEqual([]);
    const { status, err } = await shard.adm("snapshot", "now", ...FILE, "-n", "cccccccc");
    expect(err).toContain("BACKUP_UNREACHABLE");
    expect(status).toBe(1);
  });
});

describe("diverged", () => {
  const kept = { kind: "folder", keptWallMs: NOW, ownBytes: undefined } as const;

  it("lists what is kept, and what is in it", async () => {
    const shard = await shardOn("d");
    shard.kept.push({ ...kept, name: "x", place: "/data.forks/x" });
    shard.contents["x"] = {
      timeline: 1,
      fork: lsn(0x3000060n),
      commits: [{ xid: "741", lsn: "0/3000148", committedAt: "2026-03-01 11:59:59.123 UTC" }],
    };
    expect((await shard.adm("diverged", ...FILE, "-H")).out.split(/ +/)).toEqual([
      "x",
      "folder",
      "2026-03-01T12:00:00.000Z",
      "-",
      "/data.forks/x",
      "",
    ]);
    const { out, err } = await shard.adm("diverged", ...FILE, "-t", "x");
    expect(err).toBe("x left the shard's WAL at 0/3000060 on timeline 1; 1 commits lie behind it.");
    expect(out).toBe("       741  0/3000148    2026-03-01 11:59:59.123 UTC");
    expect(JSON.parse((await shard.adm("diverged", ...FILE, "-t", "x", "-o", "json")).out)).toMatchObject({
      lsn: "0/3000060",
      commits: [{ xid: "741" }],
    });
  });

  it("drops one only when told to", async () => {
    const shard = await shardOn("d");
    shard.kept.push({ ...kept, name: "x", place: "/data.forks/x" }, { ...kept, name: "y", place: "/data.forks/y" });
    shard.interactive = false;
    expect((await shard.adm("diverged", ...FILE, "--drop", "x")).err).toContain("option is required: --yes");
    expect((await shard.adm("diverged", ...FILE, "--drop", "x", "--dry-run")).out).toContain("nothing is removed");
    shard.interactive = true;
    shard.answers.push("no");
    expect((await shard.adm("diverged", ...FILE, "--drop", "x")).status).toBe(1);
    expect(shard.kept.map(({ name }) => name)).toEqual(["x", "y"]);
    const { status, out, err } = await shard.adm("diverged", ...FILE, "--drop", "x", "-y");
    expect(err).toContain("Removes the folder /data.forks/x. What it holds is nowhere else.");
    expect(out).toBe("x is gone.");
    expect(status).toBe(0);
    expect(shard.kept.map(({ name }) => name)).toEqual(["y"]);
  });
});
