// What can go wrong in the simulated world, and how it ends. Each fault does to the world what the real one does, and nothing else:
// nobody is told of it but by what they observe.

import type { Ms } from "../src/base/units.ts";
import { ScriptMistake } from "./conditions.ts";
import { randomName } from "./random.ts";
import { schedule } from "./world/agenda.ts";
import { checkSilence, ensureReceiver, linkName } from "./world/connections.ts";
import { freshData } from "./world/jobs.ts";
import { endServer } from "./world/postgres.ts";
import { endSitter, startSitter, wakeSitter } from "./world/sitter.ts";
import { connectSession, expireSession, loseContact, noticeCutOff, readSoon } from "./world/store.ts";
import type { SimData, SimPeer, World } from "./world/types.ts";
import { appendRecord, cutWal, indexOf, walEnd } from "./world/wal.ts";

const NOTICE_MS: readonly [Ms, Ms] = [5, 500];

// --- PostgreSQL

export function killPostgres(world: World, peer: SimPeer): void {
  endServer(world, peer, "exited");
}

/** SIGSTOP and SIGCONT of the postmaster and its children. */
export function pausePostgres(world: World, peer: SimPeer): void {
  if (!peer.server) return;
  peer.server.frozen = true;
  checkSilence(world);
}

export function resumePostgres(world: World, peer: SimPeer): void {
  const { server } = peer;
  if (!server?.frozen) return;
  server.frozen = false;
  // a start or a promotion that was frozen does not go on by itself here: it is over
  if (server.kind === "starting" || server.promoting) return endServer(world, peer, "exited");
  checkSilence(world);
  ensureReceiver(world, peer);
  for (const other of world.peers) ensureReceiver(world, other);
}

/** A full disk: the server says that it can't go on. */
export function fillDisk(peer: SimPeer): void {
  if (peer.server) peer.server.cannotGoOn = "no space left on device";
}

export function pauseReplay(world: World, peer: SimPeer, paused: boolean): void {
  if (!peer.server || !peer.data) return;
  peer.server.replayPaused = paused;
  peer.server.replayedTo = paused ? walEnd(peer.data.wal) : undefined;
  ensureReceiver(world, peer);
}

/** Nobody can have the WAL that it has now from there any more, but those who are about to. */
export function dropWal({ data, server }: SimPeer): void {
  if (!data) return;
  const wanted = server?.senders.map(({ flush }) => (flush === undefined ? 0 : indexOf(flush))) ?? [];
  data.keptFrom = Math.max(data.keptFrom ?? 0, Math.min(data.wal.records.length, ...wanted));
}

/** What a standby received last is a part of a record: its primary died in the middle of it. */
export function cutRecord({ data, server }: SimPeer): void {
  if (data && server?.kind === "standby") data.partialRecord = true;
}

// --- sitters and hosts

export function killSitter(world: World, peer: SimPeer): void {
  endSitter(world, peer);
}

export function restartSitter(world: World, peer: SimPeer): void {
  endSitter(world, peer);
  startSitter(world, peer);
}

export function pauseSitter(world: World, peer: SimPeer): void {
  if (!peer.sitter || peer.paused) return;
  peer.paused = true;
  loseContact(world, peer);
}

export function resumeSitter(world: World, peer: SimPeer): void {
  wakeSitter(world, peer);
}

/** Power off: nobody is told, connections fall silent. */
export function killHost(world: World, peer: SimPeer): void {
  if (!peer.hostUp) return;
  peer.hostUp = false;
  endServer(world, peer, "not-started");
  endSitter(world, peer);
  checkSilence(world);
}

export function startHost(world: World, peer: SimPeer): void {
  if (peer.hostUp) return;
  peer.hostUp = true;
  checkSilence(world);
  startSitter(world, peer);
}

// --- network

export function breakLink(world: World, a: SimPeer, b: SimPeer): void {
  if (a === b) return;
  world.brokenLinks.add(linkName(a.name, b.name));
  checkSilence(world);
}

export function healLink(world: World, a: SimPeer, b: SimPeer): void {
  world.brokenLinks.delete(linkName(a.name, b.name));
  checkSilence(world);
}

/** From everybody, the store too. */
export function isolate(world: World, peer: SimPeer): void {
  for (const other of world.peers) breakLink(world, peer, other);
  cutStore(world, peer);
}

export function cutStore(world: World, peer: SimPeer): void {
  if (peer.cutOff) return;
  peer.cutOff = true;
  loseContact(world, peer);
  noticeCutOff(world, peer, NOTICE_MS);
}

export function joinStore(world: World, peer: SimPeer): void {
  if (!peer.cutOff) return;
  peer.cutOff = false;
  reconnect(world, peer);
}

function reconnect(world: World, peer: SimPeer): void {
  const sitter = peer.sitter;
  if (!sitter) return;
  if (!peer.session?.alive) sitter.connected = false;
  schedule(world, [10, 300], `${peer.name} finds the store again`, () => connectSession(world, peer, sitter));
}

// --- the store

export function stopStore(world: World): void {
  world.store.up = false;
  for (const peer of world.peers) noticeCutOff(world, peer, NOTICE_MS);
}

/** It comes back with its sessions, which have a whole session time again; `expired`: without them. */
export function startStore(world: World, expired: boolean): void {
  if (world.store.up) return;
  world.store.up = true;
  for (const session of world.store.sessions) if (expired && session.alive) expireSession(world, session);
  for (const peer of world.peers) {
    if (!expired) loseContact(world, peer);
    if (!peer.paused && !peer.cutOff) reconnect(world, peer);
  }
}

/** The store ends this peer's session, as after a long silence. */
export function expire(world: World, peer: SimPeer): void {
  if (!peer.session?.alive) return;
  expireSession(world, peer.session);
  if (peer.sitter && !peer.paused && !peer.cutOff && peer.hostUp) {
    peer.sitter.connected = false;
    peer.sitter.connectionSince = world.now;
    peer.sitter.announced = undefined;
    reconnect(world, peer);
  }
}

/** The document is gone (which nothing in Manatee does), its history with it or not. */
export function loseState(world: World): void {
  world.store.state = undefined;
  world.store.version = 0;
  world.dirty = true;
  for (const peer of world.peers) if (peer.sitter?.connected) reread(world, peer);
}

/** The store is put back to the last document of a generation, as an operator may do from an old backup of it. */
export function putStateBack(world: World, generation: number): void {
  const at = world.store.history.findLastIndex(({ state }) => state.generation === generation);
  const state = world.store.history[at]?.state;
  if (state === undefined) throw new ScriptMistake(`there was no generation ${generation}`);
  world.store.state = state;
  world.store.version = state.written?.version ?? at + 1;
  world.dirty = true;
  for (const peer of world.peers) {
    if (!peer.sitter?.connected) continue;
    peer.sitter.view = { kind: "unread" };
    readSoon(world, peer);
  }
}

function reread(world: World, peer: SimPeer): void {
  const sitter = peer.sitter;
  if (!sitter) return;
  sitter.view = { kind: "unread" };
  schedule(world, [1, 20], `${peer.name} hears that the state is gone`, () => {
    if (peer.sitter === sitter && world.store.state === undefined && sitter.connected) sitter.view = { kind: "absent" };
  });
}

// --- data

export type Replacement = "older" | "older-same-name" | "empty" | "foreign";

/**
 * The data directory's content is replaced while nobody looks: by an older copy of itself under a new incarnation (as a restore
 * makes it), under its old one (what a volume's snapshot does: outside the promise), by nothing, or by another database.
 */
export function replaceData(world: World, peer: SimPeer, by: Replacement): void {
  endServer(world, peer, "exited");
  if (peer.sitter) peer.sitter.job = undefined;
  const { data } = peer;
  if (data) world.lossesOfData++;
  world.dirty = true;
  if (by === "empty") peer.data = undefined;
  else if (by === "foreign") peer.data = operatorsDatabase(world);
  else if (data) {
    const mark = data.mark && {
      ...data.mark,
      incarnation: by === "older" ? randomName(world.random) : data.mark.incarnation,
      claim: undefined,
    };
    const wal = cutWal(data.wal, Math.max(1, Math.floor(data.wal.records.length / 2)));
    peer.data = { ...data, mark, wal, standbySignal: true, controlState: "recovery", unfinished: undefined };
  }
}

/** A database without a mark, that holds something. */
function operatorsDatabase(world: World): SimData {
  const data = freshData(world, undefined);
  appendRecord(data.wal, { id: ++world.counter, timeline: 1, kind: "commit", value: "legacy" });
  return data;
}

// --- the end of all faults

/** Hosts, links, sessions and processes are well again from now on. */
export function healAll(world: World): void {
  world.brokenLinks.clear();
  startStore(world, false);
  for (const peer of world.peers) {
    Object.assign(peer.faults, {
      loseAnswer: false,
      refuseWrite: false,
      failSettings: false,
      landLateMs: undefined,
      delayWritesMs: 0,
      lagMs: 0,
      crashInPromotion: false,
      breakJob: false,
    });
    startHost(world, peer);
    joinStore(world, peer);
    resumeSitter(world, peer);
    startSitter(world, peer);
    resumePostgres(world, peer);
    pauseReplay(world, peer, false);
  }
  checkSilence(world);
}
