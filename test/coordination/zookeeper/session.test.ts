// The driver against a real ZooKeeper that behaves. What it does when the store doesn't: faults.test.ts.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { startZooKeeper, zooKeeperInstalled, type ZooKeeperServer } from "../../support/zookeeper-server.ts";
import {
  bytes,
  closeSessions,
  connected,
  openSession,
  put,
  statusKind,
  temporaryFolder,
  text,
  until,
  word,
  type Folder,
} from "./harness.ts";

describe.skipIf(!zooKeeperInstalled)("a session with a real ZooKeeper", () => {
  let folder: Folder;
  let server: ZooKeeperServer;
  let count = 0;
  /** A place of its own for each test. */
  const chroot = (): string => `${server.connectString}/test-${++count}`;

  beforeAll(async () => {
    folder = await temporaryFolder();
    server = await startZooKeeper({ dir: folder.path });
  });
  afterEach(closeSessions);
  afterAll(async () => {
    await server?.stop();
    await folder?.remove();
  });

  test("starts as connecting without a number, and is connected with number, ticket and server soon after", async () => {
    const session = openSession(chroot());
    expect([session.status.kind, session.id, session.ticket]).toEqual(["connecting", undefined, undefined]);
    const seen: string[] = [];
    session.onStatus((status) => seen.push(status.kind));
    await connected(session);
    expect(session.status).toMatchObject({ kind: "connected", server: server.connectString });
    expect(session.id).toMatch(/^0x[0-9a-f]+$/);
    expect(session.ticket?.sessionId).toBe(session.id);
    expect(session.timeoutMs).toBe(6000);
    await until("told", () => seen.length > 0);
    expect(seen).toEqual(["connected"]);
  });

  test("asks for a time that the server doesn't grant, and knows what it got", async () => {
    const session = await connected(openSession(chroot(), { sessionTimeoutMs: 120_000 }));
    expect(session.timeoutMs).toBe(10_000);
  });

  test("refuses what is asked before it is connected, and doesn't keep it for later", async () => {
    const session = openSession(chroot());
    await expect(session.read("/a")).rejects.toMatchObject({ code: "STORE_UNREACHABLE" });
    const outcome = await session.write([{ kind: "create", path: "/a", data: bytes("") }]);
    expect(word(outcome)).toBe("unsent");
    await connected(session);
    expect(await session.list("/")).toEqual([]);
  });

  test("makes, reads, changes and removes nodes, with their versions", async () => {
    const session = await connected(openSession(chroot()));
    const made = await session.write([{ kind: "create", path: "/a", data: bytes("one") }]);
    expect(made).toEqual({ kind: "yes", results: [{ path: "/a", version: 0 }] });
    const first = await session.read("/a");
    expect([text(first?.data), first?.version, first?.ephemeralOwner]).toEqual(["one", 0, undefined]);
    expect(first?.createdAt).toBe(first?.changedAt);
    expect(Math.abs((first?.changedWallMs ?? 0) - Date.now())).toBeLessThan(60_000);

    const set = await session.write([{ kind: "set", path: "/a", data: bytes("two"), version: 0 }]);
    expect(set).toEqual({ kind: "yes", results: [{ path: "/a", version: 1 }] });
    const second = await session.read("/a", { confirmed: true });
    expect([text(second?.data), second?.version]).toEqual(["two", 1]);
    expect((second?.changedAt ?? 0n) > (first?.changedAt ?? 0n)).toBe(true);

    expect(word(await session.write([{ kind: "delete", path: "/a", version: 0 }]))).toBe("bad-version at 0");
    expect(await session.write([{ kind: "delete", path: "/a" }])).toEqual({
      kind: "yes",
      results: [{ path: "/a", version: undefined }],
    });
    expect(await session.read("/a")).toBeUndefined();
    expect(await session.list("/a")).toBeUndefined();
  });

  test("says why a write was refused, and which operation it was", async () => {
    const session = await connected(openSession(chroot()));
    await put(session, "/a");
    await put(session, "/a/b");
    const refusals = await Promise.all([
      session.write([{ kind: "create", path: "/a", data: bytes("") }]),
      session.write([{ kind: "create", path: "/no/b", data: bytes("") }]),
      session.write([{ kind: "set", path: "/no", data: bytes(""), version: 0 }]),
      session.write([{ kind: "check", path: "/no", version: 0 }]),
      session.write([{ kind: "delete", path: "/no" }]),
      session.write([{ kind: "delete", path: "/a" }]),
      session.write([{ kind: "set", path: "/a", data: bytes(""), version: 7 }]),
      session.write([{ kind: "create", path: "/large", data: new Uint8Array(1_048_576) }]),
    ]);
    expect(refusals.map(word)).toEqual([
      "node-exists at 0",
      "no-parent at 0",
      "no-node at 0",
      "no-node at 0",
      "no-node at 0",
      "not-empty at 0",
      "bad-version at 0",
      "too-large at 0",
    ]);
    expect(statusKind(session)).toBe("connected");
  });

  test("takes the largest write that fits", async () => {
    const session = await connected(openSession(chroot()));
    const data = new Uint8Array(1_048_000);
    expect(word(await session.write([{ kind: "create", path: "/large", data }]))).toBe("yes");
    expect((await session.read("/large"))?.data.length).toBe(data.length);
  });

  test("does all operations of a write or none", async () => {
    const session = await connected(openSession(chroot()));
    await put(session, "/a");
    const refused = await session.write([
      { kind: "create", path: "/b", data: bytes("") },
      { kind: "set", path: "/a", data: bytes("x"), version: 0 },
      { kind: "check", path: "/a", version: 0 },
      { kind: "create", path: "/c", data: bytes("") },
    ]);
    expect(word(refused)).toBe("bad-version at 2");
    expect(await session.list("/")).toEqual(["a"]);
    expect((await session.read("/a"))?.version).toBe(0);

    const done = await session.write([
      { kind: "check", path: "/a", version: 0 },
      { kind: "create", path: "/b", data: bytes(""), ephemeral: true },
      { kind: "set", path: "/a", data: bytes("x"), version: 0 },
      { kind: "delete", path: "/b", version: 0 },
    ]);
    expect(done).toEqual({
      kind: "yes",
      results: [
        { path: "/a", version: undefined },
        { path: "/b", version: 0 },
        { path: "/a", version: 1 },
        { path: "/b", version: undefined },
      ],
    });
  });

  test("a check at version 0 is a check", async () => {
    const session = await connected(openSession(chroot()));
    await put(session, "/a");
    await session.write([{ kind: "set", path: "/a", data: bytes("x"), version: 0 }]);
    const outcome = await session.write([
      { kind: "check", path: "/a", version: 0 },
      { kind: "create", path: "/b", data: bytes("") },
    ]);
    expect(word(outcome)).toBe("bad-version at 0");
    expect(await session.read("/b")).toBeUndefined();
  });

  test("a version below 0, which would mean any, is a mistake of the program", async () => {
    const session = await connected(openSession(chroot()));
    await put(session, "/a");
    await expect(session.write([{ kind: "set", path: "/a", data: bytes("x"), version: -1 }])).rejects.toThrow(
      RangeError,
    );
    expect((await session.read("/a"))?.version).toBe(0);
  });

  test("numbers sequential nodes upwards, and binds ephemeral ones to the session", async () => {
    const session = await connected(openSession(chroot()));
    await put(session, "/e");
    const paths: string[] = [];
    for (let i = 0; i < 3; i++) {
      const outcome = await session.write([
        { kind: "create", path: "/e/peer-", data: bytes(""), ephemeral: true, sequential: true },
      ]);
      if (outcome.kind === "yes") paths.push(outcome.results[0]?.path ?? "");
    }
    expect(paths).toEqual(["/e/peer-0000000000", "/e/peer-0000000001", "/e/peer-0000000002"]);
    expect((await session.read("/e/peer-0000000001"))?.ephemeralOwner).toBe(session.id);
    expect([...((await session.list("/e")) ?? [])].sort()).toEqual(paths.map((path) => path.slice(3)));
  });

  test("close ends the session, and its ephemeral nodes go at once", async () => {
    const place = chroot();
    const [session, other] = await Promise.all([connected(openSession(place)), connected(openSession(place))]);
    await session.write([{ kind: "create", path: "/mine", data: bytes(""), ephemeral: true }]);
    expect(await other.read("/mine", { confirmed: true })).toBeDefined();
    const closed = session.close();
    await expect(session.read("/mine")).rejects.toMatchObject({ code: "STORE_CLOSED" });
    await closed;
    expect(session.status.kind).toBe("closed");
    expect(await other.read("/mine", { confirmed: true })).toBeUndefined();
    await session.close();
    const outcome = await session.write([{ kind: "create", path: "/x", data: bytes("") }]);
    expect(outcome).toMatchObject({ kind: "unsent", error: { code: "STORE_CLOSED" } });
  });

  test("requests under way when close is called are still answered", async () => {
    const session = await connected(openSession(chroot()));
    const writes = Array.from({ length: 50 }, (_, i) =>
      session.write([{ kind: "create", path: `/n${i}`, data: bytes("") }]),
    );
    await session.close();
    expect(new Set((await Promise.all(writes)).map(word))).toEqual(new Set(["yes"]));
  });

  test("an abandoned session is taken up again with its ticket, ephemeral nodes and all", async () => {
    const place = chroot();
    const first = await connected(openSession(place));
    await first.write([{ kind: "create", path: "/mine", data: bytes(""), ephemeral: true }]);
    const { id, ticket } = first;
    if (ticket === undefined) throw new Error("no ticket");
    await first.abandon();
    expect(first.status.kind).toBe("closed");
    const second = await connected(openSession(place, { resume: ticket }));
    expect(second.id).toBe(id);
    expect((await second.read("/mine"))?.ephemeralOwner).toBe(id);
  });

  test("a ticket whose session is gone, is another's, or is malformed makes a new session", async () => {
    const place = chroot();
    const first = await connected(openSession(place));
    const { id, ticket } = first;
    if (ticket === undefined) throw new Error("no ticket");
    await first.close();
    const other = await connected(openSession(place));
    const tickets = [
      ticket,
      { sessionId: other.id ?? "", secret: "00".repeat(16) },
      { sessionId: "me", secret: "let me in" },
    ];
    for (const resume of tickets) {
      const session = await connected(openSession(place, { resume }));
      expect([id, other.id]).not.toContain(session.id);
      expect(session.id).toMatch(/^0x/);
      await put(session, `/works-${session.id}`);
    }
  });

  test("an abort settles the call at once; a write that was sent is then unknown", async () => {
    const session = await connected(openSession(chroot()));
    await put(session, "/a");
    const abort = new AbortController();
    const read = session.read("/a", { signal: abort.signal });
    const write = session.write([{ kind: "create", path: "/b", data: bytes("") }], { signal: abort.signal });
    abort.abort(new Error("enough"));
    await expect(read).rejects.toMatchObject({ code: "STORE_CALL_ABORTED" });
    expect(word(await write)).toBe("unknown");
    const late = await session.write([{ kind: "create", path: "/c", data: bytes("") }], { signal: abort.signal });
    expect(word(late)).toBe("unsent");
    expect([...((await session.list("/")) ?? [])].sort()).toEqual(["a", "b"]);
  });

  test("a path that is none is a mistake of the program", async () => {
    const session = await connected(openSession(chroot()));
    for (const path of ["a", "/a/", "//a", "", "/a/../b", "/a\u0000b"])
      await expect(session.read(path)).rejects.toThrow(TypeError);
    expect(statusKind(session)).toBe("connected");
  });
});
