// The simulator itself: that it repeats itself, that its verdicts can fail, and that its PostgreSQL has the traps of the real one.

import { describe, expect, test } from "vitest";
import { runCommand, runScript } from "../../simulation/script.ts";
import { stepWorld } from "../../simulation/world/agenda.ts";
import { release, reload, writeCommit } from "../../simulation/world/commits.ts";
import type { SimPeer, SimServer, World } from "../../simulation/world/types.ts";
import { createWorld } from "../../simulation/world/world.ts";
import { decide } from "../../src/cluster/decide.ts";
import type { Decision } from "../../src/cluster/decision.ts";

const STORY = "shard 3\nwrite x\nrun 200ms\nkill-host A\nrun until primary B within 20s\nsettle-or-operator 20s";

function settled(): World {
  const world = createWorld({ seed: 1, decide });
  runCommand(world, "shard 3");
  return world;
}

function serverOf(world: World, name: string): { peer: SimPeer; server: SimServer } {
  const peer = world.peers.find((peer) => peer.name === name);
  if (!peer?.server) throw new Error(`${name} has no server`);
  return { peer, server: peer.server };
}

describe("scripts", () => {
  test("the same seed tells the same story, another one tells another", () => {
    expect(runScript(STORY, decide, 5).transcript).toBe(runScript(STORY, decide, 5).transcript);
    expect(runScript(STORY, decide, 5).transcript).not.toBe(runScript(STORY, decide, 6).transcript);
  });

  test("an expectation that does not hold ends the story with its line", () => {
    expect(runScript("shard 2\nexpect primary B\nrun 1s", decide).failure).toMatch(/^line 2: expected primary B/);
  });

  test("a shard that can't settle says each peer's decision", () => {
    const { failure } = runScript("shard 2\nkill-host A\nsettle 20s", decide);
    expect(failure).toMatch(/does not settle/);
    expect(failure).toMatch(/B: T1 /);
  });

  test.each([
    ["nonsense", /there is no command nonsense/],
    ["expect nonsense", /nothing can be expected of "nonsense"/],
    ["run soon", /no duration/],
    ["kill-host Z", /there is no peer Z/],
    ["replace-data A worse", /replace-data A older/],
  ])("a mistake in a script (%s) is told with its line", (line, message) => {
    const { failure } = runScript(`peers 1\n${line}`, decide);
    expect(failure).toMatch(/^line 2: /);
    expect(failure).toMatch(message);
  });

  test("a decision without reason to go on is noticed as silent (I6)", () => {
    const silent = (...[observation, memory]: Parameters<typeof decide>): Decision => ({
      ...decide(observation, memory),
      waitingOn: undefined,
      operator: undefined,
      action: undefined,
    });
    const { failure } = runScript("peers 2\nsettle-or-operator 5s", silent);
    expect(failure).toMatch(/does not settle/);
  });
});

describe("the simulated PostgreSQL", () => {
  test("a commit is acknowledged when the sync has flushed it, not before", () => {
    const world = settled();
    const { peer, server } = serverOf(world, "A");
    expect(writeCommit(world, peer, "x")).toBe(true);
    expect(server.waiting.map(({ value }) => value)).toEqual(["x"]);
    runCommand(world, "run 200ms");
    expect(world.clients.acknowledged.has("x")).toBe(true);
  });

  test("each walsender releases by the list that it has applied itself, not by the one just written", () => {
    const world = settled();
    const { peer, server } = serverOf(world, "A");
    runCommand(world, "run until follows C B");
    const sync = server.senders.find((sender) => sender.peer === "B");
    if (!sync) throw new Error("B does not stream");
    writeCommit(world, peer, "x");
    reload(world, peer, { ...server.settings, syncNames: ["manatee-nobody"] });
    sync.flush = server.waiting[0]?.end;
    release(world, peer, sync);
    expect(world.clients.acknowledged.has("x")).toBe(true);
  });

  test("once it has applied a list that asks for nobody known, it releases nothing", () => {
    const world = settled();
    const { peer, server } = serverOf(world, "A");
    const sync = server.senders.find((sender) => sender.peer === "B");
    if (!sync) throw new Error("B does not stream");
    writeCommit(world, peer, "x");
    sync.applied = ["manatee-nobody"];
    sync.flush = server.waiting[0]?.end;
    release(world, peer, sync);
    expect(world.clients.acknowledged.has("x")).toBe(false);
  });

  test("an empty list acknowledges everything that waits", () => {
    const world = settled();
    const { peer, server } = serverOf(world, "A");
    runCommand(world, "kill-postgres B");
    writeCommit(world, peer, "x");
    reload(world, peer, { ...server.settings, syncNames: [] });
    for (let i = 0; i < 200 && !world.clients.acknowledged.has("x"); i++) stepWorld(world);
    expect(world.clients.acknowledged.has("x")).toBe(true);
  });

  test("a hung server answers nothing, and keeps what it has", () => {
    const world = settled();
    runCommand(world, "pause-postgres B");
    runCommand(world, "write x");
    runCommand(world, "run 1s");
    expect(world.clients.acknowledged.has("x")).toBe(false);
    expect(serverOf(world, "B").server.frozen).toBe(true);
  });
});
