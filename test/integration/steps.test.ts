// A host that crashes right after a step of a change, as its sitter's log tells the steps: the shard goes on and has lost nothing.

import { stat } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import type { TestPeer } from "../support/peer.ts";
import { scenario } from "../support/scenario.ts";
import { LONG_MS, type TestShard } from "../support/shard.ts";

type LogEntry = Awaited<ReturnType<TestPeer["logEntries"]>>[number];
type Step = (entry: LogEntry) => boolean;

const LOOK_EVERY_MS = 3;
const LIMIT_MS = 60_000;

const action =
  (name: string): Step =>
  (entry) =>
    entry["msg"] === "action" && entry["action"] === name;
const jobEnded =
  (name: string): Step =>
  (entry) =>
    entry["msg"] === "job ended" && entry["job"] === name;
const reads =
  (rule: string): Step =>
  (entry) =>
    entry["msg"] === "state read" && entry["rule"] === rule;
const namesSyncs =
  (count: number): Step =>
  (entry) =>
    action("settings")(entry) && (entry["syncNames"] as readonly string[]).length === count;

/** SIGKILL of all that runs on whichever of these hosts takes that step first after the cause. Returns that one. */
async function crashAt(peers: readonly TestPeer[], step: Step, cause: () => Promise<unknown>): Promise<TestPeer> {
  const before = await Promise.all(peers.map(async (peer) => (await peer.logEntries()).length));
  await cause();
  const sizes = new Map<TestPeer, number>();
  const until = performance.now() + LIMIT_MS;
  while (performance.now() < until) {
    for (const [i, peer] of peers.entries()) {
      const { size } = await stat(peer.logFile);
      if (size === sizes.get(peer)) continue;
      sizes.set(peer, size);
      if (!(await peer.logEntries()).slice(before[i]).some(step)) continue;
      await peer.crash();
      return peer;
    }
    await sleep(LOOK_EVERY_MS);
  }
  throw new Error("the step to crash at was not taken in time");
}

async function goesOn(shard: TestShard): Promise<void> {
  await shard.waitForWrites(20, LONG_MS);
  await shard.waitForChain();
}

const BOOTSTRAP: Readonly<Record<string, Step>> = {
  "initdb was begun": action("initdb"),
  "initdb has ended": jobEnded("initdb"),
  "its database has started": jobEnded("start"),
  "generation 1 was written": reads("B1"),
};

for (const [name, step] of Object.entries(BOOTSTRAP))
  scenario(`B1: the founder's host crashes when ${name}`, { started: 0, formed: false }, async (shard) => {
    for (const peer of shard.peers) peer.startSitter();
    const founder = await crashAt(shard.peers, step, () => Promise.resolve());
    founder.startSitter();
    await shard.waitForChain();
    await shard.writer();
    await goesOn(shard);
    await shard.check();
  });

const TAKEOVER: Readonly<Record<string, Step>> = {
  "the claim was noted": action("mark-claim"),
  "the claim was written": reads("T1"),
  "the promotion was begun": action("promote"),
  "the promotion has ended": jobEnded("promote"),
};

scenario("T1: the new primary's host crashes at each step of a takeover", {}, async (shard) => {
  await shard.writer();
  for (const step of Object.values(TAKEOVER)) {
    const [old, next] = [await shard.primary(), await shard.sync()];
    expect(await crashAt([next], step, () => old.crash())).toBe(next);
    old.startSitter();
    next.startSitter();
    await goesOn(shard);
  }
  await shard.check();
});

const NEW_SYNC: Readonly<Record<string, Step>> = {
  "commits wait for both": namesSyncs(2),
  "the marker was written": action("write-marker"),
  "the new sync was named": reads("S1"),
};

for (const back of ["both come back", "the primary comes back alone"] as const)
  scenario(`S1: the primary's host crashes at each step of a new sync; ${back}`, {}, async (shard) => {
    await shard.writer();
    for (const step of Object.values(NEW_SYNC)) {
      const [primary, sync] = [await shard.primary(), await shard.sync()];
      expect(await crashAt([primary], step, () => sync.crash())).toBe(primary);
      primary.startSitter();
      if (back === "both come back") sync.startSitter();
      await shard.waitForWrites(20, LONG_MS);
      if (sync.sitterPid === undefined) sync.startSitter();
      await goesOn(shard);
    }
    await shard.check();
  });
