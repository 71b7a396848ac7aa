// A whole shard in one process, under a virtual clock.

import type { Policy } from "../../src/cluster/observation.ts";
import type { PeerAddress } from "../../src/cluster/state.ts";
import { seeded } from "../random.ts";
import { schedule } from "./agenda.ts";
import { writeCommit } from "./commits.ts";
import { startSitter } from "./sitter.ts";
import type { Decide, SimPeer, World } from "./types.ts";

export const PEER_NAMES = ["A", "B", "C", "D", "E"] as const;

export const SIM_POLICY: Policy = {
  oneNodeWriteMode: false,
  takeoverAlone: false,
  rejoin: "automatic",
  adoptData: false,
  forksKeptMax: 4,
  suspectMs: 2_000,
  opsTimeoutMs: 10_000,
  isolationMs: 5_000,
  takeoversPerHourMax: 12,
  syncLagBytesMax: 1_000_000,
  bootstrapPeersMin: 2,
};

export interface WorldOptions {
  readonly seed: number;
  readonly decide: Decide;
  readonly policy?: Partial<Policy>;
}

export function createWorld({ seed, decide, policy = {} }: WorldOptions): World {
  return {
    now: 0,
    random: seeded(seed),
    decide,
    policy: { ...SIM_POLICY, ...policy },
    sessionTimeoutMs: 4_000,
    agenda: [],
    counter: 0,
    peers: [],
    store: {
      up: true,
      state: undefined,
      version: 0,
      history: [],
      election: [],
      electionVersion: 0,
      sequence: 0,
      sessions: [],
    },
    brokenLinks: new Set(),
    clients: {
      acknowledged: new Map(),
      seen: new Set(),
      promised: new Set(),
      fresh: [],
      forgiven: new Set(),
      acceptedLossFor: undefined,
      acknowledgedOn: new Map(),
      writerEveryMs: undefined,
      written: 0,
    },
    journal: [],
    violations: [],
    dirty: false,
    appended: false,
    lossesOfData: 0,
    coverage: new Map(),
  };
}

function addressOf(number: number): PeerAddress {
  const ip = `10.0.0.${number}`;
  return {
    id: `${ip}:5432:12345`,
    zoneId: `zone${String.fromCharCode(96 + number).repeat(4)}`,
    ip,
    pgUrl: `tcp://postgres@${ip}:5432/postgres`,
    backupUrl: `http://${ip}:12345`,
  };
}

/** One more peer, whose sitter starts at once. */
export function addPeer(world: World): SimPeer {
  const name = PEER_NAMES[world.peers.length];
  if (name === undefined) throw new Error(`a simulated shard has at most ${PEER_NAMES.length} peers`);
  const peer: SimPeer = {
    name,
    address: addressOf(world.peers.length + 1),
    tags: undefined,
    hostUp: true,
    data: undefined,
    forks: [],
    snapshots: undefined,
    server: undefined,
    stopped: { since: world.now, how: "not-started" },
    sitter: undefined,
    paused: false,
    session: undefined,
    cutOff: false,
    faults: {
      loseAnswer: false,
      refuseWrite: false,
      failSettings: false,
      landLateMs: undefined,
      delayWritesMs: 0,
      lagMs: 0,
      crashInPromotion: false,
      breakJob: false,
    },
  };
  world.peers.push(peer);
  // one after the other, so that A has the lowest election node
  schedule(world, 120 * (world.peers.length - 1), `the sitter of ${name} starts`, () => startSitter(world, peer));
  return peer;
}

/** Clients that write by themselves, each time to whichever peers let them. */
export function startWriter(world: World, everyMs: number): void {
  const running = world.clients.writerEveryMs !== undefined;
  world.clients.writerEveryMs = everyMs;
  if (!running) write(world);
}

function write(world: World): void {
  const every = world.clients.writerEveryMs;
  if (every === undefined) return;
  for (const peer of world.peers) {
    const value = `w${world.clients.written + 1}`;
    if (writeCommit(world, peer, value)) world.clients.written++;
  }
  schedule(world, every, "clients write", () => write(world));
}
