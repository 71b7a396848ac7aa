import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import type { PeerEntry } from "../../src/cluster/state.ts";
import { type MemoryStore, memoryStore, type WriteFault } from "../../src/coordination/memory/driver.ts";
import type { Session, StoreOperation } from "../../src/coordination/port.ts";
import type { ShardStore } from "../../src/shard/port.ts";
import { shardStore } from "../../src/shard/shard-store.ts";
import { peerAddress, shardState, standbyAnnouncement } from "../support/shard-state.ts";
import { type ManualTime, manualTime } from "../coordination/memory/manual-time.ts";

const PATH = "/manatee/1.moray";

const announcement = standbyAnnouncement();

let time: ManualTime;
let store: MemoryStore;

async function open(client: string): Promise<{ session: Session; shard: ShardStore }> {
  const session = store.as(client).open({ sessionTimeoutMs: 3000 });
  const shard = shardStore({ session, path: PATH, clock: time.clock, log: time.log });
  await time.advance(10);
  return { session, shard };
}

/** Lets time run until the promise has settled. */
async function when<T>(promise: Promise<T>): Promise<T> {
  let settled = false;
  const done = promise.finally(() => (settled = true));
  done.catch(() => {});
  for (let step = 0; step < 2000 && !settled; step++) await time.advance(5);
  if (!settled) throw new Error("did not settle in 10 s");
  return done;
}

/** Somebody else is faster, each time. */
function beforeWrites(session: Session, first: (operations: readonly StoreOperation[]) => Promise<unknown>): void {
  const write = session.write.bind(session);
  Object.assign(session, {
    write: async (...call: Parameters<typeof write>) => {
      await first(call[0]);
      return write(...call);
    },
  });
}

const election = () => [...(store.children(`${PATH}/election`) ?? [])].sort();
const owners = () => election().map((name) => store.peek(`${PATH}/election/${name}`)?.ephemeralOwner);

let a: { session: Session; shard: ShardStore };

beforeEach(async () => {
  time = manualTime();
  store = memoryStore(time);
  a = await open("a");
  await when(a.shard.prepare());
});

describe("the shard's folders", () => {
  test("are made once, and found the next time without a write", async () => {
    expect([...(store.children(PATH) ?? [])].sort()).toEqual(["election", "history"]);
    const before = store.peek(PATH)?.changedAt;
    const b = await open("b");
    await when(Promise.all([a.shard.prepare(), b.shard.prepare()]));
    expect(store.peek(PATH)?.changedAt).toBe(before);
  });

  test("can be made by several at once", async () => {
    store = memoryStore(time);
    const [c, d] = [await open("c"), await open("d")];
    await when(Promise.all([c.shard.prepare(), d.shard.prepare()]));
    expect([...(store.children(PATH) ?? [])].sort()).toEqual(["election", "history"]);
  });

  test("can't be made where somebody takes away what they lie in, which is told", async () => {
    store = memoryStore(time);
    const [c, d] = [await open("c"), await open("d")];
    beforeWrites(c.session, async ([first]) => {
      if (first?.kind === "create" && first.path === PATH)
        await d.session.write([{ kind: "delete", path: "/manatee" }]);
    });
    await expect(when(c.shard.prepare())).rejects.toMatchObject({
      code: "STORE_REFUSED",
      message: `the store refused to make ${PATH}: no-parent`,
      remedy: "reobserve",
    });
  });
});

describe("the state", () => {
  test("is absent, then has version 1: never 0, which the original's client takes for any", async () => {
    expect(await when(a.shard.readState())).toEqual({ kind: "absent" });
    const outcome = await when(a.shard.writeState({ state: shardState(), version: undefined, by: peerAddress(1).id }));
    expect(outcome.kind).toBe("yes");
    const read = await when(a.shard.readState({ confirmed: true }));
    expect(read).toMatchObject({ kind: "document", version: 1 });
    if (read.kind !== "document") return;
    expect(read.state).toEqual(shardState({ written: { by: peerAddress(1).id, version: 1 } }));
    expect(read.readAt).toBeLessThanOrEqual(time.clock.now());
  });

  test("changes only on the version named, together with its history", async () => {
    await when(a.shard.writeState({ state: shardState(), version: undefined, by: "x" }));
    expect(await when(a.shard.writeState({ state: shardState(), version: undefined, by: "x" }))).toMatchObject({
      kind: "no",
    });
    const second = shardState({ generation: 2 });
    expect((await when(a.shard.writeState({ state: second, version: 1, by: "x" }))).kind).toBe("yes");
    expect(await when(a.shard.writeState({ state: second, version: 1, by: "x" }))).toEqual({
      kind: "no",
      operation: 0,
      refusal: "bad-version",
    });
    expect([...(store.children(`${PATH}/history`) ?? [])].sort()).toEqual(["1-0000000000", "2-0000000001"]);
    const history = await when(a.shard.readHistory());
    expect(history.map(({ sequence, state }) => [sequence, state?.generation, state?.written?.version])).toEqual([
      [0, 1, 1],
      [1, 2, 2],
    ]);
    expect(history[0]?.writtenWallMs).toBeGreaterThan(1_600_000_000_000);
  });

  test("of the original stays one, and is written without fields of ours", async () => {
    const bare = (entry: PeerEntry): PeerEntry => ({ ...entry, incarnation: undefined });
    const original = shardState({
      primary: bare(shardState().primary),
      sync: bare(shardState().sync as PeerEntry),
      systemIdentifier: undefined,
      rule: "",
      reason: "",
      requires: [],
    });
    await when(a.shard.writeState({ state: original, version: undefined, by: "x" }));
    expect(await when(a.shard.readState())).toMatchObject({ kind: "document", state: original });
    expect(Object.keys(JSON.parse(new TextDecoder().decode(store.peek(`${PATH}/state`)?.data)))).not.toContain(
      "written",
    );
  });

  test("that can't be read is reported as such, and its history stands as it is", async () => {
    const data = new TextEncoder().encode("{");
    await when(
      a.session.write([
        { kind: "create", path: `${PATH}/state`, data },
        { kind: "create", path: `${PATH}/history/0-`, data, sequential: true },
      ]),
    );
    expect(await when(a.shard.readState())).toMatchObject({ kind: "unreadable", code: "STATE_MALFORMED" });
    expect(await when(a.shard.readHistory())).toMatchObject([{ raw: "{", state: undefined }]);
  });

  test("written with a lost answer is unknown, and at most one of two writes on one version happens", async () => {
    await when(a.shard.writeState({ state: shardState(), version: undefined, by: "x" }));
    store.faultNextWrite("a", { lateMs: 1000 });
    const first = await when(a.shard.writeState({ state: shardState({ reason: "late" }), version: 1, by: "x" }));
    expect(first.kind).toBe("unknown");
    await time.advance(100);
    const fence = await when(a.shard.writeState({ state: shardState({ reason: "fence" }), version: 1, by: "x" }));
    expect(fence.kind).toBe("yes");
    await time.advance(2000);
    const read = await when(a.shard.readState());
    expect(read).toMatchObject({ version: 2, state: { reason: "fence" } });
    expect(await when(a.shard.readHistory())).toHaveLength(2);
  });
});

describe("the history", () => {
  beforeEach(async () => {
    await when(a.shard.writeState({ state: shardState(), version: undefined, by: "x" }));
    for (let version = 1; version < 12; version++)
      await when(a.shard.writeState({ state: shardState({ generation: version + 1 }), version, by: "x" }));
  });

  test("is ordered by sequence, not by name, and limited to the newest", async () => {
    const all = await when(a.shard.readHistory());
    expect(all.map(({ state }) => state?.generation)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    expect((await when(a.shard.readHistory({ limit: 2 }))).map(({ state }) => state?.generation)).toEqual([11, 12]);
  });

  test("is trimmed from the oldest on", async () => {
    expect(await when(a.shard.trimHistory({ keep: 12 }))).toBe(0);
    expect(await when(a.shard.trimHistory({ keep: 3 }))).toBe(9);
    expect((await when(a.shard.readHistory())).map(({ state }) => state?.generation)).toEqual([10, 11, 12]);
  });
});

describe("the election", () => {
  test("that others change each time is given up, and never half entered or left", async () => {
    const b = await open("b");
    const rival = async () => {
      const version = store.peek(`${PATH}/election`)?.version ?? 0;
      await b.session.write([{ kind: "set", path: `${PATH}/election`, data: new Uint8Array(), version }]);
    };
    const c = await open("c");
    beforeWrites(c.session, rival);
    await expect(when(c.shard.announce(peerAddress(1), announcement))).rejects.toMatchObject({
      code: "STORE_CONTENDED",
      message: "could not announce this peer: refused or unanswered 16 times in a row",
      remedy: "retry",
    });
    expect(election()).toEqual([]);
    await when(a.shard.announce(peerAddress(2), announcement));
    beforeWrites(a.session, rival);
    await expect(when(a.shard.leave())).rejects.toMatchObject({ code: "STORE_CONTENDED" });
    expect(election()).toHaveLength(1);
  });

  test("holds one node of a session, changed in place, and not written when nothing changes", async () => {
    expect(await when(a.shard.announce(peerAddress(1), announcement))).toEqual(announcement);
    const changed = { ...announcement, phase: "primary" as const };
    expect(await when(a.shard.announce(peerAddress(1), changed))).toEqual(changed);
    expect(election()).toEqual([`${peerAddress(1).id}-0000000000`]);
    const before = store.peek(`${PATH}/election/${election()[0]}`);
    await when(a.shard.announce(peerAddress(1), changed));
    expect(store.peek(`${PATH}/election/${election()[0]}`)).toEqual(before);
    expect(await when(a.shard.readElection())).toEqual([{ peer: peerAddress(1), sequence: 0, announcement: changed }]);
  });

  test("is sorted by sequence, and of several nodes of one peer only the last counts", async () => {
    const b = await open("b");
    const make = async (name: string) =>
      when(
        b.session.write([
          {
            kind: "create",
            path: `${PATH}/election/${name}-`,
            data: new Uint8Array(),
            ephemeral: true,
            sequential: true,
          },
        ]),
      );
    await make(peerAddress(3).id);
    await make(peerAddress(2).id);
    await make(peerAddress(3).id);
    await make("lock");
    await when(a.shard.announce(peerAddress(1), announcement));
    const entries = await when(a.shard.readElection());
    expect(entries.map(({ peer, sequence }) => [peer.id, sequence])).toEqual([
      [peerAddress(2).id, 1],
      [peerAddress(3).id, 2],
      [peerAddress(1).id, 4],
    ]);
    expect(entries.map((entry) => entry.announcement)).toEqual([undefined, undefined, announcement]);
  });

  test("loses the node of a peer's former session as soon as the new one is there, in the same write", async () => {
    await when(a.shard.announce(peerAddress(1), announcement));
    await when(a.session.abandon());
    const again = await open("a");
    await when(again.shard.announce(peerAddress(1), announcement));
    expect(owners()).toEqual([again.session.id]);
  });

  test("is left by deleting the session's node alone", async () => {
    const b = await open("b");
    await when(a.shard.announce(peerAddress(1), announcement));
    await when(b.shard.announce(peerAddress(2), announcement));
    await when(a.shard.leave());
    await when(a.shard.leave());
    expect(owners()).toEqual([b.session.id]);
  });

  test.each<[string, WriteFault]>([
    ["happened", "done"],
    ["never happened", "lost"],
    ["lands while it is sent again", { lateMs: 20 }],
    ["lands much later", { lateMs: 900 }],
  ])("has exactly one node of ours after a create whose answer was lost: it %s", async (_, fault) => {
    store.faultNextWrite("a", fault);
    const first = a.shard.announce(peerAddress(1), announcement);
    await when(first.catch(() => {}));
    await time.advance(100);
    expect(a.session.status.kind).toBe("connected");
    await when(a.shard.announce(peerAddress(1), announcement));
    expect(owners()).toEqual([a.session.id]);
    await time.advance(3000);
    expect(owners()).toEqual([a.session.id]);
    expect(await when(a.shard.readElection())).toHaveLength(1);
  });

  test("has no node of ours after leaving, even if the create lands after that", async () => {
    store.faultNextWrite("a", { lateMs: 900 });
    await when(a.shard.announce(peerAddress(1), announcement).catch(() => {}));
    await time.advance(100);
    await when(a.shard.leave());
    await time.advance(3000);
    expect(election()).toEqual([]);
  });

  test("does not get a late node of a former session on top of the new one's", async () => {
    store.faultNextWrite("a", { lateMs: 900 });
    await when(a.shard.announce(peerAddress(1), announcement).catch(() => {}));
    const again = await open("a");
    await when(again.shard.announce(peerAddress(1), { ...announcement, phase: "primary" }));
    await time.advance(1500);
    expect(owners()).toEqual([again.session.id]);
  });

  test("takes all peers that announce themselves at the same moment", async () => {
    const all = await Promise.all([1, 2, 3, 4, 5].map(async (n) => ({ n, ...(await open(`p${n}`)) })));
    await when(Promise.all(all.map(({ n, shard }) => shard.announce(peerAddress(n), announcement))));
    expect(await when(a.shard.readElection())).toHaveLength(5);
  });

  test("without its folder is an error that says so", async () => {
    await when(a.session.write([{ kind: "delete", path: `${PATH}/election` }]));
    await expect(when(a.shard.announce(peerAddress(1), announcement))).rejects.toMatchObject({
      code: "SHARD_NOT_PREPARED",
    });
    expect(await when(a.shard.readElection())).toEqual([]);
  });

  test("rejects while cut off, and has one node of ours when it is over, whatever was lost when (any order of faults)", async () => {
    const faults = fc.array(
      fc.constantFrom<WriteFault | "cut" | "none" | "behind">(
        "lost",
        "done",
        "none",
        "cut",
        "behind",
        { lateMs: 30 },
        { lateMs: 700 },
      ),
      { maxLength: 6 },
    );
    await fc.assert(
      fc.asyncProperty(faults, async (sequence) => {
        time = manualTime();
        store = memoryStore(time);
        const { session, shard } = await open("a");
        await when(shard.prepare());
        for (const [index, fault] of sequence.entries()) {
          if (fault === "cut") store.cut("a");
          else if (fault === "behind") store.lag("a");
          else if (fault !== "none") store.faultNextWrite("a", fault);
          const features = [`f${index}`];
          await when(shard.announce(peerAddress(1), { ...announcement, features }).catch(() => {}));
          store.restore("a");
          await time.advance(fault === "cut" ? 400 : 50);
        }
        expect(session.status.kind).toBe("connected");
        expect((await when(shard.announce(peerAddress(1), announcement))).features).toEqual(["incarnations"]);
        expect(owners()).toEqual([session.id]);
        await time.advance(1000);
        expect(owners()).toEqual([session.id]);
        expect((await when(shard.readElection()))[0]?.announcement).toEqual(announcement);
      }),
      { numRuns: 40 },
    );
  });
});

describe("the watch on a shard", () => {
  test("tells of the state, of peers that come and go, and of what they say", async () => {
    const b = await open("b");
    let calls = 0;
    const stop = a.shard.watch(() => calls++);
    const told = async (what: () => Promise<unknown>) => {
      await time.advance(50);
      const before = calls;
      await when(what());
      await time.advance(50);
      expect(calls).toBeGreaterThan(before);
    };
    await told(() => b.shard.writeState({ state: shardState(), version: undefined, by: "x" }));
    await told(() => b.shard.announce(peerAddress(2), announcement));
    await told(() => b.shard.announce(peerAddress(2), { ...announcement, phase: "primary" }));
    await told(() => b.shard.announce(peerAddress(2), { ...announcement, phase: "idle" }));
    await told(() => b.shard.leave());
    await told(() => b.shard.announce(peerAddress(2), announcement));
    await told(() => b.session.close());
    stop();
    const after = calls;
    await when(a.shard.writeState({ state: shardState(), version: 1, by: "x" }));
    await time.advance(100);
    expect(calls).toBe(after);
  });

  test("tells after a reconnection, and of what came in the meantime", async () => {
    const b = await open("b");
    let calls = 0;
    a.shard.watch(() => calls++);
    await time.advance(50);
    store.cut("a");
    await time.advance(50);
    await when(b.shard.announce(peerAddress(2), announcement));
    const before = calls;
    store.restore("a");
    await time.advance(500);
    expect(calls).toBeGreaterThan(before);
    const again = calls;
    await when(b.shard.announce(peerAddress(2), { ...announcement, phase: "primary" }));
    await time.advance(50);
    expect(calls).toBeGreaterThan(again);
  });

  test("is silent while nothing happens", async () => {
    let calls = 0;
    a.shard.watch(() => calls++);
    await time.advance(100);
    const before = calls;
    await time.advance(600_000);
    expect(calls).toBe(before);
  });
});

describe("a document restored after it was lost (B1)", () => {
  test("goes on above the versions of the lost one, with no version in between that a late write would fit", async () => {
    const { shard } = await open("a");
    await when(shard.prepare());
    const outcome = await when(
      shard.writeState({ state: shardState({ generation: 7 }), version: undefined, versionAbove: 23, by: "adm" }),
    );
    expect(outcome.kind).toBe("yes");
    const view = await when(shard.readState());
    expect(view.kind === "document" && [view.version, view.state.generation, view.state.written]).toEqual([
      24,
      7,
      { by: "adm", version: 24 },
    ]);
    const late = await when(shard.writeState({ state: shardState({ generation: 6 }), version: 23, by: "b" }));
    expect(late.kind).toBe("no");
  });
});
