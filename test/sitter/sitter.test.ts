import { afterEach, describe, expect, it } from "vitest";
import { ManateeError } from "../../src/base/errors.ts";
import { type Lsn, lsn } from "../../src/base/lsn.ts";
import type { Decision, Memory } from "../../src/cluster/decision.ts";
import type { Observation, PrimaryServer, Walsender } from "../../src/cluster/observation.ts";
import type { SitterConfig } from "../../src/config/types.ts";
import { Sitter } from "../../src/sitter/sitter.ts";
import {
  ANNOUNCEMENT,
  decision,
  entry,
  FakeCoordination,
  FakePostgres,
  FakeShard,
  OPEN,
  OTHER,
  primaryServer,
  SELF,
  shardState,
  sitterConfig,
  storeError,
} from "./fakes.ts";
import { SimulatedWorld } from "./simulated-world.ts";

type Decide = (observation: Observation, memory: Memory) => Decision;

interface Scene {
  readonly world: SimulatedWorld;
  readonly coordination: FakeCoordination;
  readonly shard: FakeShard;
  readonly postgres: FakePostgres;
  readonly sitter: Sitter;
  readonly seen: Observation[];
  readonly ended: Promise<unknown>;
}

const running: Sitter[] = [];

afterEach(async () => {
  for (const sitter of running.splice(0)) void sitter.stop({ postgres: "leave" });
});

function start(
  decide: Decide,
  options: { config?: Partial<SitterConfig>; world?: SimulatedWorld; shard?: FakeShard } = {},
): Scene {
  const { world = new SimulatedWorld(), shard = new FakeShard() } = options;
  const coordination = new FakeCoordination(world.clock);
  const postgres = new FakePostgres();
  const seen: Observation[] = [];
  const sitter = new Sitter({
    config: sitterConfig(options.config),
    world,
    coordination,
    makeShardStore: (session) => shard.on(session),
    postgres,
    decide: (observation, memory) => {
      seen.push(observation);
      return decide(observation, memory);
    },
  });
  running.push(sitter);
  const ended = sitter.run().then(
    () => undefined,
    (error: unknown) => error,
  );
  return { world, coordination, shard, postgres, sitter, seen, ended };
}

async function connected(scene: Scene): Promise<void> {
  await scene.world.until("a session", () => scene.coordination.sessions.length > 0);
  scene.coordination.newest.become("connected");
  await scene.world.until("the store is read", () => last(scene).store.connection.kind === "connected");
}

function last({ seen }: Scene): Observation {
  const observation = seen.at(-1);
  if (!observation) throw new Error("nothing was observed");
  return observation;
}

const idle: Decide = () => decision();

describe("the loop", () => {
  it("looks once for many events in one burst, and at most every 20 ms", async () => {
    const scene = start(idle);
    await connected(scene);
    await scene.world.advance(500);
    const before = scene.postgres.observed;
    for (let i = 0; i < 100; i++) scene.postgres.fire();
    await scene.world.advance(15);
    expect(scene.postgres.observed - before).toBe(1);
    for (let i = 0; i < 100; i++) {
      scene.postgres.fire();
      await scene.world.advance(1);
    }
    expect(scene.postgres.observed - before).toBeLessThanOrEqual(7);
  });

  it("looks again at the interval of the configuration without any event, however late the decision wants to", async () => {
    const scene = start(() => decision({ lookAgainAfterMs: 3_600_000 }));
    await connected(scene);
    await scene.world.advance(1_500);
    const before = scene.postgres.observed;
    await scene.world.advance(10_000);
    expect(scene.postgres.observed - before).toBe(10);
  });

  it("hands what was remembered to the next decision", async () => {
    const versions: (number | undefined)[] = [];
    const scene = start((_, memory) => {
      versions.push(memory.startVersion);
      return decision({ memory: { ...memory, startVersion: (memory.startVersion ?? 0) + 1 } });
    });
    await scene.world.advance(3_000);
    expect(versions.slice(0, 3)).toEqual([undefined, 1, 2]);
  });

  it("ends with the error of a decision that throws, and leaves PostgreSQL alone", async () => {
    const scene = start(() => {
      throw new TypeError("confused");
    });
    await scene.world.advance(100);
    expect(await scene.ended).toBeInstanceOf(TypeError);
    expect(scene.postgres.closed).toBeUndefined();
  });
});

describe("the story", () => {
  it("tells a decision once, and a wait again each minute with its age", async () => {
    const scene = start(() =>
      decision({ rule: "S1", because: "the sync is gone", waitingOn: "an async that streams" }),
    );
    await scene.world.advance(190_000);
    expect(scene.world.logged("decision")).toHaveLength(1);
    expect(scene.world.logged("decision")[0]?.fields).toMatchObject({ rule: "S1", because: "the sync is gone" });
    expect(scene.world.logged("still waiting").map(({ fields }) => fields["forMs"])).toEqual([
      60_000, 120_000, 180_000,
    ]);
  });

  it("does not take other positions for another decision, but another peer", async () => {
    let position = 0x3000000;
    let peer = "10.0.0.1:5432:1";
    const scene = start(() =>
      decision({ because: `waits for ${peer} to flush 0/${(position++).toString(16).toUpperCase()}` }),
    );
    await scene.world.advance(10_000);
    expect(scene.world.logged("decision")).toHaveLength(1);
    peer = "10.0.0.2:5432:1";
    await scene.world.advance(2_000);
    expect(scene.world.logged("decision")).toHaveLength(2);
  });

  it("is an error where only an operator leads on", async () => {
    const scene = start(() => decision({ waitingOn: "an operator", operator: "manatee-adm rebuild" }));
    await scene.world.advance(100);
    expect(scene.world.logged("decision")[0]).toMatchObject({
      level: "error",
      fields: { operator: "manatee-adm rebuild" },
    });
  });
});

describe("PostgreSQL", () => {
  it("gets its settings before the one action, and none where they are in force", async () => {
    const scene = start(() => decision({ settings: { ...OPEN, gate: "closed" }, action: { kind: "checkpoint" } }));
    await scene.world.advance(10);
    expect(scene.postgres.applied).toHaveLength(1);
    expect(scene.postgres.performed).toEqual([{ kind: "checkpoint" }]);
    await scene.world.advance(5_000);
    expect(scene.postgres.applied).toHaveLength(1);
  });

  it("is not acted on where the settings could not be applied, which is tried again ever more slowly", async () => {
    const scene = start(() =>
      decision({ settings: { ...OPEN, gate: "closed" }, action: { kind: "checkpoint" }, lookAgainAfterMs: 50 }),
    );
    scene.postgres.failing = new ManateeError({
      code: "PG_SETTING_OVERRIDDEN",
      message: "overridden",
      remedy: "operator",
      hint: "Remove it.",
    });
    await scene.world.advance(60_000);
    expect(scene.postgres.performed).toEqual([]);
    expect(scene.postgres.applied.length).toBeGreaterThan(10);
    expect(scene.postgres.applied.length).toBeLessThan(25);
    expect(scene.world.logged("action failed")[0]).toMatchObject({
      level: "error",
      fields: { code: "PG_SETTING_OVERRIDDEN", hint: "Remove it." },
    });
  });

  it("is not written for in the store where the settings could not be applied: that write counts as never sent", async () => {
    const scene = start((observation) =>
      observation.store.shard.kind === "document"
        ? decision({
            settings: { ...OPEN, gate: "closed" },
            action: {
              kind: "write",
              state: shardState({ freeze: { date: undefined, reason: "x" } }),
              version: observation.store.shard.version,
              token: "w",
            },
          })
        : decision(),
    );
    scene.shard.set(shardState());
    scene.postgres.failing = new ManateeError({
      code: "PG_UNRESPONSIVE",
      message: "hangs",
      remedy: "retry",
      hint: "Wait.",
    });
    await connected(scene);
    await scene.world.until("the write is noted", () => last(scene).store.lastWrite !== undefined);
    expect(last(scene).store.lastWrite).toMatchObject({ token: "w", outcome: "no" });
    expect(scene.shard.writes).toEqual([]);
  });

  it("keeps the last document that was read, once a version (B1)", async () => {
    const scene = start(idle);
    scene.shard.set(shardState());
    await connected(scene);
    await scene.world.advance(3_000);
    expect(scene.postgres.remembered.map(({ version }) => version)).toEqual([1]);
    scene.shard.set(shardState({ generation: 2 }));
    scene.shard.fire();
    await scene.world.advance(3_000);
    expect(scene.postgres.remembered.map(({ version }) => version)).toEqual([1, 2]);
  });

  it("applies the settings again on a reload though they are in force: files of the operator's may have changed", async () => {
    const scene = start(() => decision({ settings: OPEN }));
    await scene.world.advance(2_000);
    expect(scene.postgres.applied).toHaveLength(1);
    scene.sitter.reload(sitterConfig({ policy: { ...sitterConfig().policy, rejoin: "manual" } }));
    await scene.world.advance(2_000);
    expect(scene.postgres.applied).toHaveLength(2);
    expect(last(scene).policy.rejoin).toBe("manual");
  });
});

describe("a store that hangs or is gone (Z1)", () => {
  it("delays no action on PostgreSQL", async () => {
    const scene = start(({ postgres }) =>
      postgres.server.kind === "stopped"
        ? decision({ action: { kind: "stop", mode: "immediate" } })
        : decision({ announce: ANNOUNCEMENT }),
    );
    await connected(scene);
    scene.shard.hangs = true;
    scene.shard.fire();
    await scene.world.advance(100);
    scene.postgres.observation = {
      ...scene.postgres.observation,
      server: { kind: "stopped", since: 0, how: "exited" },
    };
    scene.postgres.fire();
    await scene.world.advance(40);
    expect(scene.postgres.performed[0]).toEqual({ kind: "stop", mode: "immediate" });
  });

  it("leaves the last view in place, and says since when it is cut off", async () => {
    const scene = start(idle);
    scene.shard.set(shardState());
    await connected(scene);
    await scene.world.advance(5_000);
    const cutOffAt = scene.world.clock.now();
    scene.coordination.newest.become("connecting");
    await scene.world.advance(3_000);
    expect(last(scene).store).toMatchObject({
      connection: { kind: "cut-off", since: cutOffAt },
      shard: { kind: "document", version: 1 },
    });
  });

  it("counts as connected again only when the shard was read through the new connection", async () => {
    const scene = start(idle);
    await connected(scene);
    scene.coordination.newest.become("connecting");
    await scene.world.advance(1_000);
    scene.shard.hangs = true;
    scene.coordination.newest.become("connected");
    await scene.world.advance(2_000);
    expect(last(scene).store.connection.kind).toBe("cut-off");
    scene.shard.hangs = false;
    await scene.world.until("it is read", () => last(scene).store.connection.kind === "connected");
    expect(last(scene).store.connection.since).toBeGreaterThan(2_000);
  });
});

describe("writes to the state", () => {
  /** Raises the version once. */
  const fence = ({ store: { shard, lastWrite } }: Observation): Decision =>
    shard.kind === "document" && !lastWrite
      ? decision({
          action: { kind: "write", state: { ...shard.state, rule: "FENCE" }, version: shard.version, token: "fence" },
        })
      : decision();

  it("tell their outcome together with what a confirmed read shows after them", async () => {
    const scene = start(fence);
    scene.shard.set(shardState());
    await connected(scene);
    await scene.world.until("the outcome", () => last(scene).store.lastWrite?.outcome === "yes");
    // One for the connection, one after the write.
    expect(scene.shard.confirmedReads).toBe(2);
    const told = scene.seen.filter(({ store }) => store.lastWrite?.outcome === "yes");
    expect(told.every(({ store }) => store.shard.kind === "document" && store.shard.version === 2)).toBe(true);
  });

  it("are unknown past their time limit, and are read again", async () => {
    const scene = start(fence);
    scene.shard.set(shardState());
    scene.shard.write = () => new Promise(() => {});
    await connected(scene);
    await scene.world.until("it is sent", () => scene.shard.writes.length === 1);
    expect(last(scene).store.lastWrite?.outcome).not.toBe("unknown");
    await scene.world.advance(11_000);
    expect(last(scene).store.lastWrite).toMatchObject({ token: "fence", outcome: "unknown" });
    expect(scene.world.logged("state written or not: unknown")).toMatchObject([
      { fields: { code: "STORE_WRITE_UNANSWERED", sent: true } },
    ]);
    // One for the connection, one after the write.
    expect(scene.shard.confirmedReads).toBe(2);
  });

  it("that the driver calls unknown are unknown at once", async () => {
    const scene = start(fence);
    scene.shard.set(shardState());
    scene.shard.write = async () => ({ kind: "unknown", error: storeError() });
    await connected(scene);
    await scene.world.until("the outcome", () => last(scene).store.lastWrite?.outcome === "unknown");
    expect(scene.world.logged("state written or not: unknown")).toHaveLength(1);
  });

  it("that lose the compare-and-set are told as no, with the newer version read", async () => {
    const scene = start(fence);
    scene.shard.set(shardState());
    scene.shard.write = async () => {
      scene.shard.set(shardState({ generation: 2 }));
      return { kind: "no", operation: 0, refusal: "bad-version" };
    };
    await connected(scene);
    await scene.world.until("the outcome", () => last(scene).store.lastWrite?.outcome === "no");
    expect(last(scene).store.shard).toMatchObject({ kind: "document", version: 2 });
  });

  it("that violate an invariant are never sent, and are an error in the log", async () => {
    const scene = start(({ store }) =>
      store.shard.kind === "document" && !store.lastWrite
        ? decision({
            action: {
              kind: "write",
              state: shardState({ generation: 7, sync: null }),
              version: store.shard.version,
              token: "bad",
            },
          })
        : decision(),
    );
    scene.shard.set(shardState());
    await connected(scene);
    await scene.world.until("it is noted", () => last(scene).store.lastWrite !== undefined);
    expect(last(scene).store.lastWrite).toMatchObject({ token: "bad", outcome: "no" });
    expect(scene.shard.writes).toEqual([]);
    expect(scene.world.logged("state not written: it violates an invariant")[0]).toMatchObject({
      level: "error",
      fields: { code: "STATE_INVARIANT" },
    });
  });

  it("that contradict what is known are believed only when confirmed: a member of the store may lag", async () => {
    const scene = start(idle);
    scene.shard.set(shardState());
    scene.shard.set(shardState());
    await connected(scene);
    const confirmed = scene.shard.confirmedReads;
    scene.shard.lagging = { kind: "absent" };
    scene.shard.fire();
    await scene.world.until("a confirmed read", () => scene.shard.confirmedReads > confirmed);
    await scene.world.advance(1_000);
    expect(scene.seen.every(({ store }) => store.shard.kind !== "absent")).toBe(true);
  });
});

describe("the session", () => {
  it("that expired is followed by a new one, in which the peer announces itself again", async () => {
    const scene = start(({ store }) =>
      decision({ announce: store.connection.kind === "connected" ? ANNOUNCEMENT : undefined }),
    );
    await connected(scene);
    await scene.world.until("the announcement", () => last(scene).store.announced !== undefined);
    await scene.world.advance(5_000);
    scene.shard.election = [];
    scene.coordination.newest.become("expired");
    await scene.world.until("a new session", () => scene.coordination.sessions.length === 2);
    expect(scene.coordination.resumed).toEqual([undefined, undefined]);
    await scene.world.until("it is noticed", () => last(scene).store.announced === undefined);
    await connected(scene);
    await scene.world.until("the announcement", () => last(scene).store.announced !== undefined);
    expect(scene.shard.announced).toHaveLength(2);
  });

  it("is not opened in a tight loop where the store ends each one at once", async () => {
    const scene = start(idle);
    await scene.world.until("a session", () => scene.coordination.sessions.length > 0);
    for (let i = 0; i < 500; i++) {
      if (scene.coordination.newest.status.kind !== "expired") scene.coordination.newest.become("expired");
      await scene.world.advance(20);
    }
    expect(scene.coordination.sessions.length).toBeGreaterThan(5);
    expect(scene.coordination.sessions.length).toBeLessThanOrEqual(11);
  });

  it("is taken up again after a SIGKILL, by a ticket that only the owner can read", async () => {
    const first = start(idle);
    await connected(first);
    await first.world.until("the ticket", () => first.world.disk.has("/state/session.json"));
    expect(first.world.disk.get("/state/session.json")?.mode).toBe(0o600);
    const second = start(idle, { world: first.world });
    await second.world.until("a session", () => second.coordination.sessions.length > 0);
    expect(second.coordination.resumed).toEqual([{ sessionId: "session-1", secret: "secret of session-1" }]);
  });

  it("is a new one where the ticket is damaged", async () => {
    const world = new SimulatedWorld();
    world.disk.set("/state/session.json", { content: "{", mode: 0o600 });
    const scene = start(idle, { world });
    await connected(scene);
    expect(scene.coordination.resumed).toEqual([undefined]);
    expect(world.logged("session ticket not usable")).toHaveLength(1);
  });

  it("says what is wanted once, not again while nothing changes", async () => {
    const scene = start(({ store }) =>
      decision({ announce: store.connection.kind === "connected" ? ANNOUNCEMENT : undefined }),
    );
    await connected(scene);
    await scene.world.advance(30_000);
    expect(scene.shard.announced).toEqual([ANNOUNCEMENT]);
  });

  it("makes its election node again where somebody deleted it", async () => {
    const scene = start(({ store }) =>
      decision({ announce: store.connection.kind === "connected" ? ANNOUNCEMENT : undefined }),
    );
    await connected(scene);
    await scene.world.until("the announcement", () => scene.shard.announced.length === 1);
    await scene.world.advance(1_000);
    scene.shard.election = [];
    scene.shard.fire();
    await scene.world.until("another one", () => scene.shard.announced.length === 2);
  });

  it("refuses to go on where another sitter answers under this peer's name", async () => {
    const world = new SimulatedWorld();
    world.httpAnswer = async () => ({
      status: 200,
      body: JSON.stringify({ id: SELF.id, run: "another", postgres: { healthy: true }, silent: [] }),
    });
    const scene = start(
      ({ store }) => decision({ announce: store.connection.kind === "connected" ? ANNOUNCEMENT : undefined }),
      { world },
    );
    await connected(scene);
    await world.advance(1_000);
    expect(await scene.ended).toMatchObject({ code: "SITTER_NAME_TAKEN", remedy: "operator" });
    expect(scene.shard.announced).toEqual([]);
  });
});

describe("stopping", () => {
  it("leaves the election, then the session, then stops PostgreSQL", async () => {
    const scene = start(({ store }) =>
      decision({ announce: store.connection.kind === "connected" ? ANNOUNCEMENT : undefined }),
    );
    await connected(scene);
    await scene.world.until("the announcement", () => scene.shard.announced.length === 1);
    const stopped = scene.sitter.stop({ postgres: "fast" });
    await scene.world.advance(1_000);
    await stopped;
    expect(await scene.ended).toBeUndefined();
    expect(scene.shard.left).toBe(1);
    expect(scene.coordination.newest.closed).toBe("closed");
    expect(scene.postgres.closed).toBe("fast");
    expect(scene.world.disk.has("/state/session.json")).toBe(false);
  });

  it("can leave PostgreSQL and the session as they are, for a sitter that is started again", async () => {
    const scene = start(idle);
    await connected(scene);
    const stopped = scene.sitter.stop({ postgres: "leave" });
    await scene.world.advance(1_000);
    await stopped;
    expect(scene.coordination.newest.closed).toBe("abandoned");
    expect(scene.postgres.closed).toBe("leave");
    expect(scene.world.disk.has("/state/session.json")).toBe(true);
  });

  it("is bounded where an action hangs and the store does not answer", async () => {
    const scene = start(() => decision({ action: { kind: "checkpoint" } }));
    await connected(scene);
    scene.postgres.perform = () => new Promise(() => {});
    await scene.world.advance(3_000);
    scene.shard.hangs = true;
    let stopped = false;
    void scene.sitter.stop({ postgres: "fast" }).then(() => (stopped = true));
    await scene.world.advance(15_000);
    expect(stopped).toBe(true);
    expect(scene.postgres.closed).toBe("fast");
  });
});

describe("the report", () => {
  it("tells state, decision and evidence, and is nothing before the first look", async () => {
    const scene = start(() =>
      decision({ rule: "P1", because: "it is open", waitingOn: "nothing", operator: "manatee-adm show" }),
    );
    expect(scene.sitter.report()).toBeUndefined();
    scene.shard.set(shardState());
    await connected(scene);
    scene.world.httpAnswer = async () => "silent";
    scene.world.portAnswer = async () => "silent";
    await scene.world.advance(5_000);
    const report = scene.sitter.report();
    expect(JSON.parse(JSON.stringify(report))).toMatchObject({
      id: SELF.id,
      shard: "1.test",
      incarnation: "data-of-zone-1",
      generation: 1,
      version: 1,
      role: "primary",
      decision: { rule: "P1", because: "it is open", waitingOn: "nothing", operator: "manatee-adm show" },
      store: { connected: true, evaluationOnly: true, openToAll: null },
      postgres: { healthy: true },
      forksKeptMax: 2,
      lastDocument: { version: 1 },
    });
    expect(report?.decision.forMs).toBeGreaterThanOrEqual(5_000);
    expect(report?.silent.map(({ id }) => id)).toEqual([OTHER.id]);
  });

  it("is given at once while PostgreSQL hangs, and the age of the last look grows", async () => {
    const scene = start(idle);
    await scene.world.advance(1_500);
    scene.postgres.observe = () => new Promise(() => {});
    scene.postgres.report = () => new Promise(() => {});
    await scene.world.advance(10_000);
    expect(scene.sitter.report()?.postgres.healthy).toBe(true);
    expect(scene.sitter.roundAgeMs()).toBeGreaterThan(8_000);
  });
});

describe("commits in doubt, in the report (I1)", () => {
  const upTo = lsn(0x3000080n);
  const inDoubt = { timeline: 1, upTo: "0/3000080" };
  const walsender = (flush: Lsn): Walsender => ({
    name: OTHER.pgUrl,
    pid: 1,
    clientAddress: OTHER.ip,
    state: "streaming",
    sent: lsn(0x3000100n),
    flush,
    replay: flush,
    syncPriority: 1,
  });

  it("are told until the sync has them, also while PostgreSQL does not answer, and not any more when the sync is lost then", async () => {
    const scene = start(idle);
    const show = async (change: Partial<PrimaryServer>) => {
      const server = { ...primaryServer(), cancelledUpTo: { timeline: 1, lsn: upTo }, ...change };
      scene.postgres.observation = { ...scene.postgres.observation, server };
      await scene.world.advance(3_000);
      return scene.sitter.report()?.postgres.inDoubt;
    };
    const { report } = scene.postgres;
    scene.postgres.report = async () => ({ ...(await report()), cancelledWaits: 1, inDoubt });
    scene.shard.set(shardState());
    scene.shard.election = [
      { peer: OTHER, sequence: 1, announcement: { ...ANNOUNCEMENT, incarnation: entry(OTHER).incarnation } },
    ];
    await connected(scene);
    expect(await show({ walsenders: [walsender(lsn(0x300007fn))] })).toEqual(inDoubt);
    scene.postgres.observation = {
      ...scene.postgres.observation,
      server: { kind: "unresponsive", since: 0, reason: "it hangs" },
    };
    await scene.world.advance(3_000);
    expect(scene.sitter.report()?.postgres.inDoubt).toEqual(inDoubt);
    expect(await show({ walsenders: [walsender(upTo)] })).toBeNull();
    expect(await show({ walsenders: [] })).toBeNull();
    const later = { timeline: 1, upTo: "0/3000090" };
    scene.postgres.report = async () => ({ ...(await report()), cancelledWaits: 2, inDoubt: later });
    expect(await show({ walsenders: [], cancelledUpTo: { timeline: 1, lsn: lsn(0x3000090n) } })).toEqual(later);
    scene.postgres.report = async () => ({ ...(await report()), inDoubt: { timeline: null, upTo: null } });
    expect(await show({ walsenders: [] })).toEqual({ timeline: null, upTo: null });
  });
});

describe("a peer that vanishes", () => {
  it("is looked at at once, not at the next interval (D2)", async () => {
    const scene = start(idle);
    scene.shard.set(shardState());
    scene.shard.election = [{ peer: OTHER, sequence: 1, announcement: ANNOUNCEMENT }];
    await connected(scene);
    await scene.world.advance(3_300);
    const before = scene.world.asked.length;
    scene.shard.election = [];
    scene.shard.fire();
    await scene.world.advance(50);
    expect(scene.world.asked.length).toBe(before + 1);
  });
});

describe("an operator's request to rebuild this peer", () => {
  it("is observed, and taken away once the copy is complete", async () => {
    const scene = start(({ rebuildRequested, postgres }) =>
      rebuildRequested && !postgres.job
        ? decision({ action: { kind: "copy", from: OTHER, incarnation: "new" } })
        : decision(),
    );
    await connected(scene);
    expect(last(scene).rebuildRequested).toBeUndefined();
    scene.world.disk.set("/state/rebuild.json", { content: "{}", mode: 0o600 });
    await scene.world.until("the copy", () => scene.postgres.performed.length > 0);
    const { data } = scene.postgres.observation;
    if (data.kind !== "present" || !data.mark) throw new Error("the fake has data");
    // Only renamed yet: the copy ended before it touched anything.
    scene.postgres.observation = {
      ...scene.postgres.observation,
      data: { ...data, mark: { ...data.mark, incarnation: "new", source: undefined } },
    };
    await scene.world.advance(3_000);
    expect(scene.world.disk.has("/state/rebuild.json")).toBe(true);
    const copied = { ...data, mark: { ...data.mark, incarnation: "new", incomplete: true, source: OTHER.id } };
    scene.postgres.observation = {
      ...scene.postgres.observation,
      job: { kind: "copy", since: 0, progress: undefined },
      data: copied,
    };
    await scene.world.advance(3_000);
    expect(scene.world.disk.has("/state/rebuild.json")).toBe(true);
    scene.postgres.observation = {
      ...scene.postgres.observation,
      job: undefined,
      data: { ...copied, mark: { ...copied.mark, incomplete: false } },
    };
    await scene.world.until("it is taken away", () => !scene.world.disk.has("/state/rebuild.json"));
    await scene.world.advance(5_000);
    expect(last(scene).rebuildRequested).toBeUndefined();
  });
});

describe("a request for all of it", () => {
  it("is not fulfilled by a roll-back that nobody asked for", async () => {
    const scene = start(({ rebuildRequested, postgres }) =>
      rebuildRequested && !postgres.job
        ? decision({ action: { kind: "roll-back", from: OTHER, fork: "one" } })
        : decision(),
    );
    await connected(scene);
    const { data } = scene.postgres.observation;
    if (data.kind !== "present" || !data.mark) throw new Error("the fake has data");
    scene.postgres.observation = {
      ...scene.postgres.observation,
      data: { ...data, mark: { ...data.mark, source: OTHER.id } },
    };
    scene.world.disk.set("/state/rebuild.json", { content: '{"full": true}', mode: 0o600 });
    await scene.world.until("the roll-back", () => scene.postgres.performed.length > 0);
    await scene.world.advance(5_000);
    expect(scene.world.disk.has("/state/rebuild.json")).toBe(true);
    scene.world.disk.set("/state/rebuild.json", { content: "{}", mode: 0o600 });
    await scene.world.until("any way does", () => !scene.world.disk.has("/state/rebuild.json"));
  });
});

describe("a request that can't be understood", () => {
  it("is left where it is, asks for nothing, and is shown", async () => {
    const scene = start(() => decision());
    await connected(scene);
    scene.world.disk.set("/state/rebuild.json", { content: '{"from": 7}', mode: 0o600 });
    await scene.world.until("it is shown", () =>
      Boolean(scene.sitter.report()?.postgres.warnings.some((text) => text.includes("/state/rebuild.json"))),
    );
    expect(last(scene).rebuildRequested).toBeUndefined();
    expect(scene.world.lines).toContainEqual(
      expect.objectContaining({
        level: "error",
        fields: expect.objectContaining({ code: "REBUILD_REQUEST_UNREADABLE" }) as object,
      }),
    );
    expect(scene.world.disk.has("/state/rebuild.json")).toBe(true);
    scene.world.disk.set("/state/rebuild.json", { content: '{"full": true}', mode: 0o600 });
    await scene.world.until("the corrected one is seen", () => last(scene).rebuildRequested?.full === true);
    expect(scene.sitter.report()?.postgres.warnings).toEqual([]);
  });
});

describe("the registrar node", () => {
  const config = { registrar: { enabled: true, ttlSeconds: 60 } };
  const PATH = "/test/1/pg";

  it("is there while this peer is the primary with its gate open, and no longer", async () => {
    const scene = start(idle, { config });
    scene.postgres.observation = { ...scene.postgres.observation, server: primaryServer({ ...OPEN, gate: "closed" }) };
    scene.shard.set(shardState());
    await connected(scene);
    await scene.world.advance(3_000);
    const { nodes } = scene.coordination.newest;
    expect(nodes.has(PATH)).toBe(false);
    scene.postgres.observation = { ...scene.postgres.observation, server: primaryServer(OPEN) };
    await scene.world.until("it is registered", () => nodes.has(PATH));
    expect(nodes.get(PATH)?.ephemeralOwner).toBe(scene.coordination.newest.id);
    expect(JSON.parse(new TextDecoder().decode(nodes.get(PATH)?.data))).toEqual({
      type: "database",
      database: { primary: SELF.pgUrl, ttl: 60 },
    });
    scene.shard.set(shardState({ generation: 2, primary: entry(OTHER), sync: entry(SELF) }));
    scene.shard.fire();
    await scene.world.until("it is taken away", () => !nodes.has(PATH));
  });
});
