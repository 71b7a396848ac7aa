// Three real ZooKeepers: one lost, all lost and back, and a session that moves from one to another.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Session } from "../../../src/coordination/port.ts";
import {
  startEnsemble,
  zooKeeperInstalled,
  type ZooKeeperEnsemble,
  type ZooKeeperServer,
} from "../../support/zookeeper-server.ts";
import {
  bytes,
  closeSessions,
  connected,
  openSession,
  put,
  statusKind,
  temporaryFolder,
  until,
  word,
  type Folder,
} from "./harness.ts";

describe.skipIf(!zooKeeperInstalled)("an ensemble of three", () => {
  let folder: Folder;
  let ensemble: ZooKeeperEnsemble;
  let count = 0;

  beforeAll(async () => {
    folder = await temporaryFolder();
    ensemble = await startEnsemble(3, {
      dir: folder.path,
      tickTimeMs: 1000,
      settings: { initLimit: "40", syncLimit: "4" },
    });
  });
  afterEach(async () => {
    for (const member of ensemble.members) member.thaw();
    await closeSessions();
    await Promise.all(ensemble.members.filter(({ pid }) => pid === undefined).map((member) => member.launch()));
    await Promise.all(ensemble.members.map((member) => member.ready()));
  });
  afterAll(async () => {
    await ensemble?.stop();
    await folder?.remove();
  });

  const open = (sessionTimeoutMs = 12_000): Promise<Session> =>
    connected(openSession(`${ensemble.connectString}/ensemble-${++count}`, { sessionTimeoutMs }));
  const memberOf = (session: Session): ZooKeeperServer => {
    const { status } = session;
    const member = ensemble.members.find(
      ({ connectString }) => status.kind === "connected" && status.server === connectString,
    );
    if (member === undefined) throw new Error(`connected to none: ${status.kind}`);
    return member;
  };
  const mine = (session: Session) =>
    session.write([{ kind: "create", path: "/mine", data: bytes(""), ephemeral: true }]);
  /** Whether the session, its node and its watches work. */
  const works = async (session: Session): Promise<void> => {
    let calls = 0;
    const stop = session.watch("/", "children", () => calls++);
    const name = `/works-${++count}`;
    await until("a write is done", async () => {
      const done = word(await session.write([{ kind: "create", path: name, data: bytes("") }]));
      return done === "yes" || done.startsWith("node-exists");
    });
    await until("the watch is called", () => calls > 0);
    stop();
  };

  test.each([
    ["killed", async (member: ZooKeeperServer) => await member.kill()],
    ["frozen", async (member: ZooKeeperServer) => member.freeze()],
  ])(
    "the member we are connected to is %s: the session goes on with another, nodes and watches too",
    async (_, lose) => {
      const session = await open();
      await mine(session);
      const { id } = session;
      const lost = memberOf(session);
      await lose(lost);
      await until("connected to another", () => {
        const { status } = session;
        return status.kind === "connected" && status.server !== lost.connectString;
      });
      await works(session);
      expect(session.id).toBe(id);
      expect((await session.read("/mine", { confirmed: true }))?.ephemeralOwner).toBe(id);
    },
  );

  test("all are killed and come back: the same session, or one that is known to be over", async () => {
    const session = await open();
    await mine(session);
    const { id } = session;
    await Promise.all(ensemble.members.map((member) => member.kill()));
    await until("cut off", () => session.status.kind === "connecting");
    await Promise.all(ensemble.members.map((member) => member.launch()));
    await until("settled", () => session.status.kind !== "connecting");
    if (session.status.kind === "connected") {
      expect((await session.read("/mine", { confirmed: true }))?.ephemeralOwner).toBe(id);
    } else {
      expect(statusKind(session)).toBe("expired");
    }
    await works(await open());
  });

  test("all are frozen for longer than the session: over by our own clock, and a new one is made after the thaw", async () => {
    const session = await open(2000);
    for (const member of ensemble.members) member.freeze();
    await until("expired", () => session.status.kind === "expired");
    const next = openSession(`${ensemble.connectString}/ensemble-${count}`);
    for (const member of ensemble.members) member.thaw();
    await connected(next, 60_000);
    await works(next);
  });

  test("the member we are connected to has lost the others but still answers: that keeps no session alive", async () => {
    const leader = await ensemble.leader();
    const alone = ensemble.members.find((member) => member !== leader);
    if (alone === undefined) throw new Error("no follower");
    const session = await connected(
      openSession(`${alone.connectString}/ensemble-${++count}`, { sessionTimeoutMs: 2000 }),
    );
    // Nothing may be under way: what waits for the leader would hold up the answers to all that comes after.
    await put(session, "/a");
    for (const member of ensemble.members) if (member !== alone) member.freeze();
    const from = performance.now();
    let lastAlive = from;
    await until("expired", () => {
      const now = performance.now();
      if (session.status.kind === "expired") return true;
      lastAlive = now;
      return false;
    });
    // The member itself gives up on its leader after four ticks (4 s).
    expect(lastAlive - from).toBeLessThan(2000);
  });

  test("a majority is gone: reads of what is unsure fail, nothing is invented, and all goes on when it is back", async () => {
    const session = await open();
    await put(session, "/a");
    const rest = ensemble.members.filter((member) => member !== memberOf(session));
    await Promise.all(rest.map((member) => member.kill()));
    await until("cut off", () => session.status.kind !== "connected");
    expect(word(await session.write([{ kind: "set", path: "/a", data: bytes("x"), version: 0 }]))).toBe("unsent");
    await Promise.all(rest.map((member) => member.launch()));
    await until("settled", () => session.status.kind !== "connecting");
    await works(session.status.kind === "connected" ? session : await open());
  });

  test("the session was taken up on another member: what the first one sends is put back, and did not happen", async () => {
    const [one, two] = ensemble.members;
    if (one === undefined || two === undefined) throw new Error("no members");
    const place = `/ensemble-${++count}`;
    const first = await connected(openSession(`${one.connectString}${place}`));
    const { ticket } = first;
    if (ticket === undefined) throw new Error("no ticket");
    // The second moves the session; what the first then writes over its open connection is refused.
    const second = await connected(openSession(`${two.connectString}${place}`, { resume: ticket }));
    expect(second.id).toBe(first.id);
    const outcome = await first.write([{ kind: "create", path: "/by-first", data: bytes("") }]);
    expect(["unsent", "unknown"]).toContain(outcome.kind);
    await second.abandon();
    await connected(first);
    expect(await first.read("/by-first", { confirmed: true })).toBeUndefined();
    await works(first);
  });
});
