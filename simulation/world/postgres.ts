// PostgreSQL of one simulated peer: starts, stops, crashes, promotes. Each takes several steps, between which anything may happen.

import type { Timeline } from "../../src/base/lsn.ts";
import type { Ms } from "../../src/base/units.ts";
import type { PostgresAction } from "../../src/cluster/decision.ts";
import type { Failure, PostgresSettings } from "../../src/cluster/observation.ts";
import { chance } from "../random.ts";
import { nextNumber, schedule, tell } from "./agenda.ts";
import { admitSessions, endSessions, look, writeRecord } from "./commits.ts";
import { checkSilence, closeConnections, ensureReceiver } from "./connections.ts";
import { soon } from "./sitter.ts";
import type { SimData, SimJob, SimPeer, SimServer, World } from "./types.ts";
import { walEnd } from "./wal.ts";

type Start = Extract<PostgresAction, { kind: "start" }>;

/** Begins a job of the sitter's driver. `done` says whether it is still this one that is under way. */
export function beginJob(
  world: World,
  peer: SimPeer,
  kind: SimJob["kind"],
): { current: () => boolean; end: () => void } {
  const number = nextNumber(world);
  const sitter = peer.sitter;
  if (sitter) sitter.job = { kind, number, since: world.now };
  const current = (): boolean => peer.sitter === sitter && sitter?.job?.number === number;
  return {
    current,
    end: () => {
      if (current() && sitter) sitter.job = undefined;
      soon(world, peer);
    },
  };
}

export function fail(
  world: World,
  peer: SimPeer,
  failure: { action: string; code: string; message: string; hint?: string },
): void {
  const sitter = peer.sitter;
  if (!sitter) return;
  const before = sitter.failure?.action === failure.action ? sitter.failure.count : 0;
  sitter.failure = {
    hint: "Look at the server's log.",
    ...failure,
    at: world.now,
    count: before + 1,
  } satisfies Failure;
  tell(world, `${peer.name}: ${failure.action} failed: ${failure.message}`);
}

export function succeed(peer: SimPeer, action: string): void {
  if (peer.sitter?.failure?.action === action) peer.sitter.failure = undefined;
}

function newServer(world: World, settings: PostgresSettings): SimServer {
  return {
    number: nextNumber(world),
    kind: "starting",
    since: world.now,
    frozen: false,
    settings,
    senders: [],
    receiver: undefined,
    sessions: 0,
    recoveredEnd: 0n as SimServer["recoveredEnd"],
    commitsWait: false,
    marker: undefined,
    waiting: [],
    visible: new Set(),
    replayPaused: false,
    replayedTo: undefined,
    stopping: false,
    promoting: false,
    cannotGoOn: undefined,
    connectScheduled: false,
  };
}

export function startServer(world: World, peer: SimPeer, action: Start): void {
  const data = peer.data;
  const refuse = (code: string, message: string): void => fail(world, peer, { action: "start", code, message });
  if (peer.server) return refuse("PG_ALREADY_RUNNING", "a server is running on this data");
  if (!data || data.cutShort !== undefined) return refuse("PG_DATA_UNUSABLE", "there is no complete data directory");
  if (action.as === "primary" && data.standbySignal) return refuse("PG_STANDBY_SIGNAL", "standby.signal is there");
  if (action.as === "standby") {
    data.standbySignal = true;
    if (data.unfinished === action.unfinishedTimeline) data.unfinished = undefined;
    if (action.cutAfter?.timeline === data.wal.timeline && action.cutAfter.lsn === walEnd(data.wal))
      data.partialRecord = false;
  }
  const server = newServer(world, action.settings);
  peer.server = server;
  const job = beginJob(world, peer, "start");
  world.dirty = true;
  schedule(world, [30, 300], `${peer.name}: PostgreSQL is up as ${action.as}`, () => {
    job.end();
    if (peer.server !== server || peer.data !== data) return;
    if (server.frozen) return;
    succeed(peer, "start");
    server.since = world.now;
    if (action.as === "primary") servesFrom(world, peer, { server, data, kind: "checkpoint" });
    else {
      server.kind = "standby";
      data.controlState = "recovery";
      ensureReceiver(world, peer);
      admitSessions(world, peer);
    }
  });
}

/** A primary begins to serve, behind a record of its own: of its start, or of the new timeline. */
function servesFrom(
  world: World,
  peer: SimPeer,
  at: { server: SimServer; data: SimData; kind: "checkpoint" | "begin"; timeline?: Timeline },
): void {
  const { server, data, kind } = at;
  server.kind = "primary";
  world.dirty = true;
  data.controlState = "production";
  writeRecord(world, peer, { kind, timeline: at.timeline ?? data.wal.timeline, value: undefined });
  server.recoveredEnd = walEnd(data.wal);
  server.visible = new Set(data.wal.values);
  // the checkpointer says some time after a start that commits are to wait
  if (kind === "begin") server.commitsWait = true;
  else schedule(world, [0, 80], `${peer.name}: commits wait`, () => (server.commitsWait = true));
  admitSessions(world, peer);
  look(world, peer);
}

/** The process is gone. */
export function endServer(world: World, peer: SimPeer, how: SimPeer["stopped"]["how"]): void {
  const server = peer.server;
  if (!server) return;
  peer.server = undefined;
  peer.stopped = { since: world.now, how };
  closeConnections(world, peer, server);
  checkSilence(world);
  world.dirty = true;
  soon(world, peer);
}

const STOP_POLL_MS: Ms = 40;

export function stopServer(world: World, peer: SimPeer, mode: "fast" | "immediate"): void {
  const server = peer.server;
  if (!server) return;
  const job = beginJob(world, peer, "stop");
  const gone = (): void => {
    job.end();
    if (peer.server === server) endServer(world, peer, "stopped");
  };
  if (mode === "immediate") return schedule(world, [5, 40], `${peer.name}: PostgreSQL is stopped at once`, gone);
  server.stopping = true;
  if (server.kind !== "primary") return schedule(world, [20, 100], `${peer.name}: PostgreSQL is shut down`, gone);
  const finish = (): void => {
    if (peer.server !== server || !peer.data) return job.end();
    const end = walEnd(peer.data.wal);
    if (!server.frozen && server.senders.every(({ flush }) => flush !== undefined && flush >= end)) return gone();
    schedule(world, STOP_POLL_MS, `${peer.name}: waits for walsenders`, finish);
  };
  schedule(world, [10, 50], `${peer.name}: writes its shutdown record`, () => {
    if (peer.server !== server || !peer.data) return job.end();
    if (server.frozen) return finish();
    endSessions(server);
    writeRecord(world, peer, { kind: "shutdown", timeline: peer.data.wal.timeline, value: undefined });
    peer.data.controlState = "shutdown";
    schedule(world, STOP_POLL_MS, `${peer.name}: waits for walsenders`, finish);
  });
}

export function promoteServer(world: World, peer: SimPeer, timeline: Timeline): void {
  const { server, data } = peer;
  if (!server || !data || server.kind !== "standby")
    return fail(world, peer, { action: "promote", code: "PG_NOT_STANDBY", message: "there is no standby to promote" });
  const taken = timeline <= Math.max(data.wal.timeline, data.unfinished ?? 0);
  if (taken)
    return fail(world, peer, {
      action: "promote",
      code: "PG_TIMELINE_TAKEN",
      message: `timeline ${timeline} has been used here`,
    });
  const job = beginJob(world, peer, "promote");
  schedule(world, [20, 80], `${peer.name}: the server removes standby.signal`, () => {
    if (peer.server !== server || server.frozen) return job.end();
    const receiver = server.receiver;
    server.promoting = true;
    if (receiver) receiver.ending = true;
    server.receiver = undefined;
    data.standbySignal = false;
    schedule(world, [50, 250], `${peer.name}: timeline ${timeline} begins`, () => {
      job.end();
      if (peer.server !== server || server.frozen) return;
      if (peer.faults.crashInPromotion) {
        peer.faults.crashInPromotion = false;
        if (chance(world.random, 0.5)) data.unfinished = timeline;
        tell(world, `${peer.name}: PostgreSQL crashes inside its promotion`);
        return endServer(world, peer, "exited");
      }
      succeed(peer, "promote");
      server.promoting = false;
      server.since = world.now;
      closeConnections(world, peer, server);
      servesFrom(world, peer, { server, data, kind: "begin", timeline });
      tell(world, `${peer.name}: timeline ${timeline} begins`);
    });
  });
}
