// The sitter's long work on its data directory: initdb, copies, roll-backs, rewinds, forks kept aside. All can be cut short.

import type { PostgresAction } from "../../src/cluster/decision.ts";
import type { DataMark } from "../../src/cluster/observation.ts";
import { leavesRoomForLess, type RejoinWay } from "../../src/cluster/rejoin-way.ts";
import type { PeerAddress } from "../../src/cluster/state.ts";
import { randomName } from "../random.ts";
import { schedule, tell } from "./agenda.ts";
import { canReach } from "./connections.ts";
import { beginJob, fail, succeed } from "./postgres.ts";
import type { SimData, SimPeer, World } from "./types.ts";
import { appendRecord, copyWal, cutWal, emptyWal, realFork, shownFork, type SimWal } from "./wal.ts";

export const SHARD = "1.sim";

export function newMark(incarnation: string, founding: boolean): DataMark {
  return {
    shard: SHARD,
    incarnation,
    claim: undefined,
    founding,
    incomplete: false,
    source: undefined,
    lastDocument: undefined,
  };
}

/** A database as initdb leaves it. */
export function freshData(world: World, mark: DataMark | undefined): SimData {
  const wal = emptyWal();
  appendRecord(wal, { id: ++world.counter, timeline: 1, kind: "init", value: undefined });
  const systemIdentifier = String(7_300_000_000_000_000_000n + BigInt(`0x${randomName(world.random)}`));
  return {
    mark,
    systemIdentifier,
    controlState: "shutdown",
    wal,
    standbySignal: false,
    unfinished: undefined,
    cutShort: undefined,
  };
}

export function runInitdb(world: World, peer: SimPeer, incarnation: string): void {
  if (peer.data && peer.data.cutShort !== "initdb")
    return fail(world, peer, {
      action: "initdb",
      code: "PG_DATA_NOT_EMPTY",
      message: "the data directory is not empty",
    });
  const job = beginJob(world, peer, "initdb");
  const data = freshData(world, newMark(incarnation, true));
  data.cutShort = "initdb";
  peer.data = data;
  schedule(world, [300, 800], `${peer.name}: initdb ends`, () => {
    if (!job.current() || peer.data !== data) return;
    job.end();
    if (cutShort(world, peer, "initdb")) return;
    data.cutShort = undefined;
    succeed(peer, "initdb");
  });
}

export function runKeepFork(world: World, peer: SimPeer, name: string): void {
  if (peer.server)
    return fail(world, peer, { action: "keep-fork", code: "PG_RUNNING", message: "the server is running" });
  const job = beginJob(world, peer, "keep-fork");
  schedule(world, [100, 600], `${peer.name}: its fork is kept as ${name}`, () => {
    if (!job.current()) return;
    job.end();
    if (cutShort(world, peer, "keep-fork") || !peer.data) return;
    if (!peer.forks.some((fork) => fork.name === name)) peer.forks.push({ name, wal: copyWal(peer.data.wal) });
    succeed(peer, "keep-fork");
    tell(world, `${peer.name}: keeps its fork aside`);
  });
}

function cutShort(world: World, peer: SimPeer, action: string): boolean {
  if (!peer.faults.breakJob) return false;
  peer.faults.breakJob = false;
  fail(world, peer, { action, code: "PG_JOB_FAILED", message: "cut short" });
  return true;
}

/** The peer whose server a copy or rewind reads from; undefined where it can't. */
function sourceOf(world: World, peer: SimPeer, from: PeerAddress): SimPeer | undefined {
  const source = world.peers.find(({ address }) => address.id === from.id);
  const server = source?.server;
  if (!source?.data || !server || server.frozen || server.kind === "starting" || server.stopping || server.promoting)
    return undefined;
  return canReach(world, peer, source) ? source : undefined;
}

export function runRewind(world: World, peer: SimPeer, from: PeerAddress): void {
  const refuse = (message: string): void => fail(world, peer, { action: "rewind", code: "PG_REWIND_FAILED", message });
  const data = peer.data;
  if (peer.server) return refuse("the server is running");
  if (!data?.mark || (data.cutShort !== undefined && data.cutShort !== "rewind"))
    return refuse("there is nothing to rewind");
  const job = beginJob(world, peer, "rewind");
  schedule(world, [20, 200], `${peer.name}: pg_rewind connects`, () => {
    if (!job.current() || peer.data !== data || !data.mark) return job.end();
    const source = sourceOf(world, peer, from);
    const begun = source?.server;
    if (!source?.data || source.data.systemIdentifier !== data.systemIdentifier) {
      job.end();
      return refuse(`can't read from ${from.pgUrl}`);
    }
    // On one timeline pg_rewind does nothing, and says that all is well: the driver refuses.
    if (data.wal.timeline === source.data.wal.timeline) {
      job.end();
      return refuse("both are on one timeline");
    }
    data.mark = { ...data.mark, incomplete: true, source: from.id };
    data.cutShort = "rewind";
    world.dirty = true;
    schedule(world, [200, 1_000], `${peer.name}: pg_rewind ends`, () => {
      if (!job.current() || peer.data !== data || !data.mark) return job.end();
      job.end();
      if (cutShort(world, peer, "rewind")) return;
      if (sourceOf(world, peer, from)?.server !== begun || !source.data) return refuse(`lost ${from.pgUrl}`);
      checkThrownAway(world, peer, source.data.wal);
      data.wal = copyWal(source.data.wal);
      data.controlState = "recovery";
      data.standbySignal = false;
      data.unfinished = undefined;
      data.partialRecord = false;
      data.mark = { ...data.mark, incomplete: false };
      data.cutShort = undefined;
      world.dirty = true;
      isRebuilt(peer, "rewind", from);
      succeed(peer, "rewind");
      tell(world, `${peer.name}: has rewound against ${source.name}`);
    });
  });
}

/** Of the storage: at once, whatever the server does. */
export function takeSnapshot(peer: SimPeer): void {
  peer.snapshots ??= [];
  if (peer.data && peer.data.cutShort === undefined)
    peer.snapshots.push({ systemIdentifier: peer.data.systemIdentifier, wal: copyWal(peer.data.wal) });
}

/** The newest snapshot before the fork, and this peer's own WAL from there up to the fork. What shows the fork is what both sides' timelines show. */
export function runRollBack(world: World, peer: SimPeer, from: PeerAddress): void {
  const refuse = (message: string): void =>
    fail(world, peer, { action: "roll-back", code: "PG_ROLL_BACK_FAILED", message });
  const data = peer.data;
  if (peer.server) return refuse("the server is running");
  if (!data?.mark || data.cutShort !== undefined) return refuse("there is nothing to roll back");
  const job = beginJob(world, peer, "roll-back");
  schedule(world, [20, 200], `${peer.name}: a snapshot is chosen`, () => {
    if (!job.current() || peer.data !== data || !data.mark) return job.end();
    const source = sourceOf(world, peer, from)?.data;
    const { systemIdentifier } = data;
    const serves = peer.snapshots?.some(
      (snapshot) =>
        source?.systemIdentifier === systemIdentifier &&
        snapshot.systemIdentifier === systemIdentifier &&
        shownFork(snapshot.wal, source.wal) === snapshot.wal.records.length,
    );
    if (!source || !serves) {
      job.end();
      return refuse(source ? "no snapshot ends before the fork" : `can't read from ${from.pgUrl}`);
    }
    const next = cutWal(data.wal, shownFork(data.wal, source.wal));
    data.mark = { ...data.mark, incomplete: true, source: from.id };
    data.cutShort = "roll-back";
    world.dirty = true;
    schedule(world, [50, 300], `${peer.name}: the snapshot takes the place of its data`, () => {
      if (!job.current() || peer.data !== data || !data.mark) return job.end();
      job.end();
      if (cutShort(world, peer, "roll-back")) return;
      checkThrownAway(world, peer, source.wal);
      if (realFork(next, source.wal) < next.records.length)
        world.violations.push(`R1: ${peer.name} rolls back to WAL that is not its source's`);
      data.wal = next;
      data.controlState = "recovery";
      data.standbySignal = true;
      data.unfinished = undefined;
      data.partialRecord = false;
      data.mark = { ...data.mark, incomplete: false };
      data.cutShort = undefined;
      world.dirty = true;
      isRebuilt(peer, "roll-back", from);
      succeed(peer, "roll-back");
      tell(world, `${peer.name}: has rolled back, to go on from ${peerName(world, from)}`);
    });
  });
}

function peerName(world: World, { id }: PeerAddress): string {
  return world.peers.find(({ address }) => address.id === id)?.name ?? id;
}

/** What is there goes first, before anything is known of the source: it must have been kept, or be worth nothing. */
export function runCopy(world: World, peer: SimPeer, action: Extract<PostgresAction, { kind: "copy" }>): void {
  const refuse = (message: string): void => fail(world, peer, { action: "copy", code: "PG_COPY_FAILED", message });
  if (peer.server) return refuse("the server is running");
  const job = beginJob(world, peer, "copy");
  schedule(world, [20, 200], `${peer.name}: base backup begins`, () => {
    if (!job.current()) return;
    const replaced = peer.data?.cutShort === undefined ? peer.data?.wal : undefined;
    if (replaced) checkOnlyCopy(world, peer, replaced);
    const data = emptied(peer, action);
    peer.data = data;
    world.dirty = true;
    const source = sourceOf(world, peer, action.from);
    const begun = source?.server;
    const kind = begun?.kind;
    if (!source?.data) {
      job.end();
      return refuse(`can't read from ${action.from.pgUrl}`);
    }
    data.systemIdentifier = source.data.systemIdentifier;
    schedule(world, [800, 1_600], `${peer.name}: base backup ends`, () => {
      if (!job.current() || peer.data !== data) return job.end();
      job.end();
      if (cutShort(world, peer, "copy")) return;
      const now = sourceOf(world, peer, action.from)?.server;
      if (!source.data || now !== begun || now?.kind !== kind) return refuse(`lost ${action.from.pgUrl}`);
      if (replaced) checkThrownAway(world, peer, source.data.wal, replaced);
      data.wal = copyWal(source.data.wal);
      if (data.mark) data.mark = { ...data.mark, incomplete: false };
      data.controlState = "recovery";
      data.cutShort = undefined;
      world.dirty = true;
      isRebuilt(peer, "copy", action.from);
      succeed(peer, "copy");
      tell(world, `${peer.name}: has copied ${source.name}`);
    });
  });
}

/** As the sitter takes an operator's request away: less than a copy is not always what was asked for. */
function isRebuilt({ sitter }: SimPeer, by: RejoinWay, from: PeerAddress): void {
  const wish = sitter?.rebuildRequested;
  if (!sitter || !wish) return;
  if (by === "copy" || leavesRoomForLess(wish, { primary: from.id, forked: true })) sitter.rebuildRequested = undefined;
}

/** The directory when a copy begins: a mark, and no database. */
function emptied(peer: SimPeer, { from, incarnation }: Extract<PostgresAction, { kind: "copy" }>): SimData {
  const lastDocument = peer.data?.mark?.lastDocument;
  return {
    mark: { ...newMark(incarnation, false), incomplete: true, source: from.id, lastDocument },
    systemIdentifier: "",
    controlState: "other",
    wal: emptyWal(),
    standbySignal: true,
    unfinished: undefined,
    cutShort: "copy",
  };
}

/** Whatever may be an only copy: content that is neither kept nor on another peer (I5). */
function checkOnlyCopy(world: World, peer: SimPeer, wal: SimWal): void {
  const length = wal.records.findLastIndex(({ kind }) => kind === "commit") + 1;
  const others = [
    ...peer.forks.map((fork) => fork.wal),
    ...world.peers.filter((other) => other !== peer).map((other) => other.data?.wal),
  ];
  const kept = others.some((other) => other && realFork(other, wal) >= length);
  if (!kept) world.violations.push(`I5: ${peer.name} throws away a fork that is kept nowhere`);
}

function checkThrownAway(world: World, peer: SimPeer, next: SimWal, before = peer.data?.wal): void {
  if (!before) return;
  checkOnlyCopy(world, peer, before);
  const { acknowledged, forgiven } = world.clients;
  const thrown = [...before.values].filter(
    (value) => acknowledged.has(value) && !forgiven.has(value) && !next.values.has(value),
  );
  if (thrown.length > 0)
    world.violations.push(`I1: ${peer.name} throws away ${thrown.join(", ")}, which is acknowledged`);
}
