// What every driver of src/coordination/port.ts must do. A driver's test hands in a way to make a store; faults are optional, and
// tests that need one which the fixture lacks are reported as left out.

import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Ms } from "../../src/base/units.ts";
import type {
  Coordination,
  NodePath,
  OperationResult,
  Session,
  StoreOperation,
  WriteOutcome,
} from "../../src/coordination/port.ts";

export interface CoordinationFixture {
  /** The driver under test; `cut` and `restore` work on its connections. */
  readonly coordination: Coordination;
  /** The same store by a way that is never cut; default: the same. Required where there is `cut`. */
  readonly other?: Coordination;
  /** As short as the store takes. */
  readonly sessionTimeoutMs: Ms;
  /** A path that does not exist yet, in an existing folder; of this fixture alone. */
  readonly root: NodePath;
  readonly evaluationOnly?: boolean;
  /** Breaks the connections of `coordination`, and keeps new ones from coming up. */
  cut?(): void | Promise<void>;
  restore?(): void | Promise<void>;
  dispose(): void | Promise<void>;
}

const LIMIT_MS = 15_000;

/** Polls: what is waited for has no event of its own. */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  limitMs: Ms = LIMIT_MS,
): Promise<void> {
  const end = performance.now() + limitMs;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`not within ${limitMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export async function connected(session: Session): Promise<Session> {
  await until("the session is connected", () => session.status.kind === "connected");
  return session;
}

export function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

export function resultsOf(outcome: WriteOutcome): readonly OperationResult[] {
  if (outcome.kind !== "yes") throw new Error(`the write was not done: ${JSON.stringify(outcome)}`);
  return outcome.results;
}

const create = (path: NodePath, text = ""): StoreOperation => ({ kind: "create", path, data: bytes(text) });
const set = (path: NodePath, text: string, version: number): StoreOperation => ({
  kind: "set",
  path,
  data: bytes(text),
  version,
});
const ephemeral = (path: NodePath): StoreOperation => ({ kind: "create", path, data: bytes("e"), ephemeral: true });
const codeOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => "fulfilled",
    (error: unknown) => (error as { code?: string }).code,
  );

interface Context {
  readonly fixture: () => CoordinationFixture;
  readonly root: (name?: string) => NodePath;
  readonly open: (options?: { resume?: NonNullable<Session["ticket"]>; by?: "other" }) => Promise<Session>;
  /** Without waiting for it to be connected. */
  readonly opening: () => Session;
}

export function coordinationContract(name: string, makeFixture: () => Promise<CoordinationFixture>): void {
  describe(`coordination contract: ${name}`, () => {
    let fixture: CoordinationFixture;
    let sessions: Session[] = [];
    const track = (session: Session): Session => {
      sessions.push(session);
      return session;
    };
    const context: Context = {
      fixture: () => fixture,
      root: (below) => (below === undefined ? fixture.root : `${fixture.root}/${below}`),
      open: ({ resume, by } = {}) => {
        const { coordination, other, sessionTimeoutMs } = fixture;
        const way = by === "other" ? (other ?? coordination) : coordination;
        return connected(track(way.open({ sessionTimeoutMs, ...(resume && { resume }) })));
      },
      opening: () => track(fixture.coordination.open({ sessionTimeoutMs: fixture.sessionTimeoutMs })),
    };

    beforeEach(async () => {
      fixture = await makeFixture();
      const maker = await context.open({ by: "other" });
      resultsOf(await maker.write([create(fixture.root)]));
    });

    afterEach(async () => {
      await fixture.restore?.();
      await Promise.all(sessions.map((session) => session.close({ limitMs: 2000 })));
      sessions = [];
      await fixture.dispose();
    });

    sessionTests(context);
    nodeTests(context);
    writeTests(context);
    watchTests(context);
    endTests(context);
    faultTests(context);
  });
}

function sessionTests({ fixture, opening, open }: Context): void {
  test("a session is connecting when it is opened, then connected, and tells it", async () => {
    const session = opening();
    const seen: string[] = [];
    session.onStatus((status) => seen.push(status.kind));
    expect(session.status.kind).toBe("connecting");
    expect(session.id).toBeUndefined();
    await connected(session);
    expect(session.id).toBeTruthy();
    expect(session.ticket?.sessionId).toBeTruthy();
    expect(session.timeoutMs).toBeGreaterThan(0);
    expect(session.evaluationOnly).toBe(fixture().evaluationOnly ?? false);
    await until("the listener was called", () => seen.includes("connected"));
  });

  test("a status listener that was taken back is not called", async () => {
    const session = await open();
    const seen: string[] = [];
    session.onStatus((status) => seen.push(status.kind));
    const stop = session.onStatus(() => seen.push("stopped"));
    stop();
    await session.close();
    await until("the other listener was called", () => seen.includes("closed"));
    expect(seen).not.toContain("stopped");
  });

  test("two sessions have different ids", async () => {
    const [a, b] = [await open(), await open()];
    expect(a.id).not.toBe(b.id);
  });
}

function nodeTests({ root, open }: Context): void {
  test("a node is read as it was written, with versions that count its sets from 0", async () => {
    const session = await open();
    const path = root("node");
    resultsOf(await session.write([create(path, "one")]));
    const first = await session.read(path);
    expect(new TextDecoder().decode(first?.data)).toBe("one");
    expect(first).toMatchObject({ version: 0, ephemeralOwner: undefined });
    expect(first?.changedAt).toBe(first?.createdAt);
    expect(Math.abs((first?.changedWallMs ?? 0) - Date.now())).toBeLessThan(60_000);
    expect(resultsOf(await session.write([set(path, "two", 0)]))).toEqual([{ path, version: 1 }]);
    const second = await session.read(path);
    expect(new TextDecoder().decode(second?.data)).toBe("two");
    expect(second).toMatchObject({ version: 1, createdAt: first?.createdAt });
    expect((second?.changedAt ?? 0n) > (first?.changedAt ?? 0n)).toBe(true);
  });

  test("a node that is not there is undefined, and so are its children", async () => {
    const session = await open();
    expect(await session.read(root("nothing"))).toBeUndefined();
    expect(await session.list(root("nothing"))).toBeUndefined();
    expect(await session.list(root())).toEqual([]);
  });

  test("a folder lists the names of its children", async () => {
    const session = await open();
    resultsOf(await session.write([create(root("b")), create(root("a")), create(root("a/below"))]));
    expect([...((await session.list(root())) ?? [])].sort()).toEqual(["a", "b"]);
  });

  test("empty data and any bytes survive", async () => {
    const session = await open();
    const data = Uint8Array.from({ length: 256 }, (_, index) => index);
    resultsOf(await session.write([create(root("empty")), { kind: "create", path: root("all"), data }]));
    expect((await session.read(root("empty")))?.data.length).toBe(0);
    expect([...((await session.read(root("all")))?.data ?? [])]).toEqual([...data]);
  });

  test("a confirmed read sees what another session had been told is done", async () => {
    const [writer, reader] = [await open(), await open({ by: "other" })];
    const path = root("node");
    resultsOf(await writer.write([create(path, "0")]));
    for (let version = 0; version < 20; version++) {
      resultsOf(await writer.write([set(path, String(version + 1), version)]));
      expect((await reader.read(path, { confirmed: true }))?.version).toBe(version + 1);
    }
  });

  test("sequential names have ten digits, and grow, also past deleted ones and inside one write", async () => {
    const session = await open();
    const one = (): StoreOperation => ({ ...create(`${root()}/n-`), sequential: true }) as StoreOperation;
    const names: string[] = [];
    for (let round = 0; round < 3; round++) {
      const made = resultsOf(await session.write([one(), one()])).map(({ path }) => path);
      names.push(...made);
      resultsOf(await session.write([{ kind: "delete", path: made[1] as string }]));
    }
    for (const name of names) expect(name.slice(root().length + 1)).toMatch(/^n-\d{10}$/);
    expect(names).toEqual([...names].sort());
    expect(new Set(names).size).toBe(6);
  });

  test("an ephemeral node names its session", async () => {
    const session = await open();
    resultsOf(await session.write([ephemeral(root("e"))]));
    expect((await session.read(root("e")))?.ephemeralOwner).toBe(session.id);
  });
}

function writeTests({ root, open }: Context): void {
  test("a set on another version than the node's is refused, version 0 included", async () => {
    const session = await open();
    const path = root("node");
    resultsOf(await session.write([create(path, "0")]));
    expect(await session.write([set(path, "x", 1)])).toEqual({ kind: "no", operation: 0, refusal: "bad-version" });
    resultsOf(await session.write([set(path, "1", 0)]));
    expect(await session.write([set(path, "x", 0)])).toEqual({ kind: "no", operation: 0, refusal: "bad-version" });
    const check: StoreOperation = { kind: "check", path, version: 0 };
    expect(await session.write([check, create(root("x"))])).toEqual({
      kind: "no",
      operation: 0,
      refusal: "bad-version",
    });
    expect(await session.write([{ kind: "delete", path, version: 0 }])).toMatchObject({ refusal: "bad-version" });
    expect(new TextDecoder().decode((await session.read(path))?.data)).toBe("1");
  });

  test("create and set in one write leave version 1", async () => {
    const session = await open();
    const path = root("state");
    const results = resultsOf(await session.write([create(path, "a"), set(path, "b", 0)]));
    expect(results[1]).toEqual({ path, version: 1 });
    expect((await session.read(path))?.version).toBe(1);
  });

  test.each<[string, (root: NodePath) => StoreOperation]>([
    ["no-node", (root) => set(`${root}/nothing`, "x", 0)],
    ["no-node", (root) => ({ kind: "delete", path: `${root}/nothing` })],
    ["no-node", (root) => ({ kind: "check", path: `${root}/nothing`, version: 0 })],
    ["node-exists", (root) => create(`${root}/full`)],
    ["not-empty", (root) => ({ kind: "delete", path: `${root}/full` })],
    ["no-parent", (root) => create(`${root}/nothing/below`)],
    ["bad-version", (root) => set(`${root}/full`, "x", 7)],
  ])("of several operations none happens if one is refused, and its index is told: %s", async (refusal, refused) => {
    const session = await open();
    resultsOf(await session.write([create(root("full")), create(root("full/child"))]));
    const before = await session.read(root("full"));
    const outcome = await session.write([
      create(root("new")),
      set(root("full"), "changed", 0),
      { ...create(`${root()}/s-`), sequential: true } as StoreOperation,
      refused(root()),
      create(root("newer")),
    ]);
    // A set moves the version: the refused one is told by its own index all the same.
    expect(outcome).toEqual({ kind: "no", operation: 3, refusal });
    expect(await session.list(root())).toEqual(["full"]);
    expect(await session.read(root("full"))).toEqual(before);
  });

  test("of sessions that set one version only one gets it, each time", async () => {
    const all = await Promise.all([open(), open({ by: "other" }), open()]);
    const path = root("node");
    resultsOf(await (all[0] as Session).write([create(path)]));
    for (let version = 0; version < 10; version++) {
      const outcomes = await Promise.all(all.map((session) => session.write([set(path, "x", version)])));
      expect(outcomes.map(({ kind }) => kind).sort()).toEqual(["no", "no", "yes"]);
    }
  });

  test("a node of half a megabyte is taken, one of two is refused as too large, and the session goes on", async () => {
    const session = await open();
    const of = (size: number): StoreOperation => ({
      kind: "create",
      path: root(`n${size}`),
      data: new Uint8Array(size),
    });
    const { id } = session;
    expect(await session.write([create(root("x")), of(2_000_000)])).toMatchObject({ kind: "no", refusal: "too-large" });
    resultsOf(await session.write([of(500_000)]));
    expect((await session.read(root("n500000")))?.data.length).toBe(500_000);
    expect(await session.list(root())).toEqual(["n500000"]);
    expect([session.status.kind, session.id]).toEqual(["connected", id]);
  });

  test("calls of one session take effect in their order", async () => {
    const session = await open();
    const path = root("node");
    const outcomes = [session.write([create(path)]), ...[0, 1, 2].map((v) => session.write([set(path, String(v), v)]))];
    const read = session.read(path);
    for (const outcome of await Promise.all(outcomes)) expect(outcome.kind).toBe("yes");
    expect((await read)?.version).toBe(3);
  });
}

function watchTests({ root, open }: Context): void {
  test("a watch tells of creation, of each change and of deletion, by whomever", async () => {
    const [session, writer] = [await open(), await open({ by: "other" })];
    const path = root("node");
    let calls = 0;
    session.watch(path, "data", () => calls++);
    expect(calls).toBe(0);
    expect(await session.read(path)).toBeUndefined();
    const told = async (operations: readonly StoreOperation[]) => {
      const before = calls;
      resultsOf(await writer.write(operations));
      await until("the watch is called", () => calls > before);
    };
    await told([create(path)]);
    await session.read(path);
    for (let version = 0; version < 3; version++) {
      await told([set(path, "x", version)]);
      expect((await session.read(path, { confirmed: true }))?.version).toBe(version + 1);
    }
    await told([{ kind: "delete", path }]);
    await session.read(path);
    await told([create(path)]);
  });

  test("a watch on children tells of each that comes or goes, again and again", async () => {
    const [session, writer] = [await open(), await open({ by: "other" })];
    let calls = 0;
    session.watch(root(), "children", () => calls++);
    expect(await session.list(root())).toEqual([]);
    for (const operation of [create(root("a")), create(root("b")), { kind: "delete", path: root("a") } as const]) {
      const before = calls;
      resultsOf(await writer.write([operation]));
      await until("the watch is called", () => calls > before);
      await session.list(root());
    }
    expect(await session.list(root())).toEqual(["b"]);
  });

  test("a watch that is not looked after in between still ends with the last change told", async () => {
    const [session, writer] = [await open(), await open({ by: "other" })];
    const path = root("node");
    resultsOf(await writer.write([create(path)]));
    let seen = -1;
    const look = () => void session.read(path).then((node) => (seen = Math.max(seen, node?.version ?? -1)));
    session.watch(path, "data", look);
    look();
    for (let version = 0; version < 50; version++) resultsOf(await writer.write([set(path, "x", version)]));
    await until("the last version is seen", () => seen === 50);
  });

  test("a watch tells when the node goes with its session", async () => {
    const [session, owner] = [await open(), await open()];
    resultsOf(await owner.write([ephemeral(root("e"))]));
    let calls = 0;
    session.watch(root("e"), "data", () => calls++);
    expect(await session.read(root("e"))).toBeDefined();
    await owner.close();
    await until("the watch is called", () => calls > 0);
    expect(await session.read(root("e"), { confirmed: true })).toBeUndefined();
  });

  test("a watch that was taken back is silent, others on the same node are not", async () => {
    const [session, writer] = [await open(), await open()];
    const calls: string[] = [];
    const stop = session.watch(root(), "children", () => calls.push("stopped"));
    session.watch(root(), "children", () => calls.push("kept"));
    await session.list(root());
    stop();
    stop();
    resultsOf(await writer.write([create(root("a"))]));
    await until("the kept one is called", () => calls.includes("kept"));
    expect(calls).not.toContain("stopped");
  });
}

function endTests({ fixture, root, open }: Context): void {
  test("closing removes the session's nodes, is idempotent, and every later call says so", async () => {
    const [session, other] = [await open(), await open({ by: "other" })];
    resultsOf(await session.write([ephemeral(root("e")), create(root("p"))]));
    await Promise.all([session.close(), session.close()]);
    await session.close();
    expect(session.status.kind).toBe("closed");
    expect(await other.read(root("e"), { confirmed: true })).toBeUndefined();
    expect(await other.read(root("p"))).toBeDefined();
    expect(await codeOf(session.read(root()))).toBe("STORE_CLOSED");
    expect(await codeOf(session.list(root()))).toBe("STORE_CLOSED");
    expect(await session.write([create(root("late"))])).toMatchObject({
      kind: "unsent",
      error: { code: "STORE_CLOSED" },
    });
  });

  test("an abandoned session leaves its nodes, and its ticket takes them up again", async () => {
    const session = await open();
    resultsOf(await session.write([ephemeral(root("e"))]));
    const { id, ticket } = session;
    await session.abandon();
    expect(session.status.kind).toBe("closed");
    const again = await open({ resume: ticket as NonNullable<typeof ticket> });
    expect(again.id).toBe(id);
    expect((await again.read(root("e")))?.ephemeralOwner).toBe(id);
    const end = performance.now() + fixture().sessionTimeoutMs * 1.5;
    await until("more than the session's time has passed", () => performance.now() > end, LIMIT_MS * 4);
    expect((await again.read(root("e"), { confirmed: true }))?.ephemeralOwner).toBe(id);
  });

  test("an abandoned session that nobody takes up expires, and its nodes go; its ticket then gives a new session", async () => {
    const [session, other] = [await open(), await open({ by: "other" })];
    resultsOf(await session.write([ephemeral(root("e"))]));
    const ticket = session.ticket as NonNullable<typeof session.ticket>;
    await session.abandon();
    expect(await other.read(root("e"), { confirmed: true })).toBeDefined();
    await until("the node is gone", async () => (await other.read(root("e"))) === undefined, LIMIT_MS * 4);
    const again = await open({ resume: ticket });
    expect(again.id).not.toBe(ticket.sessionId);
    resultsOf(await again.write([ephemeral(root("e"))]));
  });

  test("a ticket with another secret does not get the session", async () => {
    const session = await open();
    const { id, ticket } = session;
    const { sessionId, secret } = ticket as NonNullable<typeof ticket>;
    const wrong = { sessionId, secret: secret.replace(/[0-9a-f]/g, "7") };
    const thief = await open({ resume: wrong });
    expect(thief.id).not.toBe(id);
    expect(await session.list(root())).toEqual([]);
  });

  test("calls under way when the session is closed or abandoned all settle", async () => {
    for (const end of ["close", "abandon"] as const) {
      const session = await open();
      const calls = Array.from({ length: 20 }, (_, index) => [
        session.write([create(root(`${end}${index}`))]),
        codeOf(session.read(root())),
        codeOf(session.list(root())),
      ]).flat();
      await session[end]();
      const settled = await Promise.all(calls);
      expect(settled.length).toBe(60);
    }
  });

  test("a call that is aborted before it is made is not sent; one under way settles at once", async () => {
    const session = await open();
    const aborted = AbortSignal.abort();
    expect(await codeOf(session.read(root(), { signal: aborted }))).not.toBe("fulfilled");
    expect(await codeOf(session.list(root(), { signal: aborted }))).not.toBe("fulfilled");
    expect((await session.write([create(root("never"))], { signal: aborted })).kind).toBe("unsent");
    const controller = new AbortController();
    const read = codeOf(session.read(root(), { signal: controller.signal }));
    const write = session.write([create(root("perhaps"))], { signal: controller.signal });
    controller.abort();
    expect(await read).not.toBe("fulfilled");
    expect((await write).kind).toBe("unknown");
    expect(await session.list(root())).not.toContain("never");
  });
}

function faultTests({ fixture, root, open }: Context): void {
  const cuttable = (skip: (note: string) => void) => {
    const made = fixture();
    if (!made.cut || !made.restore) skip("the fixture can't cut connections");
    return { cut: () => made.cut?.(), restore: () => made.restore?.() };
  };

  test("a session that is cut off says so, sends nothing, and comes back as itself with its nodes and watches", async ({
    skip,
  }) => {
    const { cut, restore } = cuttable(skip);
    const [session, other] = [await open(), await open({ by: "other" })];
    const { id } = session;
    resultsOf(await session.write([ephemeral(root("e"))]));
    let calls = 0;
    session.watch(root(), "children", () => calls++);
    await session.list(root());
    await cut();
    await until("the session knows", () => session.status.kind === "connecting");
    expect(await codeOf(session.read(root()))).toBe("STORE_UNREACHABLE");
    expect(await session.write([create(root("no"))])).toMatchObject({
      kind: "unsent",
      error: { code: "STORE_UNREACHABLE" },
    });
    resultsOf(await other.write([create(root("meanwhile"))]));
    const before = calls;
    await restore();
    await connected(session);
    expect(session.id).toBe(id);
    await until("the watch is called", () => calls > before);
    expect([...((await session.list(root())) ?? [])].sort()).toEqual(["e", "meanwhile"]);
    const armed = calls;
    resultsOf(await other.write([create(root("later"))]));
    await until("the watch is still there", () => calls > armed);
  });

  test("calls under way when the connection breaks settle: a read rejects, a write is unknown or known", async ({
    skip,
  }) => {
    const { cut, restore } = cuttable(skip);
    const session = await open();
    const writes = Array.from({ length: 20 }, (_, index) => session.write([create(root(`w${index}`))]));
    const reads = Array.from({ length: 20 }, () => codeOf(session.read(root())));
    await cut();
    const outcomes = await Promise.all(writes);
    expect(await Promise.all(reads)).toHaveLength(20);
    await restore();
    await connected(session);
    const names = (await session.list(root())) ?? [];
    for (const [index, { kind }] of outcomes.entries()) {
      expect(["yes", "unknown"]).toContain(kind);
      if (kind === "yes") expect(names).toContain(`w${index}`);
    }
  });

  test("a session that is cut off for its time knows its end before the store ends it", async ({ skip }) => {
    const { cut } = cuttable(skip);
    const [session, other] = [await open(), await open({ by: "other" })];
    resultsOf(await session.write([ephemeral(root("e"))]));
    const seen: string[] = [];
    session.onStatus(({ kind }) => void (kind === "expired" && seen.push("known")));
    await cut();
    await until(
      "the node is gone",
      async () => {
        const there = (await other.read(root("e"))) !== undefined;
        if (!there) seen.push("gone");
        return !there;
      },
      LIMIT_MS * 4,
    );
    expect(seen).toEqual(["known", "gone"]);
    expect(session.status.kind).toBe("expired");
    expect(await codeOf(session.read(root()))).toBe("STORE_SESSION_EXPIRED");
    expect(await session.write([create(root("x"))])).toMatchObject({
      kind: "unsent",
      error: { code: "STORE_SESSION_EXPIRED" },
    });
  });

  test("closing a session that is cut off settles within the limit", async ({ skip }) => {
    const { cut } = cuttable(skip);
    const session = await open();
    await cut();
    await until("the session knows", () => session.status.kind === "connecting");
    const start = performance.now();
    await session.close({ limitMs: 200 });
    expect(performance.now() - start).toBeLessThan(2000);
    expect(session.status.kind).toBe("closed");
  });
}
