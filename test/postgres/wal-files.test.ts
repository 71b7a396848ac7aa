// R1: what of a forked peer's WAL is carried into a snapshot, to the byte.

import { mkdtemp, mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { lsn } from "../../src/base/lsn.ts";
import { newestBeforeFork } from "../../src/snapshots/choice.ts";
import { linksOutside } from "../../src/postgres/real/links-outside.ts";
import { carryWal, walSegmentBytes } from "../../src/postgres/real/wal-files.ts";
import { segmentName } from "../../src/postgres/wal-segments.ts";

const SEGMENT = 4096n;
const at = (segment: number, offset = 0) => lsn(BigInt(segment) * SEGMENT + BigInt(offset));
const named = (timeline: number, segment: number) => segmentName(timeline, BigInt(segment), SEGMENT);

describe("WAL up to a fork (R1)", () => {
  let root: string;
  let from: string;
  let to: string;

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), "manatee-wal-"));
    [from, to] = [join(root, "own"), join(root, "snapshot")];
    await mkdir(from);
    await mkdir(to);
  });
  afterEach(() => rm(root, { recursive: true }));

  const put = (folder: string, name: string, fill: string) =>
    writeFile(join(folder, name), Buffer.alloc(Number(SEGMENT), fill));

  it("has PostgreSQL's names", () => {
    expect(segmentName(1, 10n, 16n << 20n)).toBe("00000001000000000000000A");
    expect(segmentName(0x1f, 256n, 16n << 20n)).toBe("0000001F0000000100000000");
  });

  it("is this peer's own from the start to the fork, zero behind it, and nothing else", async () => {
    for (const segment of [2, 3, 4, 5]) await put(from, named(1, segment), "o");
    for (const segment of [2, 3, 7]) await put(to, named(1, segment), "s");
    await put(to, named(9, 3), "x");
    await writeFile(join(to, "00000002.history"), "");
    const fork = { timeline: 1, end: at(4, 1000) };
    expect(await carryWal({ from, to, start: at(2, 50), timelines: [fork], segmentBytes: SEGMENT })).toEqual({
      missing: undefined,
    });
    expect((await readdir(to)).sort()).toEqual([named(1, 2), named(1, 3), named(1, 4), "00000002.history"].sort());
    expect((await readFile(join(to, named(1, 3)))).every((byte) => byte === "o".charCodeAt(0))).toBe(true);
    const last = await readFile(join(to, named(1, 4)));
    expect(last.length).toBe(Number(SEGMENT));
    expect(last.subarray(0, 1000).every((byte) => byte === "o".charCodeAt(0))).toBe(true);
    expect(last.subarray(1000).every((byte) => byte === 0)).toBe(true);
    // The fork stays as it was.
    expect((await readFile(join(from, named(1, 4))))[2000]).toBe("o".charCodeAt(0));
  });

  it("ends with a whole segment where the fork is its end", async () => {
    for (const segment of [2, 3, 4]) await put(from, named(1, segment), "o");
    await carryWal({ from, to, start: at(2), timelines: [{ timeline: 1, end: at(4) }], segmentBytes: SEGMENT });
    expect((await readdir(to)).sort()).toEqual([named(1, 2), named(1, 3)]);
    expect((await readFile(join(to, named(1, 3)))).every((byte) => byte !== 0)).toBe(true);
  });

  it("goes through a timeline that both have left, and not into what bears its name behind its end", async () => {
    for (const segment of [2, 3, 4, 5]) await put(from, named(1, segment), "1");
    for (const segment of [3, 4, 5]) await put(from, named(2, segment), "2");
    const timelines = [
      { timeline: 1, end: at(3, 100) },
      { timeline: 2, end: at(5, 10) },
    ];
    await carryWal({ from, to, start: at(2), timelines, segmentBytes: SEGMENT });
    expect((await readdir(to)).sort()).toEqual(
      [named(1, 2), named(1, 3), named(2, 3), named(2, 4), named(2, 5)].sort(),
    );
  });

  it("names the first segment that neither side has", async () => {
    await put(to, named(1, 2), "s");
    await put(from, named(1, 4), "o");
    const timelines = [{ timeline: 1, end: at(4, 8) }];
    expect(await carryWal({ from, to, start: at(2), timelines, segmentBytes: SEGMENT })).toEqual({
      missing: named(1, 3),
    });
  });

  it("knows the size of segments", async () => {
    await put(from, named(1, 2), "o");
    expect(await walSegmentBytes(from)).toBe(SEGMENT);
  });

  it("knows which links lead out of a data directory", async () => {
    const data = join(root, "data");
    for (const name of ["pg_tblspc/16384", "wal"]) await mkdir(join(data, name), { recursive: true });
    // Edited by an operator; the second one leads to nothing here.
    await writeFile(join(root, "operators.conf"), "");
    await symlink(join(root, "operators.conf"), join(data, "postgresql.conf"));
    await symlink("/nowhere/pg_ident.conf", join(data, "pg_ident.conf"));
    await symlink("wal", join(data, "pg_wal"));
    expect(await linksOutside(data)).toBeUndefined();
    await symlink(join(root, "own"), join(data, "pg_tblspc", "16385"));
    expect(await linksOutside(data)).toBe("pg_tblspc/16385");
    for (const target of [join(root, "own"), "../own", "/nowhere", `${data}-other`]) {
      await rm(join(data, "pg_wal"));
      await symlink(target, join(data, "pg_wal"));
      expect(await linksOutside(data), target).toBe("pg_wal");
    }
  });

  it("begins from the newest snapshot that surely ends before it; one whose position is unknown says nothing", () => {
    const snapshot = (name: string, properties: Record<string, string>) => ({
      dataset: "t/pg",
      name,
      guid: name,
      createdWallMs: 0,
      properties,
      holds: [],
      ownBytes: undefined,
      referencedBytes: undefined,
    });
    const of = (timeline: number, position: string) => ({
      "manatee:timeline": String(timeline),
      "manatee:lsn": position,
      "manatee:system": "1",
    });
    const shared = [
      { timeline: 1, end: lsn(0x100n) },
      { timeline: 2, end: lsn(0x200n) },
    ];
    const all = [
      snapshot("a", of(1, "0/80")),
      snapshot("b", of(2, "0/200")),
      snapshot("c", of(1, "0/180")),
      snapshot("d", of(2, "0/201")),
      snapshot("e", of(3, "0/150")),
      snapshot("fork-x", {}),
      snapshot("f", of(2, "nonsense")),
    ];
    expect(newestBeforeFork(all, shared)?.name).toBe("b");
    expect(newestBeforeFork(all, shared.slice(0, 1))?.name).toBe("a");
    expect(newestBeforeFork(all.slice(2), shared)).toBeUndefined();
  });
});
