// The demonstration's story: the chain forms, applications write, the primary dies, the shard goes on, the dead peer comes back, all is there.

import { setTimeout as sleep } from "node:timers/promises";
import type { Shard, Peer } from "./shard.ts";
import type { Show } from "./show.ts";
import { count } from "./text.ts";
import { isWhole, type Reports, type Watch } from "./watch.ts";
import type { Writer } from "./writer.ts";

export interface Stage {
  readonly shard: Shard;
  readonly watch: Watch;
  readonly writer: Writer;
  readonly show: Show;
  /** Sitters that this says yes to are started again when they end: what a service manager does. */
  supervise: (peer: Peer) => boolean;
}

/** Bounds, far above what it takes: past them something is wrong. */
const limits = { formMs: 120_000, takeoverMs: 60_000, rejoinMs: 120_000, catchUpMs: 30_000 };

/** How long one sees it write before the primary dies, and before the dead one is started again. */
const pauses = { writingMs: 4_000, deadMs: 2_000, backMs: 2_000 };

export async function form({ shard, watch, writer, show }: Stage): Promise<void> {
  const started = performance.now();
  for (const peer of shard.peers) peer.startSitter();
  show.event(`three sitters started; the first of them makes the database, the others copy it`);
  const ended = () => shard.peers.find((peer) => peer.sitterPid === undefined);
  await watch.until("the chain of three", (reports) => isWhole(reports) || ended() !== undefined, limits.formMs);
  const dead = ended();
  if (dead) throw new Error(`${dead.name}'s sitter has ended`);
  show.event(`the chain stands: ${took(started)}`, "good");
  await writer.start(primaryOf(watch));
  show.event("four applications write, each row waits for the primary and the sync");
}

/** Kills the primary hard, and follows what happens until the chain is whole again. */
export async function failover(stage: Stage): Promise<void> {
  const { watch, writer, show } = stage;
  const victim = primaryOf(watch);
  const generation = watch.generation() ?? 0;
  writer.longestGapMs = 0;

  stage.supervise = (peer) => peer !== victim;
  const killed = performance.now();
  victim.killHard();
  show.event(`SIGKILL: ${victim.name}'s sitter and every process of its PostgreSQL`, "bad");

  await watch.until("a takeover", (reports) => taker(reports, victim, generation) !== undefined, limits.takeoverMs);
  const successor = taker(watch.reports, victim, generation);
  show.event(`${successor?.name} has taken over: ${took(killed)} after the kill`);

  // An answer that was on its way at the kill is none of the new primary's.
  const taken = performance.now();
  for (const until = taken + limits.takeoverMs; writer.lastAt < taken; await sleep(5))
    if (performance.now() > until) throw new Error(`writes go on: not within ${limits.takeoverMs / 1000} s`);
  show.event(`writes go on; nobody could write for ${count(Math.round(writer.longestGapMs))} ms`, "good");

  await sleep(pauses.deadMs);
  const back = performance.now();
  victim.startSitter();
  stage.supervise = () => true;
  show.event(`${victim.name} is started again, and has to find its place by itself`);
  await watch.until(`${victim.name} back in the chain`, isWhole, limits.rejoinMs);
  show.event(`${victim.name} is back in the chain: ${took(back)} after its start`, "good");
}

/** Counts, on each peer, what was acknowledged. True if nothing is missing anywhere. */
export async function check({ shard, writer, watch, show }: Stage): Promise<boolean> {
  await sleep(pauses.backMs);
  const acknowledged = writer.acknowledged;
  const results = await Promise.all(
    shard.peers.map(async (peer) => ({ peer, missing: await missingOn(writer, peer, peer === primaryOf(watch)) })),
  );
  for (const { peer, missing } of results) {
    if (missing === undefined) show.event(`${peer.name} lets no reader in: not counted there`);
    else if (missing === 0) show.event(`${peer.name} holds all ${count(acknowledged)} acknowledged writes`, "good");
    else show.event(`${peer.name} LACKS ${count(missing)} of ${count(acknowledged)} acknowledged writes`, "bad");
  }
  return (
    results.every(({ missing }) => missing === undefined || missing === 0) &&
    results.some(({ missing }) => missing === 0)
  );
}

/** A standby has what it was sent, and shows it a moment later. undefined: it does not let readers in, which the primary must. */
async function missingOn(writer: Writer, peer: Peer, isPrimary: boolean): Promise<number | undefined> {
  for (const until = performance.now() + limits.catchUpMs; ; await sleep(200)) {
    const missing = await writer.missingOn(peer).catch((error: Error) => error);
    if (missing === 0) return 0;
    if (performance.now() < until && (typeof missing === "number" ? !isPrimary : isPrimary)) continue;
    if (typeof missing === "number") return missing;
    if (isPrimary) throw missing;
    return undefined;
  }
}

export async function letWrite(): Promise<void> {
  await sleep(pauses.writingMs);
}

export function primaryOf(watch: Watch): Peer {
  const primary = watch.primary();
  if (!primary) throw new Error("no peer says that it is the primary");
  return primary;
}

function taker(reports: Reports, victim: Peer, generation: number): Peer | undefined {
  return [...reports].find(
    ([peer, report]) => peer !== victim && report?.role === "primary" && (report.generation ?? 0) > generation,
  )?.[0];
}

function took(since: number): string {
  return `${count(Math.round(performance.now() - since))} ms`;
}
