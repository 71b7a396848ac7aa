// Commits of a simulated primary: how they wait, who releases them, what readers see.

import type { Lsn } from "../../src/base/lsn.ts";
import type { PostgresSettings } from "../../src/cluster/observation.ts";
import { between, chance } from "../random.ts";
import { schedule, tell } from "./agenda.ts";
import { ensureReceiver, feedDownstreams, peerOf } from "./connections.ts";
import type { SimPeer, SimServer, SimWalsender, World } from "./types.ts";
import { appendRecord, walEnd, type WalRecord } from "./wal.ts";

/** One record at the end of this server's WAL. */
export function writeRecord(world: World, peer: SimPeer, record: Omit<WalRecord, "id">): Lsn {
  if (!peer.data) throw new Error(`${peer.name} has no data to write to`);
  appendRecord(peer.data.wal, { ...record, id: ++world.counter });
  world.appended = true;
  feedDownstreams(world, peer);
  return walEnd(peer.data.wal);
}

export function admitsClients(peer: SimPeer): boolean {
  const server = peer.server;
  if (!server || server.frozen || server.stopping || server.kind === "starting") return false;
  return server.settings.gate === "open" || server.sessions > 0;
}

/** A client commits; false where no session can. */
export function writeCommit(world: World, peer: SimPeer, value: string): boolean {
  const server = peer.server;
  if (!server || server.kind !== "primary" || !admitsClients(peer) || server.cannotGoOn !== undefined) return false;
  if (!peer.data) return false;
  server.sessions = Math.max(server.sessions, 1);
  const end = writeRecord(world, peer, { kind: "commit", timeline: peer.data.wal.timeline, value });
  if (!server.commitsWait || server.settings.syncNames.length === 0) acknowledge(world, peer, value);
  else server.waiting.push({ value, end });
  return true;
}

/**
 * What a walsender does when it has processed a report, or applied a new list: it chooses the synchronous standbys by *its own*
 * list among walsenders that each know their priority by *theirs* (SyncRepReleaseWaiters).
 */
export function release(world: World, peer: SimPeer, sender: SimWalsender): void {
  const server = peer.server;
  if (!server || server.kind !== "primary" || server.frozen || priorityOf(world, sender) === 0) return;
  const chosen = server.senders
    .filter((other) => priorityOf(world, other) > 0 && other.flush !== undefined)
    .sort((a, b) => priorityOf(world, a) - priorityOf(world, b))
    .slice(0, sender.applied.length);
  if (chosen.length < sender.applied.length || !chosen.includes(sender)) return;
  const flushed = chosen.reduce<Lsn | undefined>(
    (least, { flush }) => (least === undefined || (flush as Lsn) < least ? flush : least),
    undefined,
  );
  if (flushed !== undefined) releaseUpTo(world, peer, server, flushed);
}

function releaseUpTo(world: World, peer: SimPeer, server: SimServer, flushed: Lsn): void {
  const released = server.waiting.filter(({ end }) => end <= flushed);
  server.waiting = server.waiting.filter(({ end }) => end > flushed);
  for (const { value } of released) acknowledge(world, peer, value);
}

export function priorityOf(world: World, sender: SimWalsender): number {
  return sender.applied.indexOf(peerOf(world, sender.peer).address.pgUrl) + 1;
}

function acknowledge(world: World, peer: SimPeer, value: string): void {
  const { clients } = world;
  const server = peer.server;
  if (!server || !peer.data) return;
  server.visible.add(value);
  clients.acknowledged.set(value, { peer: peer.name, timeline: peer.data.wal.timeline });
  promise(world, value);
  if (clients.acceptedLossFor !== undefined && clients.acceptedLossFor !== peer.name) forgive(world, value);
  else if (server.settings.syncNames.length > 0 || clients.acknowledgedOn.has(peer.data.wal.timeline)) {
    const other = clients.acknowledgedOn.get(peer.data.wal.timeline);
    if (other !== undefined && other !== peer.name)
      world.violations.push(
        `I4: ${other} and ${peer.name} have both acknowledged commits on timeline ${peer.data.wal.timeline}`,
      );
    clients.acknowledgedOn.set(peer.data.wal.timeline, peer.name);
  }
  if (admitsClients(peer)) see(world, peer, value);
}

function promise({ clients }: World, value: string): void {
  if (clients.promised.has(value) || clients.forgiven.has(value)) return;
  clients.promised.add(value);
  clients.fresh.push(value);
}

/** Readers look at whatever they can reach. */
export function look(world: World, peer: SimPeer): void {
  const server = peer.server;
  if (!server || server.kind !== "primary" || !admitsClients(peer)) return;
  for (const value of server.visible) see(world, peer, value);
}

function see(world: World, peer: SimPeer, value: string): void {
  const { clients } = world;
  if (clients.seen.has(value)) return;
  clients.seen.add(value);
  promise(world, value);
  if (clients.acceptedLossFor !== undefined && clients.acceptedLossFor !== peer.name) forgive(world, value);
}

/** O2: an operator has accepted that this value may be lost. */
export function forgive({ clients }: World, value: string): void {
  clients.forgiven.add(value);
  clients.promised.delete(value);
}

/** Ends clients' sessions. A commit that waited was not acknowledged, and yet is visible from now on, as in the real server. */
export function endSessions(server: SimServer): void {
  server.sessions = 0;
  for (const { value } of server.waiting) server.visible.add(value);
  server.waiting = [];
}

/** The postmaster has read new settings; each walsender follows in its own time. */
export function reload(world: World, peer: SimPeer, settings: PostgresSettings): void {
  const server = peer.server;
  if (!server) return;
  server.settings = settings;
  for (const sender of server.senders) {
    const delay = chance(world.random, 0.05) ? between(world.random, [200, 1_500]) : between(world.random, [1, 60]);
    schedule(world, delay, `${peer.name}: walsender of ${sender.peer} applies the new list`, () => {
      if (peer.server !== server) return;
      sender.applied = server.settings.syncNames;
      release(world, peer, sender);
    });
  }
  if (settings.syncNames.length === 0 && server.kind === "primary")
    schedule(world, [1, 30], `${peer.name}: nothing waits any more`, () => {
      if (peer.server !== server || server.settings.syncNames.length > 0 || !peer.data) return;
      releaseUpTo(world, peer, server, walEnd(peer.data.wal));
      tell(world, `${peer.name}: commits wait for nobody`);
    });
  admitSessions(world, peer);
  ensureReceiver(world, peer);
}

/** Clients come as soon as the gate is open. */
export function admitSessions(world: World, peer: SimPeer): void {
  const server = peer.server;
  if (!server || server.settings.gate !== "open") return;
  schedule(world, [1, 50], `clients come to ${peer.name}`, () => {
    if (peer.server !== server || server.settings.gate !== "open" || server.kind === "starting" || server.stopping)
      return;
    server.sessions = Math.max(server.sessions, 1);
    look(world, peer);
  });
  look(world, peer);
}
