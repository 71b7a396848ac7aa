import { describe, expect, test } from "vitest";
import { memoryStore } from "../../../src/coordination/memory/driver.ts";
import type { Session, StoreOperation } from "../../../src/coordination/port.ts";
import { manualTime } from "./manual-time.ts";

const create = (path: string, ephemeral = false): StoreOperation => ({
  kind: "create",
  path,
  data: new Uint8Array([1]),
  ephemeral,
});

async function setUp({ latencyMs = 0 } = {}) {
  const time = manualTime();
  const store = memoryStore({ ...time, latencyMs: () => latencyMs });
  const open = async (client: string): Promise<Session> => {
    const session = store.as(client).open({ sessionTimeoutMs: 3000 });
    await time.advance(latencyMs * 4);
    expect(session.status.kind).toBe("connected");
    return session;
  };
  return { time, store, open, a: await open("a"), b: await open("b") };
}

describe("the store in memory", () => {
  test("a write that is lost is unknown, and never happens", async () => {
    const { time, store, a } = await setUp();
    store.faultNextWrite("a", "lost");
    const outcome = a.write([create("/x")]);
    await time.advance(10_000);
    expect((await outcome).kind).toBe("unknown");
    expect(store.peek("/x")).toBeUndefined();
    expect(a.status.kind).toBe("connected");
  });

  test("a write whose answer is lost is unknown, and has happened", async () => {
    const { time, store, a } = await setUp();
    store.faultNextWrite("a", "done");
    const outcome = a.write([create("/x")]);
    await time.advance(0);
    expect((await outcome).kind).toBe("unknown");
    expect(store.peek("/x")).toBeDefined();
  });

  test("a write that lands late happens after the same session has read that it did not", async () => {
    const { time, store, a } = await setUp();
    store.faultNextWrite("a", { lateMs: 2000 });
    const outcome = a.write([create("/x")]);
    await time.advance(1000);
    expect((await outcome).kind).toBe("unknown");
    expect(await a.read("/x", { confirmed: true })).toBeUndefined();
    await time.advance(1000);
    expect(await a.read("/x")).toBeDefined();
  });

  test("a write that lands late does nothing where its condition is gone, nor after its session's end", async () => {
    const { time, store, a, b } = await setUp();
    await b.write([create("/x")]);
    store.faultNextWrite("a", { lateMs: 1000 });
    void a.write([{ kind: "set", path: "/x", data: new Uint8Array([2]), version: 0 }]);
    await time.advance(500);
    await b.write([{ kind: "set", path: "/x", data: new Uint8Array([3]), version: 0 }]);
    await time.advance(1000);
    expect(store.peek("/x")).toMatchObject({ version: 1, data: new Uint8Array([3]) });

    store.faultNextWrite("a", { lateMs: 1000 });
    void a.write([create("/e", true)]);
    await time.advance(100);
    store.expire("a");
    await time.advance(2000);
    expect(store.peek("/e")).toBeUndefined();
  });

  test("a fault meant for one client leaves others alone", async () => {
    const { time, store, b } = await setUp();
    store.faultNextWrite("a", "lost");
    store.cut("a");
    const outcome = b.write([create("/x")]);
    await time.advance(0);
    expect((await outcome).kind).toBe("yes");
  });

  test.each(["arrive", "lost"] as const)("writes on their way when the connection breaks: %s", async (inFlight) => {
    const { time, store, a } = await setUp({ latencyMs: 10 });
    const outcome = a.write([create("/x")]);
    await time.advance(5);
    store.cut("a", { inFlight });
    await time.advance(20);
    expect((await outcome).kind).toBe("unknown");
    expect(store.peek("/x") !== undefined).toBe(inFlight === "arrive");
  });

  test("a silent cut is noticed after two thirds of the session's time, and survived if it ends before the rest", async () => {
    const { time, store, a } = await setUp();
    await a.write([create("/e", true)]);
    store.cut("a", { silent: true });
    await time.advance(1900);
    expect(a.status.kind).toBe("connected");
    await time.advance(200);
    expect(a.status.kind).toBe("connecting");
    store.restore("a");
    await time.advance(700);
    expect(a.status.kind).toBe("connected");
    expect(store.peek("/e")?.ephemeralOwner).toBe(a.id);
  });

  test("a session that is cut off for its time is over, first for itself, then for the store", async () => {
    const { time, store, a } = await setUp();
    await a.write([create("/e", true)]);
    store.cut("a", { silent: true });
    await time.advance(3000);
    expect(a.status.kind).toBe("expired");
    expect(store.peek("/e")).toBeDefined();
    await time.advance(200);
    expect(store.peek("/e")).toBeUndefined();
  });

  test("an expired session is told at once where it is connected", async () => {
    const { time, store, a, b } = await setUp();
    await a.write([create("/e", true)]);
    store.expire("a");
    await time.advance(0);
    expect([a.status.kind, b.status.kind]).toEqual(["expired", "connected"]);
    expect(store.peek("/e")).toBeUndefined();
  });

  test("a store that was away shorter than a session's time ends none; nor does it end any while it is away", async () => {
    const { time, store, a } = await setUp();
    await a.write([create("/e", true)]);
    store.stop();
    await time.advance(2000);
    expect(a.status.kind).toBe("connecting");
    store.start();
    await time.advance(500);
    expect(a.status.kind).toBe("connected");
    store.stop();
    await time.advance(60_000);
    expect(a.status.kind).toBe("expired");
    expect(store.peek("/e")).toBeDefined();
    store.start();
    await time.advance(3000);
    expect(store.peek("/e")).toBeDefined();
    await time.advance(200);
    expect(store.peek("/e")).toBeUndefined();
  });

  test("a client whose server is behind reads what was, hears of nothing, and is up to date after a confirmed read or a write", async () => {
    const { time, store, a, b } = await setUp();
    const done = async <T>(promise: Promise<T>): Promise<T> => {
      await time.advance(0);
      return promise;
    };
    let calls = 0;
    a.watch("/", "children", () => calls++);
    await time.advance(0);
    for (const [path, catchUp] of [
      ["/x", () => a.read("/", { confirmed: true })],
      ["/y", () => a.write([create("/z")])],
    ] as const) {
      store.lag("a");
      const before = calls;
      await done(b.write([create(path)]));
      expect(await done(a.read(path))).toBeUndefined();
      expect(await done(a.list("/"))).not.toContain(path.slice(1));
      expect(calls).toBe(before);
      await done<unknown>(catchUp());
      expect(calls).toBeGreaterThan(before);
      expect(await done(a.read(path))).toBeDefined();
      expect(await done(a.list("/"))).toContain(path.slice(1));
    }
  });

  test("taking up a session elsewhere ends the former connection", async () => {
    const { time, store, a } = await setUp();
    const ticket = a.ticket as NonNullable<typeof a.ticket>;
    const again = store.as("c").open({ sessionTimeoutMs: 3000, resume: ticket });
    await time.advance(0);
    expect(again.id).toBe(a.id);
    expect(store.sessionIds).toHaveLength(2);
  });

  test("messages of one connection keep their order, however their delays are drawn", async () => {
    const time = manualTime();
    const store = memoryStore({ ...time, latencyMs: () => Math.floor(time.random.number() * 20) });
    const session = store.open({ sessionTimeoutMs: 3000 });
    await time.advance(200);
    const order: number[] = [];
    const writes = Array.from({ length: 50 }, async (_, index) => {
      const outcome = await session.write([create(`/n${index}`)]);
      order.push(index);
      return outcome.kind;
    });
    await time.advance(3000);
    expect(await Promise.all(writes)).toEqual(writes.map(() => "yes"));
    expect(order).toEqual(writes.map((_, index) => index));
  });

  test("nothing can be made below an ephemeral node, and a path that is none is refused at once", async () => {
    const { time, a } = await setUp();
    const outcome = a.write([create("/e", true), create("/e/x")]);
    await time.advance(0);
    expect(await outcome).toEqual({ kind: "no", operation: 1, refusal: "not-permitted" });
    for (const path of ["", "x", "/x/", "//", "/a/../b"])
      await expect(a.write([create(path)])).rejects.toThrow(RangeError);
  });

  test("an idle session costs nothing but pings, and leaves no timers behind when closed", async () => {
    const { time, store, a, b } = await setUp();
    await time.advance(600_000);
    expect([a.status.kind, b.status.kind]).toEqual(["connected", "connected"]);
    const closing = Promise.all([a.close(), b.close()]);
    await time.advance(0);
    await closing;
    expect(store.sessionIds).toEqual([]);
  });
});
