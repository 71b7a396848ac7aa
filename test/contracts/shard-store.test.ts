// The shard's place in the store on the real drivers: what test/shard proves in memory must not rest on the memory's own habits.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { localStore } from "../../src/coordination/local/driver.ts";
import type { Coordination, Session } from "../../src/coordination/port.ts";
import { zookeeper } from "../../src/coordination/zookeeper/driver.ts";
import type { ShardStore } from "../../src/shard/port.ts";
import { shardStore } from "../../src/shard/shard-store.ts";
import { realClock, realRandom, realTimers } from "../../src/world/real/clock.ts";
import { silentLog } from "../coordination/local/silent-log.ts";
import { peerAddress, shardState, standbyAnnouncement } from "../support/shard-state.ts";
import { startZooKeeper, type ZooKeeperServer, zooKeeperInstalled } from "../support/zookeeper-server.ts";
import { connected, until } from "./coordination.ts";

const world = { log: silentLog, clock: realClock, timers: realTimers, random: realRandom };
const announcement = standbyAnnouncement();

describe("local", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "manatee-shard-"));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));
  shardTests("local", () => localStore({ ...world, directory: join(folder, "store") }));
});

describe.skipIf(!zooKeeperInstalled)("with a real ZooKeeper", () => {
  let folder: string;
  let server: ZooKeeperServer;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "manatee-shard-"));
    server = await startZooKeeper({ dir: folder });
  });
  afterAll(async () => {
    await server?.stop();
    await rm(folder, { recursive: true, force: true });
  });
  shardTests("zookeeper", () => zookeeper({ ...world, connectString: server.connectString }));
});

function shardTests(name: string, coordinationOf: () => Coordination): void {
  const sessions: Session[] = [];
  let count = 0;
  const openOne = async (path: string, resume?: Session["ticket"]) => {
    const session = coordinationOf().open({ sessionTimeoutMs: 4000, ...(resume && { resume }) });
    sessions.push(session);
    await connected(session);
    return { session, shard: shardStore({ session, path, ...world }) };
  };
  const newPath = () => `/manatee/${name}.${++count}`;

  afterEach(async () => {
    await Promise.all(sessions.splice(0).map((session) => session.close({ limitMs: 2000 })));
  });

  test(`${name}: folders are made by several at once, and the first state has version 1`, async () => {
    const path = newPath();
    const [a, b] = [await openOne(path), await openOne(path)];
    await Promise.all([a.shard.prepare(), b.shard.prepare()]);
    expect(await a.shard.readState({ confirmed: true })).toEqual({ kind: "absent" });
    const founding = { state: shardState({ generation: 1 }), version: undefined, by: "x" };
    const outcomes = await Promise.all([a.shard.writeState(founding), b.shard.writeState(founding)]);
    expect(outcomes.map(({ kind }) => kind).sort()).toEqual(["no", "yes"]);
    expect(await b.shard.readState({ confirmed: true })).toMatchObject({ kind: "document", version: 1 });
  });

  test(`${name}: a state is written on its version with its history, which can be trimmed`, async () => {
    const { shard } = await prepared(openOne, newPath());
    expect((await shard.writeState({ state: shardState({ generation: 1 }), version: undefined, by: "x" })).kind).toBe(
      "yes",
    );
    for (let version = 1; version < 12; version++)
      expect((await shard.writeState({ state: shardState({ generation: version + 1 }), version, by: "x" })).kind).toBe(
        "yes",
      );
    expect(await shard.writeState({ state: shardState({ generation: 13 }), version: 3, by: "x" })).toEqual({
      kind: "no",
      operation: 0,
      refusal: "bad-version",
    });
    const history = await shard.readHistory();
    expect(history.map((entry) => entry.state?.generation)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    expect(Math.abs((history[0]?.writtenWallMs ?? 0) - Date.now())).toBeLessThan(60_000);
    expect(await shard.trimHistory({ keep: 2 })).toBe(10);
    expect((await shard.readHistory({ limit: 5 })).map((entry) => entry.state?.generation)).toEqual([11, 12]);
  });

  test(`${name}: peers that announce themselves at once are all there, one node each, and stay when resumed`, async () => {
    const path = newPath();
    const first = await prepared(openOne, path);
    const peers = [first, await openOne(path), await openOne(path)];
    await Promise.all(peers.map(({ shard }, n) => shard.announce(peerAddress(n + 1), announcement)));
    const before = await first.shard.readElection();
    expect(before.map(({ peer }) => peer.id).sort()).toEqual([1, 2, 3].map((n) => peerAddress(n).id));

    const { session } = peers[1] as (typeof peers)[number];
    const { id, ticket } = session;
    await session.abandon();
    const resumed = await openOne(path, ticket);
    expect(resumed.session.id).toBe(id);
    await resumed.shard.announce(peerAddress(2), announcement);
    expect(await first.shard.readElection()).toEqual(before);

    await resumed.session.abandon();
    const fresh = await openOne(path);
    await fresh.shard.announce(peerAddress(2), announcement);
    expect((await fresh.shard.readElection()).map(({ peer }) => peer.id).at(-1)).toBe(peerAddress(2).id);
    expect(await fresh.session.list(`${path}/election`)).toHaveLength(3);
    await fresh.shard.leave();
    expect(await fresh.session.list(`${path}/election`)).toHaveLength(2);
  });

  test(`${name}: the watch tells of the state, of peers that come and go, and of what they say`, async () => {
    const path = newPath();
    const [a, b] = [await prepared(openOne, path), await openOne(path)];
    let calls = 0;
    const stop = a.shard.watch(() => calls++);
    // What is written before the store has the watch is seen by whoever reads after asking for it, and told to nobody.
    await a.shard.readState();
    const told = async (what: () => Promise<unknown>, seen: (shard: ShardStore) => Promise<boolean>) => {
      const before = calls;
      await what();
      await until("the watch is called, and the change is seen", async () => calls > before && (await seen(a.shard)));
    };
    const phase = (wanted: string) => async (shard: ShardStore) =>
      (await shard.readElection())[0]?.announcement?.phase === wanted;
    await told(
      () => b.shard.writeState({ state: shardState({ generation: 1 }), version: undefined, by: "x" }),
      async (shard) => (await shard.readState()).kind === "document",
    );
    await told(() => b.shard.announce(peerAddress(2), announcement), phase("following"));
    await told(() => b.shard.announce(peerAddress(2), { ...announcement, phase: "primary" }), phase("primary"));
    await told(() => b.shard.announce(peerAddress(2), { ...announcement, phase: "idle" }), phase("idle"));
    await told(
      () => b.session.close(),
      async (shard) => (await shard.readElection()).length === 0,
    );
    stop();
  });
}

async function prepared<T extends { shard: ShardStore }>(open: (path: string) => Promise<T>, path: string): Promise<T> {
  const opened = await open(path);
  await opened.shard.prepare();
  return opened;
}
