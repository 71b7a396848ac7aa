// What a simulated sitter sees: builds the same observation as the real one would from the same world, and nothing more.

import type {
  DataObservation,
  Observation,
  PeerEvidence,
  PostgresObservation,
  ServerObservation,
  Walsender,
} from "../../src/cluster/observation.ts";
import { membersOf } from "../../src/cluster/state.ts";
import { randomName } from "../random.ts";
import { priorityOf } from "./commits.ts";
import { peerOf } from "./connections.ts";
import { SHARD } from "./jobs.ts";
import type { SimData, SimPeer, SimServer, SimSitter, World } from "./types.ts";
import { checkpointOf, describeWal, indexOf } from "./wal.ts";

/** Wall clock at the beginning of each run: 2026-01-01. */
export const EPOCH_MS = Date.UTC(2026, 0, 1);

/** What streams over an even link come to (src/config/defaults.ts). */
export const SILENCE_LIMIT_MS = 800;

export function observePostgres(world: World, peer: SimPeer, sitter: SimSitter): PostgresObservation {
  return {
    data: observeData(peer.data),
    server: observeServer(world, peer),
    job: sitter.job && { kind: sitter.job.kind, since: sitter.job.since, progress: undefined },
    failure: sitter.failure,
    forks: peer.forks.map(({ name }) => name),
    canRollBack: peer.snapshots !== undefined,
  };
}

function observeData(data: SimData | undefined): DataObservation {
  if (!data) return { kind: "none" };
  if (data.cutShort === "copy" || data.cutShort === "roll-back" || data.cutShort === "initdb")
    return {
      kind: "unusable",
      code: "PG_DATA_INCOMPLETE",
      message: `${data.cutShort} was cut short`,
      hint: "Wait for the copy, or empty the directory.",
      mark: data.mark,
    };
  return {
    kind: "present",
    mark: data.mark,
    systemIdentifier: data.systemIdentifier,
    controlState: data.controlState,
    lineage: describeWal(data.wal),
    checkpoint: checkpointOf(data.wal),
    standbySignal: data.standbySignal,
  };
}

function observeServer(world: World, peer: SimPeer): ServerObservation {
  const { server, data } = peer;
  if (!server || !data) return { kind: "stopped", ...peer.stopped };
  if (server.frozen) return { kind: "unresponsive", since: server.since, reason: "no answer within the limit" };
  if (server.kind === "starting") return { kind: "starting", since: server.since };
  const wal = describeWal(data.wal);
  const common = {
    since: server.since,
    wal,
    settings: server.settings,
    walsenders: server.senders.map((sender) => observeSender(world, server, sender, data.keptFrom ?? 0)),
    clientSessions: server.sessions,
  };
  if (server.kind === "primary") {
    const { recoveredEnd, commitsWait, marker, cannotGoOn } = server;
    return { kind: "primary", ...common, recoveredEnd, commitsWait, marker, cannotGoOn };
  }
  return {
    kind: "standby",
    ...common,
    replayed: server.replayedTo ?? wal.end,
    caughtUpLocally: !server.replayPaused,
    replayPaused: server.replayPaused,
    partialRecord: data.partialRecord === true && server.receiver?.kind !== "streaming",
    walGoneAt: observeWalGone(world, server, data),
    receiver: observeReceiver(world, server),
  };
}

/** While it receives from nobody, what the last one said stands. */
function observeWalGone(world: World, { walGone, settings }: SimServer, { wal }: SimData): string | undefined {
  if (walGone?.next !== wal.records.length) return undefined;
  const { id } = peerOf(world, walGone.at).address;
  return settings.upstream === null || settings.upstream.id === id ? id : undefined;
}

function observeReceiver(world: World, server: SimServer): Extract<ServerObservation, { kind: "standby" }>["receiver"] {
  const { receiver } = server;
  if (!receiver) return { kind: "none" };
  if (receiver.kind === "connecting") return { kind: "connecting", pid: receiver.pid };
  const { ip } = peerOf(world, receiver.upstream).address;
  const silentMs = receiver.silentSince === undefined ? 0 : world.now - receiver.silentSince;
  return { kind: "streaming", pid: receiver.pid, from: { host: ip, port: 5432 }, silentMs };
}

function observeSender(
  world: World,
  server: SimServer,
  sender: SimServer["senders"][number],
  keptFrom: number,
): Walsender {
  const { address } = peerOf(world, sender.peer);
  return {
    name: address.pgUrl,
    pid: sender.pid,
    clientAddress: address.ip,
    // PostgreSQL says `streaming` once all was sent: of WAL that it no longer has it never is.
    state: server.stopping
      ? "stopping"
      : sender.flush === undefined || indexOf(sender.flush) < keptFrom
        ? "catchup"
        : "streaming",
    sent: sender.sent,
    flush: sender.flush,
    replay: sender.flush,
    silentMs: sender.silentSince === undefined ? 0 : world.now - sender.silentSince,
    syncPriority: server.kind === "primary" ? priorityOf(world, sender) : 0,
  };
}

export function observe(world: World, peer: SimPeer, sitter: SimSitter, postgres: PostgresObservation): Observation {
  const known = new Set(sitter.election.map((entry) => entry.peer.id));
  if (sitter.view.kind === "document") for (const { id } of membersOf(sitter.view.state)) known.add(id);
  const peers: Record<string, PeerEvidence> = {};
  for (const other of world.peers) {
    const evidence = sitter.evidence.get(other.name);
    if (other === peer || !evidence || !known.has(other.address.id)) continue;
    const alsoSilentFor = evidence.alsoSilentFor.map((name) => peerOf(world, name).address.id);
    const { sitter: itsSitter, postgresPort, postgresHealthy, abdicates } = evidence;
    peers[other.address.id] = {
      sitter: itsSitter,
      postgresPort,
      postgresHealthy,
      alsoSilentFor,
      silenceLimitMs: SILENCE_LIMIT_MS,
      ...(abdicates !== undefined && itsSitter.kind === "answers" && { abdicates }),
    };
  }
  return {
    now: world.now,
    wallMs: EPOCH_MS + world.now,
    nonce: randomName(world.random),
    shard: SHARD,
    self: peer.address,
    policy: world.policy,
    ...(peer.tags && { tags: peer.tags }),
    store: {
      connection: { kind: sitter.connected ? "connected" : "cut-off", since: sitter.connectionSince },
      sessionTimeoutMs: world.sessionTimeoutMs,
      shard: sitter.view,
      election: sitter.election,
      announced: sitter.announced,
      lastWrite: sitter.lastWrite,
      takeoversLastHour: sitter.takeoversLastHour,
    },
    postgres,
    peers,
    rebuildRequested: sitter.rebuildRequested,
  };
}
