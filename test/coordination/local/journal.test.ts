import { appendFile, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { claimService, currentHolder } from "../../../src/coordination/local/claim.ts";
import { COMPACT_BYTES, type Content, openJournal, readContent } from "../../../src/coordination/local/journal.ts";
import { applyWrite, emptyTree, endSession } from "../../../src/coordination/memory/tree.ts";
import type { StoreOperation } from "../../../src/coordination/port.ts";
import { until } from "../../contracts/coordination.ts";

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "manatee-journal-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

async function opened() {
  const content = await readContent(directory);
  const failures: unknown[] = [];
  const journal = await openJournal({ directory, content, onFailure: (error) => failures.push(error) });
  const write = (operations: readonly StoreOperation[], session = "s") => {
    const result = applyWrite(content.tree, operations, { session, wallMs: 5 });
    if (result.kind === "yes") journal.append({ kind: "write", session, wallMs: 5, operations });
    return result.kind;
  };
  const durable = () => new Promise<void>((resolve) => journal.whenDurable(resolve));
  return { content, journal, write, durable, failures };
}

const create = (path: string, size = 1): StoreOperation => ({ kind: "create", path, data: new Uint8Array(size) });

describe("the file of the embedded store", () => {
  test("gives back whatever was written, after any operations", async () => {
    const path = fc.constantFrom("/a", "/b", "/a/c", "/a/d", "/b/e");
    const data = fc.uint8Array({ maxLength: 5 });
    const operation: fc.Arbitrary<StoreOperation> = fc.oneof(
      fc.record({
        kind: fc.constant("create" as const),
        path,
        data,
        ephemeral: fc.boolean(),
        sequential: fc.boolean(),
      }),
      fc.record({ kind: fc.constant("set" as const), path, data, version: fc.nat(2) }),
      fc.record({ kind: fc.constant("delete" as const), path }),
      fc.record({ kind: fc.constant("check" as const), path, version: fc.nat(1) }),
    );
    const step = fc.oneof(
      {
        weight: 5,
        arbitrary: fc.record({
          session: fc.constantFrom("s", "t"),
          operations: fc.array(operation, { minLength: 1, maxLength: 4 }),
        }),
      },
      { weight: 1, arbitrary: fc.constant("end" as const) },
      { weight: 1, arbitrary: fc.constant("restart" as const) },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
        await rm(join(directory, "journal"), { force: true });
        let now = await opened();
        for (const each of steps) {
          if (each === "restart") {
            await now.durable();
            await now.journal.close();
            now = await opened();
          } else if (each === "end") {
            now.journal.append({ kind: "end", id: "s" });
            endSession(now.content.tree, "s");
          } else now.write(each.operations, each.session);
        }
        await now.durable();
        await now.journal.close();
        expect(comparable(await readContent(directory))).toEqual(comparable(now.content));
      }),
      { numRuns: 40 },
    );
  });

  test("keeps sessions until they end", async () => {
    const { journal, durable } = await opened();
    for (const id of ["a", "b"]) journal.append({ kind: "session", id, secret: "x", timeoutMs: 1000 });
    journal.append({ kind: "end", id: "a" });
    await durable();
    await journal.close();
    expect([...(await readContent(directory)).sessions.values()]).toEqual([{ id: "b", secret: "x", timeoutMs: 1000 }]);
  });

  test("that was torn at any byte of its last line gives all before it", async () => {
    const { journal, write, durable } = await opened();
    write([create("/a")]);
    await durable();
    const whole = (await readFile(join(directory, "journal"))).length;
    write([create("/b")]);
    await durable();
    await journal.close();
    const full = await readFile(join(directory, "journal"));
    for (let size = full.length - 1; size >= whole; size -= 7) {
      await writeFile(join(directory, "journal"), full);
      await truncate(join(directory, "journal"), size);
      expect([...(await readContent(directory)).tree.nodes.keys()]).toEqual(["/", "/a"]);
    }
    await appendFile(join(directory, "journal"), "\0\0\0\0\n");
    expect([...(await readContent(directory)).tree.nodes.keys()]).toEqual(["/", "/a"]);
  });

  test("that is damaged before its last line is an error, not less of a store", async () => {
    const { journal, write, durable } = await opened();
    for (const path of ["/a", "/b", "/c"]) {
      write([create(path)]);
      await durable();
    }
    await journal.close();
    const text = await readFile(join(directory, "journal"), "utf8");
    await writeFile(join(directory, "journal"), text.replace("/b", "/x"));
    await expect(readContent(directory)).rejects.toMatchObject({ code: "STORE_CORRUPT", remedy: "operator" });
    await writeFile(join(directory, "journal"), "something else\n");
    await expect(readContent(directory)).rejects.toMatchObject({ code: "STORE_CORRUPT" });
  });

  test("is written anew before it grows without end, also while more arrives", async () => {
    const { content, journal, write, durable } = await opened();
    write([create("/n", 100_000)]);
    for (let version = 0; version < 100; version++) {
      write([{ kind: "set", path: "/n", data: new Uint8Array(100_000).fill(version), version }]);
      if (version % 3 === 0) await durable();
    }
    await durable();
    await journal.close();
    expect((await readFile(join(directory, "journal"))).length).toBeLessThan(COMPACT_BYTES * 1.5);
    expect(comparable(await readContent(directory))).toEqual(comparable(content));
    expect(content.tree.nodes.get("/n")?.version).toBe(100);
  });

  test("that can't be written tells it once, and confirms nothing more", async () => {
    const { journal, write, failures } = await opened();
    // The file stays open for writing, but its folder is gone when it is to be written anew.
    await rm(directory, { recursive: true });
    let confirmed = false;
    for (let n = 0; n < 6; n++) write([create(`/n${n}`, 900_000)]);
    journal.whenDurable(() => (confirmed = true));
    await until("the failure is told", () => failures.length > 0);
    await journal.close();
    expect(failures).toHaveLength(1);
    journal.whenDurable(() => (confirmed = true));
    expect(confirmed).toBe(false);
  });
});

describe("the claim to serve", () => {
  test("is given to one of many who ask at once, and to the next after it was released", async () => {
    for (let round = 1; round <= 3; round++) {
      const results = await Promise.all(Array.from({ length: 20 }, () => claimService(directory)));
      const ours = results.flatMap((result) => (result.kind === "ours" ? [result.claim] : []));
      expect(ours.map(({ number }) => number)).toEqual([round]);
      expect((await currentHolder(directory))?.pid).toBe(process.pid);
      await ours[0]?.release();
      expect(await currentHolder(directory)).toBeUndefined();
    }
    expect((await readdir(directory)).filter((name) => name.startsWith("draft"))).toEqual([]);
  });

  test("of a process that is dead, of another one under its pid, or of before a reboot, is none", async () => {
    const result = await claimService(directory);
    if (result.kind !== "ours") throw new Error("the claim is taken");
    const file = join(directory, "claim-0000000001");
    const own = JSON.parse(await readFile(file, "utf8")) as { startTime: string };
    for (const change of [{ pid: 2 ** 22 + 1 }, { startTime: `${own.startTime}0` }, { bootId: "another" }]) {
      await writeFile(file, JSON.stringify({ ...own, ...change }));
      expect(await currentHolder(directory)).toBeUndefined();
    }
    await writeFile(file, JSON.stringify({ ...own, pidNamespace: "pid:[1]", pid: 2 ** 22 + 1 }));
    expect((await claimService(directory)).kind).toBe("taken");
  });

  test("clears away old claims, and keeps enough of them that no number comes twice", async () => {
    for (let round = 0; round < 40; round++) {
      const result = await claimService(directory);
      if (result.kind !== "ours") throw new Error("the claim is taken");
      await result.claim.release();
    }
    const names = (await readdir(directory)).filter((name) => name.startsWith("claim-")).sort();
    expect(names.at(-1)).toBe("claim-0000000040");
    expect(names).toHaveLength(32);
  });
});

function comparable({ tree, sessions }: Content): unknown {
  const nodes = Array.from(
    tree.nodes,
    ([path, node]) => [path, { ...node, data: [...node.data], children: [...node.children].sort() }] as const,
  );
  return { lastChange: tree.lastChange, nodes: new Map(nodes), sessions: [...sessions] };
}

test("an empty folder is an empty store", async () => {
  expect(comparable(await readContent(directory))).toEqual(comparable({ tree: emptyTree(), sessions: new Map() }));
});
