// A server by script: what the driver does with everything that a server can do wrong, and what it says itself and when.

import { createServer, type AddressInfo } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { explainError } from "../../../src/base/errors.ts";
import type { Session, WriteOutcome } from "../../../src/coordination/port.ts";
import { EVENT, OP, readChildren, XID } from "../../../src/coordination/zookeeper/messages.ts";
import type { Timers } from "../../../src/world/port.ts";
import {
  answerByDefault,
  greeting,
  node,
  SESSION_ID,
  startFakeServer,
  type Asked,
  type FakeServer,
  type Script,
} from "./fake-server.ts";
import {
  bytes,
  clock,
  closeSessions,
  connected,
  countedTimers,
  keptLog,
  openSession,
  statusKind,
  until,
  word,
} from "./harness.ts";

const servers: FakeServer[] = [];
async function fake(script: Script = {}): Promise<FakeServer> {
  const server = await startFakeServer(script);
  servers.push(server);
  return server;
}
afterEach(async () => {
  await closeSessions();
  await Promise.all(servers.splice(0).map((server) => server.stop()));
});

const write = (session: Session): Promise<WriteOutcome> =>
  session.write([{ kind: "create", path: "/a", data: bytes("") }]);
/** The last moment before which the status was asked for and was not `expired`. */
async function untilExpired(session: Session): Promise<number> {
  let lastAlive = 0;
  await until("expired", () => {
    const now = performance.now();
    if (session.status.kind === "expired") return true;
    lastAlive = now;
    return false;
  });
  return lastAlive;
}
/** Of the requests that callers made. */
const isCall = ({ type }: Asked): boolean => type === OP.getData || type === OP.multi || type === OP.getChildren;

describe("a handshake", () => {
  test.each<[string, (timeoutMs: number) => Uint8Array]>([
    ["from an HTTP server", () => bytes("HTTP/1.1 400 Bad Request\r\n\r\n")],
    ["with a negative length", () => Uint8Array.from([0xff, 0xff, 0xff, 0xf0])],
    ["longer than any", () => Uint8Array.from([0, 1, 0, 0])],
    ["of random bytes", () => Uint8Array.from([0, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8])],
    ["with a password longer than the frame", () => Uint8Array.from([...greeting(4000).slice(0, 20), 0, 0, 99, 0])],
  ])("%s ends the connection, and another server is tried", async (_, answer) => {
    const bad = await fake({ greet: () => answer(4000) });
    const good = await fake();
    const session = await connected(openSession(`${bad.connectString},${good.connectString}`));
    expect(session.status).toMatchObject({ server: good.connectString });
  });

  test("that is cut short, refused, or never comes leads to another server within its share of the session's time", async () => {
    const cut = await fake({
      greet: (connection) => {
        connection.send(greeting(4000).slice(0, 17));
        connection.end();
        return undefined;
      },
    });
    const refused = await fake({ accept: (socket) => socket.resetAndDestroy() });
    const silent = await fake({ greet: () => undefined });
    const good = await fake();
    const all = [cut, refused, silent, good].map((server) => server.connectString).join(",");
    const from = performance.now();
    await connected(openSession(all, { sessionTimeoutMs: 1200 }));
    // A quarter of the session for the one that is silent.
    expect(performance.now() - from).toBeLessThan(1200);
  });

  test("answered byte by byte is a handshake", async () => {
    const slow = await fake({
      greet: (connection) => {
        const [...all] = greeting(4000);
        const next = (): void => {
          const byte = all.shift();
          if (byte === undefined) return;
          connection.send(Uint8Array.of(byte));
          setImmediate(next);
        };
        next();
        return undefined;
      },
    });
    await connected(openSession(slow.connectString));
  });

  test("refused for ever keeps the session connecting, with attempts that are paused and a log that says so once", async () => {
    const refusing = await fake({ accept: (socket) => socket.resetAndDestroy() });
    const log = keptLog();
    const session = openSession(refusing.connectString, { log });
    await until("eight attempts", () => log.lines.filter(({ level }) => level === "debug").length >= 8);
    expect(statusKind(session)).toBe("connecting");
    expect(log.lines.filter(({ level }) => level === "warn").map(({ message }) => message)).toEqual([
      "the store can't be reached",
    ]);
    await expect(session.read("/a")).rejects.toMatchObject({ code: "STORE_UNREACHABLE", cause: expect.any(Error) });
  });

  test("with a server that isn't there at all is told as such, however many addresses the name has", async () => {
    const placeholder = createServer();
    await new Promise<void>((resolve) => placeholder.listen(0, "127.0.0.1", resolve));
    const { port } = placeholder.address() as AddressInfo;
    await new Promise<void>((resolve) => placeholder.close(() => resolve()));
    const session = openSession(`localhost:${port}`);
    await until("told why", async () => {
      const error: unknown = await session.read("/a").catch((error: unknown) => error);
      return explainError(error).includes("ECONNREFUSED");
    });
    await session.close({ limitMs: 200 });
    expect(statusKind(session)).toBe("closed");
  });

  test("over IPv6 is one", async () => {
    const server = await fake({ host: "::1" });
    const session = await connected(openSession(server.connectString));
    expect(session.status).toMatchObject({ server: `[::1]:${server.port}` });
  });
});

describe("answers", () => {
  /** Answers the first two calls as the test says, and none before both are there. */
  async function afterTwoCalls(answer: (calls: readonly [Asked, Asked]) => void) {
    const calls: Asked[] = [];
    const server = await fake({
      request: (asked) => {
        answerByDefault(asked);
        if (!isCall(asked)) return;
        calls.push(asked);
        const [first, second] = calls;
        if (calls.length === 2 && first !== undefined && second !== undefined) answer([first, second]);
      },
    });
    const session = await connected(openSession(server.connectString));
    const read = session.read("/a").then(
      () => "read",
      (error: { code: string }) => error.code,
    );
    const outcome = await write(session);
    return { server, session, read: await read, outcome };
  }

  test.each<[string, (calls: readonly [Asked, Asked]) => void]>([
    // With a body that would pass as the first one's answer.
    ["out of order", ([, second]) => second.from.answer(second.xid, { body: (to) => node(to) })],
    ["to what was not asked", ([first]) => first.from.answer(999)],
    ["to a ping, which is never sent", ([first]) => first.from.answer(-2)],
    ["shorter than their header", ([first]) => first.from.send(Uint8Array.from([0, 0, 0, 2, 1, 1]))],
    ["longer than the limit", ([first]) => first.from.send(Uint8Array.from([0x7f, 0, 0, 0]))],
    ["of a negative length", ([first]) => first.from.send(Uint8Array.from([0xff, 0, 0, 0]))],
    ["with a malformed body", ([first]) => first.from.answer(first.xid, { body: (to) => to.int(1_000_000) })],
    ["cut short by the end", ([first]) => (first.from.send(Uint8Array.from([0, 0, 0, 60, 1])), first.from.end())],
    ["that never come, cut off", ([first]) => first.from.end()],
  ])("%s end the connection; the read fails, the write is unknown, and the session goes on", async (_, answer) => {
    const { server, session, read, outcome } = await afterTwoCalls(answer);
    expect(read).toBe("STORE_UNREACHABLE");
    expect(outcome).toMatchObject({ kind: "unknown", error: { code: "STORE_OUTCOME_UNKNOWN", remedy: "reobserve" } });
    await until("another connection", () => server.connections.length === 2);
    await connected(session);
    expect(server.connections.map(({ asksFor }) => asksFor)).toEqual([0n, SESSION_ID]);
  });

  test("in order, the second malformed: the first still counts", async () => {
    const { read, outcome } = await afterTwoCalls(([first, second]) => {
      first.from.answer(first.xid, { body: (to) => node(to) });
      second.from.answer(second.xid, { body: (to) => to.int(77) });
    });
    expect([read, outcome.kind]).toEqual(["read", "unknown"]);
  });

  test("that the session is over end it: reads say so, writes may have happened, and nothing is tried again", async () => {
    const { server, session, read, outcome } = await afterTwoCalls(([first]) =>
      first.from.answer(first.xid, { error: -112 }),
    );
    expect([read, outcome.kind, statusKind(session)]).toEqual(["STORE_SESSION_EXPIRED", "unknown", "expired"]);
    expect(await write(session)).toMatchObject({ kind: "unsent", error: { code: "STORE_SESSION_EXPIRED" } });
    expect(session.ticket).toBeUndefined();
    await session.close();
    expect([statusKind(session), server.connections.length]).toEqual(["expired", 1]);
  });

  test("that the session was moved put the write back and lead to another connection", async () => {
    let moved = false;
    const server = await fake({
      request: (asked) => {
        answerByDefault(asked);
        if (isCall(asked) && !moved) {
          moved = true;
          asked.from.answer(asked.xid, { error: -118 });
        }
      },
    });
    const session = await connected(openSession(server.connectString));
    expect(word(await write(session))).toBe("unsent");
    await until("another connection", () => server.connections.length === 2);
    await connected(session);
  });

  test("of a read that isn't permitted name the node and are the operator's", async () => {
    const server = await fake({
      request: (asked) => {
        answerByDefault(asked);
        if (isCall(asked)) asked.from.answer(asked.xid, { error: -102 });
      },
    });
    const session = await connected(openSession(server.connectString));
    await expect(session.read("/a", { confirmed: false })).rejects.toMatchObject({
      code: "STORE_NOT_PERMITTED",
      remedy: "operator",
      message: expect.stringContaining("/a"),
    });
  });

  test("that refuse our user and password are told as such", async () => {
    const server = await fake({
      request: ({ type, xid, from }) => {
        if (type === OP.auth) from.answer(xid, { error: -115 });
      },
    });
    const log = keptLog();
    const session = openSession(server.connectString, { digest: "me:secret", log });
    await until("logged for the operator", () => log.lines.some(({ level }) => level === "error"));
    await until("told", async () => {
      const error: unknown = await session.read("/a").catch((error: unknown) => error);
      return (error as { cause?: { code?: string } }).cause?.code === "STORE_AUTHENTICATION";
    });
  });
});

describe("what is said on a connection", () => {
  test("is first who we are, then the watches, then what callers ask", async () => {
    const server = await fake({
      request: (asked) => {
        answerByDefault(asked);
        if (asked.type === OP.exists) asked.from.answer(asked.xid, { body: (to) => node(to) });
      },
    });
    const session = await connected(openSession(server.connectString, { digest: "me:secret" }));
    // Whatever is asked from within the news of being connected comes after the watches.
    session.onStatus(({ kind }) => {
      if (kind === "connected") session.read("/b").catch(() => {});
    });
    session.watch("/a", "data", () => {});
    await until("the watch is set", () => server.asked.some(({ type }) => type === OP.exists));
    server.connections[0]?.end();
    await until("asked again", () =>
      server.asked.some(({ type, from }) => type === OP.getData && from === server.connections[1]),
    );
    const said = server.asked.filter(({ from }) => from === server.connections[1]);
    expect(said.slice(0, 3).map(({ xid, type }) => [xid, type])).toEqual([
      [XID.auth, OP.auth],
      [XID.setWatches, OP.setWatches],
      [1, OP.getData],
    ]);
    const body = said[1]?.body;
    if (body === undefined) throw new Error("no watches");
    expect([body.long(), readChildren(body)]).toEqual([1n, ["/a"]]);
  });

  test("has a limit in number, after which calls are put back at once", async () => {
    const server = await fake({ timeoutMs: 60_000 });
    const session = await connected(openSession(server.connectString));
    const writes = Array.from({ length: 4200 }, () => session.write([{ kind: "check", path: "/a", version: 0 }]));
    await session.abandon();
    const words = (await Promise.all(writes)).map(word);
    expect(words.filter((one) => one === "unknown")).toHaveLength(4096);
    expect(words.filter((one) => one === "unsent")).toHaveLength(4200 - 4096);
  });
});

describe("time", () => {
  test("signs of life go out under a stream of notifications, and the stream is no answer: the session ends by our own clock", async () => {
    const server = await fake({ timeoutMs: 900, request: () => {} });
    const session = await connected(openSession(server.connectString, { sessionTimeoutMs: 900 }));
    const from = performance.now();
    const stream = setInterval(() => server.connections[0]?.notify(EVENT.dataChanged, "/a"), 10);
    const lastAlive = await untilExpired(session);
    clearInterval(stream);
    expect(lastAlive - from).toBeLessThan(900);
    expect(server.asked.filter(({ type }) => type === OP.sync).length).toBeGreaterThanOrEqual(2);
    expect(server.connections).toHaveLength(1);
  });

  test("signs of life go out under a stream of reads, which the server answers without its leader", async () => {
    let signs = 0;
    const server = await fake({
      timeoutMs: 900,
      greet: ({ asksFor }) => (asksFor === 0n ? greeting(900) : undefined),
      request: (asked) => {
        if (asked.type === OP.getData) asked.from.answer(asked.xid, { body: (to) => node(to) });
        else if (asked.type === OP.sync && ++signs <= 3) answerByDefault(asked);
        else if (asked.type === OP.sync) asked.from.answer(asked.xid, { error: -101 });
      },
    });
    const session = await connected(openSession(server.connectString, { sessionTimeoutMs: 900 }));
    await until("six signs", async () => {
      await session.read("/a");
      return signs >= 6;
    });
    expect([statusKind(session), server.connections.length]).toEqual(["connected", 1]);
  });

  test("a server that falls silent is left after two thirds of the session, for one that takes the session in time", async () => {
    let silent = false;
    const first = await fake({ timeoutMs: 1500, request: (asked) => (silent ? undefined : answerByDefault(asked)) });
    const session = await connected(openSession(first.connectString, { sessionTimeoutMs: 1500 }));
    const seen: string[] = [];
    session.onStatus(({ kind }) => seen.push(kind));
    silent = true;
    await until("left", () => seen.includes("connecting"));
    silent = false;
    await connected(session);
    expect(seen).toEqual(["connecting", "connected"]);
    expect(first.connections.at(-1)?.asksFor).toBe(SESSION_ID);
  });

  test("the session is over its time after the last answered exchange was sent, never later", async () => {
    let heardAt = 0;
    const server = await fake({
      timeoutMs: 1000,
      greet: ({ asksFor }) => (asksFor === 0n ? greeting(1000) : undefined),
      request: (asked) => {
        if (asked.type !== OP.sync) return;
        if (server.asked.filter(({ type }) => type === OP.sync).length > 2) return;
        heardAt = performance.now();
        answerByDefault(asked);
      },
    });
    const session = await connected(openSession(server.connectString, { sessionTimeoutMs: 1000 }));
    const lastAlive = await untilExpired(session);
    // A server counts from when it heard; that was not before it was sent.
    expect(lastAlive - heardAt).toBeLessThan(1000);
    expect(lastAlive - heardAt).toBeGreaterThan(800);
  });

  test("an answered read, which the server gives without its leader, does not move the end of the session", async () => {
    let greetedAt = 0;
    let silent = false;
    const server = await fake({
      greet: ({ asksFor }) => {
        if (asksFor !== 0n) return undefined;
        greetedAt = performance.now();
        return greeting(1200);
      },
      request: (asked) => {
        silent ||= asked.type === OP.sync;
        if (asked.type === OP.getData && !silent) asked.from.answer(asked.xid, { body: (to) => node(to) });
      },
    });
    const session = await connected(openSession(server.connectString, { sessionTimeoutMs: 1200 }));
    let reads = 0;
    const isSilent = (): boolean => silent;
    while (!isSilent()) {
      await Promise.race([session.read("/a").catch(() => {}), until("silent", isSilent)]);
      reads++;
    }
    expect(reads).toBeGreaterThan(1);
    expect((await untilExpired(session)) - greetedAt).toBeLessThan(1200);
  });

  test("timers that come late don't keep a session: whoever asks for the status is told by the clock", async () => {
    const server = await fake({ timeoutMs: 4000 });
    let skew = 0;
    const session = await connected(
      openSession(server.connectString, { clock: { now: () => clock.now() + skew, wall: () => Date.now() } }),
    );
    skew = 3900;
    expect(session.status.kind).toBe("connected");
    skew = 4000;
    expect(session.status.kind).toBe("expired");
    skew = 0;
    expect(session.status.kind).toBe("expired");
    expect(word(await write(session))).toBe("unsent");
  });

  test("after a stall of our own process, answers that lie unread count before the silence does", async () => {
    const server = await fake({ timeoutMs: 3000 });
    let skew = 0;
    const due: (() => void)[] = [];
    const real = countedTimers();
    // Timers stand still during the stall, and all come at once at its end, before what arrived meanwhile is read.
    let stalled = false;
    const timers: Timers = {
      after: (delayMs, callback) => real.after(delayMs, () => (stalled ? due.push(callback) : callback())),
    };
    const session = await connected(
      openSession(server.connectString, { clock: { now: () => clock.now() + skew, wall: () => Date.now() }, timers }),
    );
    await until("a sign of life", () => server.asked.some(({ type }) => type === OP.sync));
    const seen: string[] = [];
    session.onStatus(({ kind }) => seen.push(kind));
    stalled = true;
    await until("the next timer", () => due.length > 0);
    skew = 1500;
    stalled = false;
    for (const callback of due.splice(0)) callback();
    const before = server.asked.length;
    await until("two more", () => server.asked.length > before + 1 || seen.length > 0);
    expect([seen, server.connections.length]).toEqual([[], 1]);
  });

  test("close is bounded where the server doesn't answer it", async () => {
    const server = await fake();
    const session = await connected(openSession(server.connectString));
    const pending = write(session);
    const from = performance.now();
    await session.close({ limitMs: 150 });
    expect(performance.now() - from).toBeLessThan(1500);
    expect([statusKind(session), word(await pending)]).toEqual(["closed", "unknown"]);
  });

  test("close without any answer on this connection is said again on the next", async () => {
    let closes = 0;
    const server = await fake({
      request: (asked) => {
        answerByDefault(asked);
        if (asked.type !== OP.closeSession) return;
        closes++;
        if (closes === 1) asked.from.end();
        else asked.from.answer(asked.xid);
      },
    });
    const session = await connected(openSession(server.connectString));
    await session.close({ limitMs: 10_000 });
    expect([statusKind(session), closes]).toEqual(["closed", 2]);
  });

  test("nothing is left over when a session has ended: no timer, no connection", async () => {
    const server = await fake();
    const timers = countedTimers();
    const session = await connected(openSession(server.connectString, { timers }));
    await session.abandon();
    expect(timers.waiting).toBe(0);
    const other = await connected(openSession(server.connectString, { timers }));
    await other.close({ limitMs: 50 });
    expect(timers.waiting).toBe(0);
  });
});

test("every call settles, whatever the server does and when", async () => {
  let step = 0;
  const server = await fake({
    timeoutMs: 1500,
    request: (asked) => {
      step++;
      if (step % 7 === 0) return asked.from.end();
      if (step % 11 === 0) return asked.from.send(Uint8Array.from([0, 0, 0, 1, 9]));
      if (step % 3 !== 0) return answerByDefault(asked);
      asked.from.answer(asked.xid, { error: [-101, -102, -1, -112, 0][step % 5] ?? 0 });
    },
  });
  let settled = 0;
  let asked = 0;
  const count = (): void => void settled++;
  for (let round = 0; round < 12; round++) {
    const session = openSession(server.connectString, { sessionTimeoutMs: 1500 });
    await until("connected or over", () => session.status.kind !== "connecting");
    for (let i = 0; i < 40; i++) {
      asked += 3;
      session.read("/a", { confirmed: i % 2 === 0 }).then(count, count);
      session.list("/a").then(count, count);
      write(session).then(count, () => {});
      if (i % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    if (round % 2 === 0) void session.close({ limitMs: 100 });
    else void session.abandon();
  }
  await until("all settled", () => settled === asked);
});
