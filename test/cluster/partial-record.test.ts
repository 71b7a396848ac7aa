// Behind what a standby has replayed lies WAL that its primary's successor never had: a part of a record is cut off, whole records are not.

import { describe, expect, it } from "vitest";
import { lsn } from "../../src/base/lsn.ts";
import { decide } from "../../src/cluster/decide.ts";
import { NEW_MEMORY } from "../../src/cluster/decision.ts";
import { NOBODY, type Observation, type StandbyServer } from "../../src/cluster/observation.ts";
import { peerAddress, peerEntry, shardState, standbyAnnouncement, SYSTEM_IDENTIFIER } from "../support/shard-state.ts";

const FORK = lsn(0x3ff_ff00n);
const ME = 3;

/** Peer 2 has taken over from 1, on timeline 2; peer 3 is still on timeline 1. */
function decideWith(server: Partial<StandbyServer>) {
  const lineage = { past: [{ timeline: 1, end: FORK }], timeline: 2 };
  const state = shardState({
    generation: 2,
    primary: peerEntry(2),
    sync: peerEntry(4),
    async: [peerEntry(ME)],
    deposed: [peerEntry(1)],
    initWal: FORK,
    initTimeline: 2,
    timeline: 2,
    highestTimeline: 2,
  });
  const election = [2, ME, 4].map((n, sequence) => ({
    peer: peerAddress(n),
    sequence,
    announcement: standbyAnnouncement({
      incarnation: `data-${n}`,
      ...(n === 2 && { phase: "primary" as const, serving: { generation: 2, lineage } }),
    }),
  }));
  const standby: StandbyServer = {
    kind: "standby",
    since: 0,
    wal: { past: [], timeline: 1, end: FORK },
    replayed: FORK,
    caughtUpLocally: true,
    replayPaused: false,
    partialRecord: true,
    settings: { syncNames: [NOBODY], gate: "closed", upstream: null },
    receiver: { kind: "none" },
    walsenders: [],
    clientSessions: 0,
    ...server,
  };
  return decide(
    {
      now: 100_000,
      wallMs: Date.UTC(2026, 0, 1),
      nonce: "nonce",
      shard: "1.test",
      self: peerAddress(ME),
      policy: { suspectMs: 2_000, opsTimeoutMs: 10_000, forksKeptMax: 2, rejoin: "automatic" },
      store: {
        connection: { kind: "connected", since: 0 },
        sessionTimeoutMs: 4_000,
        shard: { kind: "document", state, version: 9, readAt: 0 },
        election,
        announced: undefined,
        lastWrite: undefined,
        takeoversLastHour: 0,
      },
      peers: {},
      postgres: {
        data: {
          kind: "present",
          mark: {
            shard: "1.test",
            incarnation: `data-${ME}`,
            claim: undefined,
            founding: false,
            incomplete: false,
            source: undefined,
            lastDocument: undefined,
          },
          systemIdentifier: SYSTEM_IDENTIFIER,
          controlState: "recovery",
          lineage: { past: [], timeline: 1 },
          checkpoint: lsn(0x300_0000n),
          standbySignal: true,
        },
        server: standby,
        job: undefined,
        failure: undefined,
        forks: [],
        canRollBack: false,
      },
    } as unknown as Observation,
    NEW_MEMORY,
  );
}

describe("WAL behind what is replayed, where the primary has left its timeline", () => {
  it("is cut off where it is a part of a record (T1)", () => {
    const { action, memory } = decideWith({});
    expect(action).toEqual({ kind: "stop", mode: "fast" });
    expect(memory.cutAfter).toEqual({ timeline: 1, lsn: FORK });
  });

  it("is left as it is while it may be whole records, which would be lost with it: replay is paused, or waits (I5)", () => {
    const whole = { caughtUpLocally: false, wal: { past: [], timeline: 1, end: lsn(0x500_0000n) } };
    for (const replayPaused of [true, false]) {
      const { action, memory } = decideWith({ ...whole, replayPaused });
      expect(action).toBeUndefined();
      expect(memory.cutAfter).toBeUndefined();
    }
  });
});
