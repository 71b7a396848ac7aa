// Peers, states and announcements for tests: plain ones, of which a test says only what matters to it.

import { lsn } from "../../src/base/lsn.ts";
import type { Announcement } from "../../src/cluster/observation.ts";
import type { PeerAddress, PeerEntry, ShardState } from "../../src/cluster/state.ts";

export const SYSTEM_IDENTIFIER = "7300000000000000001";

export function peerAddress(n: number): PeerAddress {
  const ip = `10.0.0.${n}`;
  return {
    id: `${ip}:5432:12345`,
    zoneId: `zone-${n}`,
    ip,
    pgUrl: `tcp://postgres@${ip}:5432/postgres`,
    backupUrl: `http://${ip}:12345`,
  };
}

/** Its incarnation is `data-N`. */
export function peerEntry(n: number, changes: Partial<PeerEntry> = {}): PeerEntry {
  return { ...peerAddress(n), incarnation: `data-${n}`, extra: {}, ...changes };
}

/** Generation 1, just founded: peer 1 is primary, peer 2 sync. */
export function shardState(changes: Partial<ShardState> = {}): ShardState {
  return {
    generation: 1,
    primary: peerEntry(1),
    sync: peerEntry(2),
    async: [],
    deposed: [],
    initWal: lsn(0x3000000n),
    initTimeline: 1,
    provisional: false,
    timeline: 1,
    highestTimeline: 1,
    systemIdentifier: SYSTEM_IDENTIFIER,
    freeze: undefined,
    promote: undefined,
    malformedPromote: undefined,
    oneNodeWriteMode: false,
    rule: "B1",
    reason: "founded",
    written: undefined,
    requires: ["incarnations"],
    extra: {},
    ...changes,
  };
}

/** Of a standby of the shard. */
export function standbyAnnouncement(changes: Partial<Announcement> = {}): Announcement {
  return {
    incarnation: "data-1",
    data: "marked",
    systemIdentifier: SYSTEM_IDENTIFIER,
    features: ["incarnations"],
    phase: "following",
    serving: undefined,
    handover: undefined,
    abdicates: undefined,
    callsFor: undefined,
    standing: undefined,
    ...changes,
  };
}
