// Streaming between servers: walreceivers that connect by themselves, WAL that flows record by record, flush reports in flight, and
// connections that break without either side noticing at once.

import { canFollow } from "../../src/base/lineage.ts";
import type { Ms } from "../../src/base/units.ts";
import { between } from "../random.ts";
import { nextNumber, schedule } from "./agenda.ts";
import { release } from "./commits.ts";
import type { PeerName, SimPeer, SimReceiver, SimServer, SimWalsender, World } from "./types.ts";
import { appendRecord, describeWal, walEnd } from "./wal.ts";

/** How long a walreceiver or walsender waits for a sign of life (wal_receiver_timeout, wal_sender_timeout). */
const SILENCE_MS: Ms = 6_000;

export function peerOf(world: World, name: PeerName): SimPeer {
  const peer = world.peers.find((peer) => peer.name === name);
  if (!peer) throw new Error(`no peer ${name}`);
  return peer;
}

export function linkName(a: PeerName, b: PeerName): string {
  return a < b ? `${a} ${b}` : `${b} ${a}`;
}

export function canReach(world: World, a: SimPeer, b: SimPeer): boolean {
  return a.hostUp && b.hostUp && !world.brokenLinks.has(linkName(a.name, b.name));
}

/** Sees to it that a standby's walreceiver is what its settings say; takes its time, as the real one does. */
export function ensureReceiver(world: World, peer: SimPeer): void {
  const server = peer.server;
  if (!server || server.kind !== "standby" || server.promoting) return;
  const { receiver } = server;
  const upstream = upstreamName(world, server);
  if (receiver && receiver.upstream !== upstream && !receiver.ending) {
    receiver.ending = true;
    schedule(world, [20, 400], `${peer.name}: walreceiver stops`, () => dropReceiver(world, peer, server, receiver));
  }
  // While replay is paused, none is started.
  if (receiver || upstream === undefined || server.connectScheduled || server.replayPaused) return;
  server.connectScheduled = true;
  schedule(world, [10, 300], `${peer.name}: walreceiver starts`, () => {
    server.connectScheduled = false;
    if (peer.server === server && !server.frozen) beginConnecting(world, peer, server);
  });
}

function upstreamName(world: World, server: SimServer): PeerName | undefined {
  const upstream = server.settings.upstream;
  return upstream === null ? undefined : world.peers.find(({ address }) => address.id === upstream.id)?.name;
}

function beginConnecting(world: World, peer: SimPeer, server: SimServer): void {
  const upstream = upstreamName(world, server);
  if (server.receiver || server.promoting || upstream === undefined || server.replayPaused) return;
  const receiver: SimReceiver = {
    pid: nextNumber(world),
    upstream,
    kind: "connecting",
    connection: 0,
    ending: false,
    silentSince: undefined,
    pumping: false,
  };
  server.receiver = receiver;
  const unreachable = !canReach(world, peer, peerOf(world, upstream));
  schedule(world, unreachable ? [1_000, 2_000] : [3, 40], `${peer.name}: walreceiver connects to ${upstream}`, () => {
    if (peer.server !== server || server.receiver !== receiver) return;
    if (connect(world, peer, server, receiver)) return;
    server.receiver = undefined;
    ensureReceiver(world, peer);
  });
}

function connect(world: World, peer: SimPeer, server: SimServer, receiver: SimReceiver): boolean {
  const source = peerOf(world, receiver.upstream);
  const upstream = source.server;
  if (receiver.ending || server.frozen || !canReach(world, peer, source) || !upstream || upstream.frozen) return false;
  if (upstream.kind === "starting" || upstream.stopping || !peer.data || !source.data) return false;
  if (peer.data.systemIdentifier !== source.data.systemIdentifier) return false;
  const lineage = describeWal(source.data.wal);
  // a history file left behind by a promotion that never began makes recovery look for that timeline
  const awaited = peer.data.unfinished;
  if (awaited !== undefined && ![lineage, ...lineage.past].some(({ timeline }) => timeline === awaited)) return false;
  const { timeline } = peer.data.wal;
  if (![lineage, ...lineage.past].some((known) => known.timeline === timeline)) return false;
  // It asks for what comes behind a part of a record: only who is on its timeline has that.
  if (peer.data.partialRecord && lineage.timeline !== timeline) return false;
  peer.data.partialRecord = false;
  receiver.kind = "streaming";
  receiver.connection = nextNumber(world);
  receiver.silentSince = undefined;
  upstream.senders.push({
    pid: nextNumber(world),
    peer: peer.name,
    connection: receiver.connection,
    applied: upstream.settings.syncNames,
    flush: undefined,
    sent: undefined,
    connectedAt: world.now,
    silentSince: undefined,
  });
  report(world, peer, receiver);
  pump(world, peer);
  return true;
}

/** A standby has flushed something, or just connected: tells its upstream. */
function report(world: World, peer: SimPeer, receiver: SimReceiver): void {
  if (!peer.data) return;
  const flush = walEnd(peer.data.wal);
  const { connection, upstream } = receiver;
  const deliver = (): void => {
    const source = peerOf(world, upstream);
    const server = source.server;
    const sender = server?.senders.find((sender) => sender.connection === connection);
    if (!server || !sender || world.brokenLinks.has(linkName(peer.name, upstream))) return;
    if (server.frozen) return schedule(world, 100, `${upstream}: frozen, a flush report waits`, deliver);
    if (sender.flush !== undefined && sender.flush >= flush) return; // a connection keeps the order
    sender.flush = flush;
    // Never more than there is: who has more reports more than it was sent.
    const end = source.data ? walEnd(source.data.wal) : flush;
    const sent = flush < end ? flush : end;
    if (sender.sent === undefined || sender.sent < sent) sender.sent = sent;
    release(world, source, sender);
  };
  schedule(world, [1, 8], `${upstream} hears that ${peer.name} has flushed`, deliver);
}

/** Lets WAL flow to this standby, if there is any. */
export function pump(world: World, peer: SimPeer): void {
  const receiver = peer.server?.receiver;
  if (!receiver || receiver.kind !== "streaming" || receiver.pumping) return;
  receiver.pumping = true;
  schedule(world, [1, 8], `${peer.name} receives from ${receiver.upstream}`, () => {
    receiver.pumping = false;
    const server = peer.server;
    if (server?.receiver === receiver && !server.frozen) receive(world, peer, server, receiver);
  });
}

function receive(world: World, peer: SimPeer, server: SimServer, receiver: SimReceiver): void {
  const source = peerOf(world, receiver.upstream);
  const sender = source.server?.senders.find(({ connection }) => connection === receiver.connection);
  if (!canReach(world, peer, source) || source.server?.frozen) return; // silence: the time-out ends it
  if (!sender || !source.data || !peer.data) return dropReceiver(world, peer, server, receiver);
  const own = peer.data.wal;
  // It was let in all the same: it asks from the beginning of a segment, which both have, and reports where it stands. Now it finds out.
  if (!canFollow(describeWal(source.data.wal), { timeline: own.timeline, lsn: walEnd(own) }))
    return dropReceiver(world, peer, server, receiver);
  const next = own.records.length;
  if (next < (source.data.keptFrom ?? 0)) {
    server.walGone = { at: source.name, next };
    world.dirty = true;
    return dropReceiver(world, peer, server, receiver);
  }
  const more = source.data.wal.records.slice(own.records.length, own.records.length + between(world.random, [1, 3]));
  if (more.length === 0) return;
  for (const record of more) appendRecord(own, record);
  world.appended = true;
  report(world, peer, receiver);
  feedDownstreams(world, peer);
  if (source.data.wal.records.length > own.records.length) pump(world, peer);
}

/** There are new records on this server. */
export function feedDownstreams(world: World, peer: SimPeer): void {
  for (const { peer: name } of peer.server?.senders ?? []) pump(world, peerOf(world, name));
}

/** This walreceiver ends; its walsender learns of it, where anything gets through. */
export function dropReceiver(world: World, peer: SimPeer, server: SimServer, receiver: SimReceiver): void {
  if (server.receiver !== receiver) return;
  server.receiver = undefined;
  const source = peerOf(world, receiver.upstream);
  const sender = source.server?.senders.find(({ connection }) => connection === receiver.connection);
  if (sender) endSenderSoon(world, { source, sender, heard: canReach(world, peer, source) });
  if (peer.server === server) ensureReceiver(world, peer);
}

function endSenderSoon(world: World, end: { source: SimPeer; sender: SimWalsender; heard: boolean }): void {
  const { source, sender, heard } = end;
  const server = source.server;
  schedule(world, heard ? [1, 50] : SILENCE_MS, `${source.name}: walsender of ${sender.peer} ends`, () => {
    if (!server) return;
    removeSender(world, server, sender);
    // until then a dead walsender of the same name could be the one that counts; the living one reports every so often
    schedule(world, [100, 1_000], `${source.name} hears from its standbys`, () => {
      if (source.server === server) for (const other of server.senders) release(world, source, other);
    });
  });
}

function removeSender(world: World, server: SimServer, sender: SimWalsender): void {
  const at = server.senders.indexOf(sender);
  if (at < 0) return;
  server.senders.splice(at, 1);
}

/** A walsender ends at once; its receiver notices, where anything gets through. */
export function endSender(world: World, peer: SimPeer, server: SimServer, sender: SimWalsender): void {
  removeSender(world, server, sender);
  const follower = peerOf(world, sender.peer);
  const downstream = follower.server;
  const receiver = downstream?.receiver;
  if (!downstream || receiver?.connection !== sender.connection) return;
  const heard = canReach(world, peer, follower);
  if (!heard) receiver.silentSince ??= world.now;
  schedule(world, heard ? [1, 15] : SILENCE_MS, `${follower.name}: connection to ${peer.name} is gone`, () =>
    dropReceiver(world, follower, downstream, receiver),
  );
}

/** Both ends of every connection of a server that ends or changes its timeline. */
export function closeConnections(world: World, peer: SimPeer, server: SimServer): void {
  const senders = server.senders.slice();
  for (const sender of senders) endSender(world, peer, server, sender);
  const receiver = server.receiver;
  server.receiver = undefined;
  if (!receiver || receiver.kind !== "streaming") return;
  const source = peerOf(world, receiver.upstream);
  const sender = source.server?.senders.find(({ connection }) => connection === receiver.connection);
  if (sender) endSenderSoon(world, { source, sender, heard: canReach(world, peer, source) });
}

function noteSilence(world: World, peer: SimPeer, sender: SimWalsender): void {
  const follower = peerOf(world, sender.peer);
  const reports = canReach(world, peer, follower) && follower.server !== undefined && !follower.server.frozen;
  sender.silentSince = reports ? undefined : (sender.silentSince ?? world.now);
}

/** After a fault or its end: connections through which nothing comes fall silent and time out; others go on. */
export function checkSilence(world: World): void {
  for (const peer of world.peers) for (const sender of peer.server?.senders ?? []) noteSilence(world, peer, sender);
  for (const peer of world.peers) {
    const server = peer.server;
    const receiver = server?.receiver;
    if (!server || !receiver || receiver.kind !== "streaming") continue;
    const source = peerOf(world, receiver.upstream);
    const silent = !canReach(world, peer, source) || source.server?.frozen === true || server.frozen;
    if (!silent) {
      receiver.silentSince = undefined;
      pump(world, peer);
      continue;
    }
    if (receiver.silentSince !== undefined) continue;
    const since = world.now;
    receiver.silentSince = since;
    schedule(world, SILENCE_MS, `${peer.name}: nothing from ${source.name} for long`, () => {
      if (server.receiver === receiver && receiver.silentSince === since && !server.frozen)
        dropReceiver(world, peer, server, receiver);
      const sender = source.server?.senders.find(({ connection }) => connection === receiver.connection);
      if (sender && receiver.silentSince === since && !source.server?.frozen)
        endSenderSoon(world, { source, sender, heard: true });
    });
  }
}
