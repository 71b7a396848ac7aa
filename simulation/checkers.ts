// What must hold in every state of the simulated world, whatever happened: I1 to I3 of the protocol, and what every comparison of WAL
// rests on. I4 and I5 are checked where they happen (commits.ts, jobs.ts), documents where they are written (store.ts).

import { containsPoint } from "../src/base/lineage.ts";
import type { ShardState } from "../src/cluster/state.ts";
import type { SimPeer, World } from "./world/types.ts";
import { describeWal, showWal, shownFork, type SimWal } from "./world/wal.ts";

/** Adds what is violated now to the world's violations. WAL that grows lacks nothing that it had: then only what is new is looked at. */
export function checkWorld(world: World): void {
  const { promised, fresh } = world.clients;
  const changed = world.dirty || (world.appended && syncQualifiesNewly(world));
  if (changed) world.violations.push(...violationsOf(world, promised));
  else if (world.appended) world.violations.push(...checkDivergence(world));
  const news = fresh.filter((value) => promised.has(value));
  if (!changed && news.length > 0) world.violations.push(...violationsOf(world, news));
  world.dirty = false;
  world.appended = false;
  fresh.length = 0;
}

export function violationsOf(world: World, values: Iterable<string> = world.clients.promised): readonly string[] {
  return [...checkNamed(world, values), ...checkCopies(world, values), ...checkDivergence(world)];
}

const qualifiedBefore = new WeakMap<World, boolean>();

function syncQualifiesNewly(world: World): boolean {
  const { state } = world.store;
  const sync = state?.sync && peerById(world, state.sync.id);
  const now = state !== undefined && sync !== null && sync !== undefined && qualifies(sync, state);
  const before = qualifiedBefore.get(world);
  qualifiedBefore.set(world, now);
  return now && before !== true;
}

/** Values that are not in this WAL. */
function lackedBy(wal: SimWal, values: Iterable<string>): readonly string[] {
  const lacked: string[] = [];
  for (const value of values) if (!wal.values.has(value)) lacked.push(value);
  return lacked;
}

/** I2, I3: the named primary (with the named data) has all; so has the sync as soon as it may take over. */
function checkNamed(world: World, values: Iterable<string>): readonly string[] {
  const { state, history } = world.store;
  // One that was put back names whom it named then: it promises nothing, and must not be followed (B1.6).
  if (!state || history.some((entry) => entry.state.generation > state.generation)) return [];
  const found: string[] = [];
  const primary = peerById(world, state.primary.id);
  const data = primary?.data;
  if (
    primary &&
    data?.mark &&
    (data.mark.incarnation === state.primary.incarnation || primary.server?.kind === "primary")
  ) {
    const lost = lackedBy(data.wal, values);
    if (lost.length > 0)
      found.push(
        `I2/I3: ${told(world, lost)}, is not on ${primary.name}, the primary of generation ${state.generation} (${showWal(data.wal)})`,
      );
  }
  const sync = state.sync && peerById(world, state.sync.id);
  if (sync?.data && qualifies(sync, state)) {
    const lacks = lackedBy(sync.data.wal, values);
    if (lacks.length > 0)
      found.push(
        `I2/I3: ${sync.name}, the sync of generation ${state.generation} (${showWal(sync.data.wal)}), may take over without ${told(world, lacks)}`,
      );
  }
  return found;
}

const TOLD_MAX = 10;

function told(world: World, values: readonly string[]): string {
  const list = values.length > TOLD_MAX ? [...values.slice(0, TOLD_MAX), "…"] : values;
  return `${list.join(", ")}, which was ${values.some((value) => world.clients.acknowledged.has(value)) ? "acknowledged" : "seen"}`;
}

/** T1: whether this sync has the data that the state names, and the generation's beginning. */
function qualifies(sync: SimPeer, state: ShardState): boolean {
  const { data } = sync;
  if (!data?.mark || data.cutShort !== undefined || data.mark.incarnation !== state.sync?.incarnation) return false;
  return containsPoint(describeWal(data.wal), { timeline: state.initTimeline, lsn: state.initWal });
}

/** I1: what was acknowledged is on two peers, less those whose data a fault took away. */
function checkCopies(world: World, values: Iterable<string>): readonly string[] {
  const { state } = world.store;
  if (!state || state.sync === null || state.oneNodeWriteMode || world.lossesOfData >= 2) return [];
  const single: string[] = [];
  for (const value of values) {
    let copies = world.lossesOfData;
    for (const { data } of world.peers) if (data?.wal.values.has(value)) copies++;
    if (copies < 2 && world.clients.acknowledged.has(value)) single.push(value);
  }
  return single.length > 0 ? [`I1: ${told(world, single)}, is on one peer only`] : [];
}

/** Up to the fork that timelines and positions show, WAL is the same everywhere. */
function checkDivergence(world: World): readonly string[] {
  const found: string[] = [];
  for (const [i, a] of world.peers.entries())
    for (const b of world.peers.slice(i + 1)) {
      if (!a.data || !b.data || a.data.systemIdentifier !== b.data.systemIdentifier) continue;
      if (a.data.wal.records.length === 0 || b.data.wal.records.length === 0) continue;
      if (!isSameUpTo(a.data.wal, b.data.wal, shownFork(a.data.wal, b.data.wal)))
        found.push(
          `${a.name} (${showWal(a.data.wal)}) and ${b.name} (${showWal(b.data.wal)}) differ, and neither timeline nor position shows it`,
        );
    }
  return found;
}

/** Whether the last of so many records is the same: those before it were compared when it came. */
function isSameUpTo(a: SimWal, b: SimWal, length: number): boolean {
  return length === 0 || a.records[length - 1]?.id === b.records[length - 1]?.id;
}

export function peerById(world: World, id: string): SimPeer | undefined {
  return world.peers.find(({ address }) => address.id === id);
}

// --- liveness

/** What is still missing until clients can commit and everybody is back; empty: all is well. */
export function notSettled(world: World): readonly string[] {
  const { state } = world.store;
  if (!state) return ["there is no state"];
  const missing: string[] = [];
  const primary = peerById(world, state.primary.id);
  const server = primary?.server;
  if (!primary || server?.kind !== "primary" || server.settings.gate !== "open")
    missing.push("the named primary is not open");
  if (state.provisional) missing.push("the generation is provisional");
  if (state.promote) missing.push("a promote request is pending");
  if (server && server.waiting.length > 0) missing.push("commits wait");
  if (state.sync === null) {
    if (!state.oneNodeWriteMode) missing.push("there is no sync");
  } else if (!server?.senders.some(({ peer }) => peerById(world, state.sync?.id ?? "")?.name === peer))
    missing.push("the sync does not stream");
  if (state.oneNodeWriteMode) return missing;
  for (const peer of world.peers) {
    if (!peer.hostUp || peer === primary) continue;
    if (
      ![state.sync, ...state.async].some(
        (entry) => entry?.id === peer.address.id && entry.incarnation === peer.data?.mark?.incarnation,
      )
    )
      missing.push(`${peer.name} is not in the chain`);
    else if (peer.server?.receiver?.kind !== "streaming") missing.push(`${peer.name} does not stream`);
    else if (peer.data && primary?.data && peer.data.wal.records.length < primary.data.wal.records.length)
      missing.push(`${peer.name} is behind`);
  }
  return missing;
}

/** I6: peers whose decision neither acts, nor waits for anything, nor names an operator's command, though the shard is not well. */
export function silentPeers(world: World): readonly string[] {
  return world.peers
    .filter(({ sitter }) => sitter?.lastDecision && !hasExit(sitter.lastDecision))
    .map(({ name }) => name);
}

export function hasExit(decision: {
  waitingOn: string | undefined;
  operator: string | undefined;
  action: unknown;
}): boolean {
  return decision.waitingOn !== undefined || decision.operator !== undefined || decision.action !== undefined;
}
