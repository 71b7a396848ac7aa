// The sitter on the real shard's store and the store in memory: what becomes of its place in the election and of its writes.

import { afterEach, describe, expect, it } from "vitest";
import type { Decision } from "../../src/cluster/decision.ts";
import type { Observation } from "../../src/cluster/observation.ts";
import type { SitterConfig } from "../../src/config/types.ts";
import type { Coordination } from "../../src/coordination/port.ts";
import { type MemoryStore, memoryStore } from "../../src/coordination/memory/driver.ts";
import { shardStore } from "../../src/shard/shard-store.ts";
import { Sitter } from "../../src/sitter/sitter.ts";
import { ANNOUNCEMENT, decision, FakePostgres, shardState, SELF, sitterConfig } from "./fakes.ts";
import { SimulatedWorld } from "./simulated-world.ts";

const PATH = "/manatee/1.test";
const running: Sitter[] = [];

afterEach(() => {
  for (const sitter of running.splice(0)) void sitter.stop({ postgres: "leave" });
});

interface Scene {
  readonly seen: Observation[];
  readonly last: () => Observation;
}

type Decide = (observation: Observation) => Decision;

const announcing: Decide = ({ store }) =>
  decision({ announce: store.connection.kind === "connected" ? ANNOUNCEMENT : undefined });

function start(
  world: SimulatedWorld,
  store: MemoryStore,
  { client, decide = announcing, config = {} }: { client: string; decide?: Decide; config?: Partial<SitterConfig> },
): Scene {
  const { clock, log } = world;
  const seen: Observation[] = [];
  const process = store.as(client);
  const coordination: Coordination = { description: "memory", open: (options) => process.open(options) };
  const sitter = new Sitter({
    config: sitterConfig(config),
    world,
    coordination,
    makeShardStore: (session) => shardStore({ session, path: PATH, clock, log }),
    postgres: new FakePostgres(),
    decide: (observation) => {
      seen.push(observation);
      return decide(observation);
    },
  });
  running.push(sitter);
  void sitter.run();
  const last = () => {
    const observation = seen.at(-1);
    if (!observation) throw new Error("nothing was observed");
    return observation;
  };
  return { seen, last };
}

function aWorld(): { world: SimulatedWorld; store: MemoryStore } {
  const world = new SimulatedWorld();
  const { clock, timers, random, log } = world;
  return { world, store: memoryStore({ clock, timers, random, log, latencyMs: () => 2 }) };
}

/** Makes the shard with a document, by another program. */
async function found(world: SimulatedWorld, store: MemoryStore): Promise<void> {
  const session = store.as("founder").open({ sessionTimeoutMs: 4_000 });
  const shard = shardStore({ session, path: PATH, clock: world.clock, log: world.log });
  await world.until("the founder is connected", () => session.status.kind === "connected");
  let done = false;
  void shard
    .prepare()
    .then(() => shard.writeState({ state: shardState(), version: undefined, by: "a founder" }))
    .then(() => session.close())
    .then(() => (done = true));
  await world.until("the shard is founded", () => done);
}

const nodes = (store: MemoryStore) => store.children(`${PATH}/election`) ?? [];

describe("this peer's place in the election", () => {
  it("is kept by a sitter that was killed and started again within the session's time", async () => {
    const { world, store } = aWorld();
    start(world, store, { client: "first" });
    await world.until("the first one is in the election", () => nodes(store).length === 1);
    const [node] = nodes(store);
    // Killed: nothing more comes from it.
    store.cut("first", { silent: true });
    await world.advance(1_000);
    const second = start(world, store, { client: "second" });
    await world.until("the second one is in the election", () => second.last().store.announced !== undefined);
    await world.advance(20_000);
    expect(nodes(store)).toEqual([node]);
    expect(store.sessionIds).toHaveLength(1);
  });

  it("is a new one for a sitter that comes back after the session's time, and the old one does not stay", async () => {
    const { world, store } = aWorld();
    start(world, store, { client: "first" });
    await world.until("the first one is in the election", () => nodes(store).length === 1);
    const before = nodes(store);
    store.cut("first", { silent: true });
    await world.advance(10_000);
    expect(nodes(store)).toEqual([]);
    start(world, store, { client: "second" });
    await world.until("the second one is in the election", () => nodes(store).length === 1);
    expect(nodes(store)).not.toEqual(before);
  });

  it("survives an outage of the store however long, without a write when it returns (Z1)", async () => {
    const { world, store } = aWorld();
    await found(world, store);
    const { last } = start(world, store, { client: "a" });
    await world.until("it is in the election", () => nodes(store).length === 1);
    const version = store.peek(`${PATH}/state`)?.version;
    store.stop();
    // The client gives its session up by its own clock; the store, once back, leaves it its whole time.
    await world.advance(60_000);
    expect(last().store).toMatchObject({ connection: { kind: "cut-off" }, shard: { kind: "document" } });
    store.start();
    await world.until("it is connected again", () => last().store.connection.kind === "connected");
    await world.until(
      "it is in the election again",
      () => nodes(store).length === 1 && last().store.announced !== undefined,
    );
    expect(store.peek(`${PATH}/state`)?.version).toBe(version);
    expect(nodes(store)[0]?.startsWith(`${SELF.id}-`)).toBe(true);
  });

  it("is taken up under a new session at once when the store expired the old one", async () => {
    const { world, store } = aWorld();
    const { last } = start(world, store, { client: "a" });
    await world.until("it is in the election", () => nodes(store).length === 1);
    const [before] = nodes(store);
    await world.advance(5_000);
    const expiredAt = world.clock.now();
    store.expire("a");
    await world.until("it is in the election again", () => nodes(store).length === 1 && nodes(store)[0] !== before);
    expect(world.clock.now() - expiredAt).toBeLessThan(1_000);
    await world.until("that is observed", () => last().store.announced !== undefined);
  });
});

describe("a write whose answer is lost", () => {
  const fenceOnce: Decide = ({ store: { shard, lastWrite } }) =>
    shard.kind === "document" && !lastWrite
      ? decision({
          action: { kind: "write", state: { ...shard.state, rule: "FENCE" }, version: shard.version, token: "fence" },
        })
      : decision();

  for (const fault of ["lost", "done"] as const)
    it(`is unknown (${fault}), and what the store holds is read again`, async () => {
      const { world, store } = aWorld();
      await found(world, store);
      store.faultNextWrite("a", fault);
      const { last } = start(world, store, { client: "a", decide: fenceOnce });
      await world.until("the outcome", () => last().store.lastWrite?.outcome === "unknown");
      const version = fault === "done" ? 2 : 1;
      await world.until("it is read again", () => {
        const { connection, shard } = last().store;
        return connection.kind === "connected" && shard.kind === "document" && shard.version === version;
      });
      await world.advance(5_000);
      expect(store.peek(`${PATH}/state`)?.version).toBe(version);
      expect(last().store.lastWrite).toEqual({ token: "fence", outcome: "unknown" });
    });
});

describe("takeovers of the last hour (T2)", () => {
  it("are counted by the history, each generation once", async () => {
    const { world, store } = aWorld();
    await found(world, store);
    const { last } = start(world, store, { client: "a" });
    const writer = store.as("other").open({ sessionTimeoutMs: 4_000 });
    const shard = shardStore({ session: writer, path: PATH, clock: world.clock, log: world.log });
    await world.until("the writer is connected", () => writer.status.kind === "connected");
    const history = [
      { generation: 2, rule: "T1" },
      { generation: 2, rule: "T1" },
      { generation: 2, rule: "A1" },
      { generation: 3, rule: "S1" },
      { generation: 4, rule: "T1" },
    ];
    for (const [i, { generation, rule }] of history.entries()) {
      let written = false;
      void shard
        .writeState({ state: { ...shardState({ generation }), rule }, version: i + 1, by: "x" })
        .then(() => (written = true));
      await world.until("it is written", () => written);
    }
    await world.until("they are counted", () => last().store.takeoversLastHour === 2);
    await world.advance(3_700_000);
    expect(last().store.takeoversLastHour).toBe(0);
  }, 60_000);
});

describe("the registrar node", () => {
  it("of a former primary, whose session is not over yet, is replaced at once", async () => {
    const { world, store } = aWorld();
    await found(world, store);
    const former = store.as("former").open({ sessionTimeoutMs: 60_000 });
    await world.until("the former primary is connected", () => former.status.kind === "connected");
    const data = new TextEncoder().encode("{}");
    let made = false;
    void former
      .write([
        { kind: "create", path: "/test", data },
        { kind: "create", path: "/test/1", data },
        { kind: "create", path: "/test/1/pg", data, ephemeral: true },
      ])
      .then(() => (made = true));
    await world.until("its node is there", () => made);
    start(world, store, { client: "a", config: { registrar: { enabled: true, ttlSeconds: 60 } } });
    await world.until("it is replaced", () => {
      const node = store.peek("/test/1/pg");
      return node !== undefined && new TextDecoder().decode(node.data).includes(SELF.pgUrl);
    });
    expect(store.peek("/test/1/pg")?.ephemeralOwner).not.toBe(former.id);
    expect(former.status.kind).toBe("connected");
  });
});
