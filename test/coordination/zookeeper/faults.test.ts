// A real ZooKeeper that is killed, frozen, cut off: the session stays the same where the store keeps it, and is known to be over where not.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Session } from "../../../src/coordination/port.ts";
import { startZooKeeper, zooKeeperInstalled, type ZooKeeperServer } from "../../support/zookeeper-server.ts";
import {
  LONG_SESSIONS,
  bytes,
  closeSessions,
  connected,
  countedTimers,
  openSession,
  put,
  statusKind,
  temporaryFolder,
  text,
  until,
  word,
  type Folder,
} from "./harness.ts";
import { startProxy, type Proxy } from "./proxy.ts";

const mine = (session: Session, path = "/mine") =>
  session.write([{ kind: "create", path, data: bytes(""), ephemeral: true }]);

describe.skipIf(!zooKeeperInstalled)("faults of a real ZooKeeper", () => {
  let folder: Folder;
  let server: ZooKeeperServer;
  let proxy: Proxy;
  let count = 0;
  let place: string;
  /** By the way that is never cut. */
  const other = (): Promise<Session> => connected(openSession(`${server.connectString}${place}`));
  const throughProxy = (options: { sessionTimeoutMs?: number } = {}): Promise<Session> =>
    connected(openSession(`${proxy.connectString}${place}`, options));

  beforeAll(async () => {
    folder = await temporaryFolder();
    server = await startZooKeeper({ dir: folder.path, settings: LONG_SESSIONS });
  });
  beforeEach(async () => {
    place = `/faults-${++count}`;
    proxy = await startProxy(server.port);
  });
  afterEach(async () => {
    server.thaw();
    await closeSessions();
    await proxy.stop();
  });
  afterAll(async () => {
    await server?.stop();
    await folder?.remove();
  });

  test("killed and started again: the same session, its nodes, and its watches", async () => {
    const session = await connected(openSession(`${server.connectString}${place}`, { sessionTimeoutMs: 60_000 }));
    await mine(session);
    const { id } = session;
    let calls = 0;
    session.watch("/", "children", () => calls++);
    await session.list("/");
    await server.kill();
    await until("cut off", () => session.status.kind === "connecting");
    await expect(session.read("/mine")).rejects.toMatchObject({ code: "STORE_UNREACHABLE" });
    await server.restart();
    await connected(session);
    expect(session.id).toBe(id);
    expect((await session.read("/mine", { confirmed: true }))?.ephemeralOwner).toBe(id);
    await until("called after the reconnection", () => calls > 0);
    const before = calls;
    await put(await other(), "/new");
    await until("called for the change", () => calls > before);
  });

  test("killed in the middle of writes: what was answered is there, what is unknown is there or not, once", async () => {
    const session = await connected(openSession(`${server.connectString}${place}`, { sessionTimeoutMs: 60_000 }));
    const outcomes: Promise<string>[] = [];
    for (let i = 0; i < 300; i++) {
      outcomes.push(session.write([{ kind: "create", path: `/n${i}`, data: bytes("") }]).then(word));
      if (i === 150) await outcomes[20];
    }
    await server.kill();
    const words = await Promise.all(outcomes);
    expect(words.filter((one) => one === "yes").length).toBeGreaterThan(0);
    expect(words.filter((one) => one !== "yes" && one !== "unknown")).toEqual([]);
    await server.restart();
    await connected(session);
    const names = new Set(await session.list("/"));
    for (const [i, one] of words.entries()) if (one === "yes") expect(names.has(`n${i}`)).toBe(true);
  });

  test("frozen for less than the session: cut off after two thirds of it, and the same session after the thaw", async () => {
    const session = await connected(openSession(`${server.connectString}${place}`, { sessionTimeoutMs: 6000 }));
    await mine(session);
    const { id } = session;
    server.freeze();
    const read = session.read("/mine").catch((error: { code?: string }) => error.code);
    await until("cut off", () => session.status.kind !== "connected");
    expect(statusKind(session)).toBe("connecting");
    server.thaw();
    expect(await read).toBe("STORE_UNREACHABLE");
    await connected(session);
    expect([session.id, (await session.read("/mine"))?.ephemeralOwner]).toEqual([id, id]);
  });

  test("frozen for longer than the session: over by our own clock, within its time, for good", async () => {
    const session = await connected(openSession(`${server.connectString}${place}`, { sessionTimeoutMs: 2000 }));
    await mine(session);
    server.freeze();
    const from = performance.now();
    let lastAlive = from;
    await until("expired", () => {
      const now = performance.now();
      if (session.status.kind === "expired") return true;
      lastAlive = now;
      return false;
    });
    expect(lastAlive - from).toBeLessThan(2000);
    server.thaw();
    const looking = await other();
    await until("the node is gone", async () => (await looking.read("/mine", { confirmed: true })) === undefined);
    expect(statusKind(session)).toBe("expired");
  });

  test("reset again and again: the same session", async () => {
    const session = await throughProxy();
    await mine(session);
    const { id } = session;
    for (let i = 0; i < 5; i++) {
      proxy.cut();
      await until("cut off and back", () => session.status.kind === "connected" && proxy.accepted > i + 1);
      expect((await session.read("/mine"))?.ephemeralOwner).toBe(id);
    }
  });

  test("half-open: noticed by silence, and the same session on another connection", async () => {
    // A third of it is left when the silence is noticed: enough to come back on a busy machine.
    const session = await throughProxy({ sessionTimeoutMs: 21_000 });
    await mine(session);
    const { id } = session;
    proxy.swallow("server");
    await until("noticed", () => session.status.kind === "connecting");
    proxy.heal();
    await connected(session);
    expect((await session.read("/mine"))?.ephemeralOwner).toBe(id);
  });

  test("cut off for longer than the session: known here before the store gives the node away", async () => {
    const session = await throughProxy({ sessionTimeoutMs: 2000 });
    const looking = await other();
    await mine(session);
    const told: string[] = [];
    session.onStatus(({ kind }) => kind === "expired" && told.push("known"));
    proxy.swallow("both");
    await until("the node is gone", async () => (await looking.read("/mine")) === undefined);
    told.push("gone");
    expect(told).toEqual(["known", "gone"]);
    expect(word(await session.write([{ kind: "create", path: "/late", data: bytes("") }]))).toBe("unsent");
  });

  test("slow by a fifth of a second each way: all works, and the session lives on past its time", async () => {
    const session = await throughProxy({ sessionTimeoutMs: 2000 });
    const { id } = session;
    proxy.delay("client", 200);
    proxy.delay("server", 200);
    const end = performance.now() + 4000;
    let answers = 0;
    await until("twice its time has passed", async () => {
      await session.read("/", { confirmed: true });
      answers++;
      return performance.now() > end;
    });
    expect(answers).toBeGreaterThan(2);
    expect([session.id, statusKind(session), proxy.accepted]).toEqual([id, "connected", 1]);
  });

  test("the answer to the making of our ephemeral node was lost: it is ours, and there is one", async () => {
    const session = await throughProxy({ sessionTimeoutMs: 6000 });
    const looking = await other();
    proxy.swallow("server");
    const making = mine(session);
    await until("the store has it", async () => (await looking.read("/mine", { confirmed: true })) !== undefined);
    proxy.cut();
    expect(await making).toMatchObject({ kind: "unknown", error: { remedy: "reobserve" } });
    proxy.heal();
    await connected(session);
    expect((await session.read("/mine", { confirmed: true }))?.ephemeralOwner).toBe(session.id);
    expect(word(await mine(session))).toBe("node-exists at 0");
  });

  test("the chroot is made on a later connection where the first was cut before it could be", async () => {
    proxy.delay("client", 50);
    const session = await throughProxy();
    proxy.cut();
    proxy.heal();
    await until("on another connection", () => proxy.accepted > 1 && session.status.kind === "connected");
    expect(word(await mine(session))).toBe("yes");
  });

  test("the request to make our ephemeral node was lost: nothing is there, and it can be made", async () => {
    const session = await throughProxy({ sessionTimeoutMs: 6000 });
    proxy.swallow("client");
    const making = mine(session);
    await new Promise((resolve) => setImmediate(resolve));
    proxy.cut();
    expect(word(await making)).toBe("unknown");
    proxy.heal();
    await connected(session);
    expect(await session.read("/mine", { confirmed: true })).toBeUndefined();
    expect(word(await mine(session))).toBe("yes");
  });

  test("taken up by another process, which closes it: the first learns that it is over", async () => {
    const first = await throughProxy();
    const { ticket } = first;
    if (ticket === undefined) throw new Error("no ticket");
    const second = await connected(openSession(`${server.connectString}${place}`, { resume: ticket }));
    expect(second.id).toBe(first.id);
    // The server drops the one when the other comes, so for a while they take turns.
    await until("a write of the second is done", async () => word(await mine(second)) !== "unsent");
    await second.close();
    await until("the first knows that it is over", () => first.status.kind === "expired");
  });

  test("1,000 forced reconnections leave nothing behind: one session, one connection, two timers, one watch", async () => {
    const timers = countedTimers();
    const session = await connected(openSession(`${proxy.connectString}${place}`, { timers }));
    const { id } = session;
    await mine(session);
    let calls = 0;
    session.watch("/mine", "data", () => calls++);
    await session.read("/mine");
    for (let i = 0; i < 1000; i++) {
      const accepted = proxy.accepted;
      proxy.cut();
      await until("another connection", () => proxy.accepted > accepted && session.status.kind === "connected");
    }
    expect(session.id).toBe(id);
    expect((await session.read("/mine"))?.ephemeralOwner).toBe(id);
    await until("the former connections are gone", () => proxy.open === 1);
    // The end of the session, and the next ping.
    expect(timers.waiting).toBe(2);
    await until("one watch is left", async () => (await server.ask("wchs"))?.includes("Total watches:1\n") === true);
    const before = calls;
    await session.write([{ kind: "set", path: "/mine", data: bytes("x"), version: 0 }]);
    await until("called", () => calls > before);
  });

  test("a watch is set again through thousands of changes, and the last one is seen", async () => {
    const [session, writer] = await Promise.all([throughProxy(), other()]);
    await put(writer, "/a");
    let seen = -1;
    let calls = 0;
    const look = async (): Promise<void> => {
      calls++;
      seen = Math.max(seen, (await session.read("/a"))?.version ?? -1);
    };
    session.watch("/a", "data", () => void look());
    for (let batch = 0; batch < 40; batch++)
      await Promise.all(
        Array.from({ length: 50 }, (_, i) =>
          writer.write([{ kind: "set", path: "/a", data: bytes("x"), version: batch * 50 + i }]),
        ),
      );
    await until("the last version is seen", () => seen === 2000);
    expect(calls).toBeGreaterThan(1);
    await until("one watch", async () => (await server.ask("wchs"))?.includes("Total watches:1\n") === true);
  });

  test("random faults for seconds: each write did what its outcome says, and nobody took another's session for its own", async () => {
    const looking = await other();
    const outcomes = new Map<string, string>();
    const end = performance.now() + 8000;
    const faults = [
      () => proxy.cut(),
      () => proxy.swallow("server"),
      () => proxy.swallow("client"),
      () => proxy.swallow("both"),
      () => proxy.delay("server", 30),
      () => proxy.refuse(),
      () => proxy.heal(),
      () => (proxy.heal(), proxy.cut()),
    ];
    const saboteur = async (): Promise<void> => {
      while (performance.now() < end) {
        faults[Math.floor(Math.random() * faults.length)]?.();
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 250));
        // Mostly whole: else nothing would ever be done.
        if (Math.random() < 0.6) {
          proxy.heal();
          proxy.cut();
        }
      }
      proxy.heal();
      proxy.cut();
    };
    const writer = async (name: string): Promise<void> => {
      let session = openSession(`${proxy.connectString}${place}`, { sessionTimeoutMs: 2000 });
      for (let i = 0; performance.now() < end; i++) {
        if (session.status.kind === "expired") {
          session = openSession(`${proxy.connectString}${place}`, { sessionTimeoutMs: 2000 });
        }
        const path = `/${name}-${i}`;
        const abort = new AbortController();
        const limit = setTimeout(() => abort.abort(), 100);
        const operations = [{ kind: "create", path, data: bytes(session.id ?? "") } as const];
        outcomes.set(path.slice(1), word(await session.write(operations, { signal: abort.signal })));
        clearTimeout(limit);
        const owner = await session.read(path, { signal: abort.signal }).catch(() => undefined);
        if (owner !== undefined && session.status.kind === "connected") expect(text(owner.data)).toBe(session.id);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      await session.close({ limitMs: 10_000 });
      expect(session.status.kind).toMatch(/closed|expired/);
    };
    await Promise.all([saboteur(), ...["a", "b", "c"].map(writer)]);
    const names = new Set(await looking.list("/"));
    const wrong = [...outcomes].filter(
      ([name, outcome]) => (outcome === "yes" && !names.has(name)) || (outcome === "unsent" && names.has(name)),
    );
    expect(wrong).toEqual([]);
    // All three happened: else the faults were too mild or too hard to show anything.
    expect([...new Set(outcomes.values())].sort()).toEqual(["unknown", "unsent", "yes"]);
  });
});
