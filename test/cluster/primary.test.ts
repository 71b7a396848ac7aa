// A running primary: what it must not do yet, and what it must not do any more.

import { describe, expect, it } from "vitest";
import { lsn } from "../../src/base/lsn.ts";
import { decide } from "../../src/cluster/decide.ts";
import { type Memory, NEW_MEMORY } from "../../src/cluster/decision.ts";
import type { Job, Observation, PrimaryServer } from "../../src/cluster/observation.ts";
import type { ShardState } from "../../src/cluster/state.ts";
import { peerAddress, peerEntry, shardState, standbyAnnouncement, SYSTEM_IDENTIFIER } from "../support/shard-state.ts";

const CLAIMED = lsn(0x400_0000n);
const BEGIN = lsn(0x400_0080n);
const END = lsn(0x400_1000n);
const ME = 2;
const HEIR = 3;

/** Peer 2 has claimed generation 2 and was promoted to timeline 2; peer 3 is its heir. */
const claimed = shardState({
  generation: 2,
  primary: peerEntry(ME),
  sync: peerEntry(HEIR),
  deposed: [peerEntry(1)],
  initWal: CLAIMED,
  initTimeline: 1,
  provisional: true,
  timeline: 2,
  highestTimeline: 2,
});

function decideWith(change: {
  state?: ShardState;
  server?: Partial<PrimaryServer>;
  memory?: Partial<Memory>;
  job?: Job;
}) {
  const { state = claimed, server = {}, memory = {}, job } = change;
  const lineage = server.wal ?? { past: [{ timeline: 1, end: BEGIN }], timeline: 2, end: END };
  const primary: PrimaryServer = {
    kind: "primary",
    since: 0,
    wal: lineage,
    recoveredEnd: END,
    commitsWait: true,
    settings: { syncNames: [peerAddress(HEIR).pgUrl], gate: "closed", upstream: null },
    walsenders: [
      {
        name: peerAddress(HEIR).pgUrl,
        pid: 7,
        clientAddress: peerAddress(HEIR).ip,
        state: "streaming",
        sent: END,
        flush: END,
        replay: END,
        silentMs: 0,
        syncPriority: 1,
      },
    ],
    marker: undefined,
    clientSessions: 0,
    cannotGoOn: undefined,
    ...server,
  };
  const election = [ME, HEIR].map((n, sequence) => ({
    peer: peerAddress(n),
    sequence,
    announcement: standbyAnnouncement({ incarnation: `data-${n}` }),
  }));
  const observation: Observation = {
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
        controlState: "production",
        lineage,
        checkpoint: lsn(0x300_0000n),
        standbySignal: false,
      },
      server: primary,
      job,
      failure: undefined,
      forks: [],
      canRollBack: false,
    },
  } as unknown as Observation;
  return decide(observation, { ...NEW_MEMORY, fenced: true, startVersion: 8, ...memory });
}

describe("T1.6: a timeline that was begun after a claim", () => {
  it("is amended into the state where it begins at what was claimed, or behind it", () => {
    const { rule, action } = decideWith({});
    expect(rule).toBe("T1");
    expect(action).toMatchObject({ kind: "write", state: { initWal: BEGIN, provisional: false } });
  });

  it("that begins before what had been replayed is damage: nothing is written, the gate stays closed, and an operator is called", () => {
    const early = { past: [{ timeline: 1, end: lsn(CLAIMED - 1n) }], timeline: 2, end: END };
    const { rule, because, action, settings, operator, waitingOn } = decideWith({ server: { wal: early } });
    expect(rule).toBe("T1");
    expect(because).toMatch(/begins before what this peer held when it claimed it: its WAL is damaged/);
    expect(action).toBeUndefined();
    expect(settings?.gate).toBe("closed");
    expect(waitingOn).toBe("an operator");
    expect(operator).toContain("takeover --accept-loss");
  });
});

describe("P1: the gate of a primary that has just started", () => {
  const amended = { ...claimed, initWal: BEGIN, initTimeline: 2, provisional: false };

  it("stays closed while its checkpointer may not have made commits wait yet, whatever its sync holds", () => {
    const { rule, settings, waitingOn } = decideWith({ state: amended, server: { commitsWait: false } });
    expect(rule).toBe("P1");
    expect(settings?.gate).toBe("closed");
    expect(waitingOn).toBe("the checkpointer, which makes commits wait");
  });

  it("opens once commits wait", () => {
    expect(decideWith({ state: amended }).settings?.gate).toBe("open");
  });
});

describe("T1: a primary that reads of its successor", () => {
  const successor = shardState({
    generation: 3,
    primary: peerEntry(HEIR),
    sync: peerEntry(4),
    deposed: [peerEntry(ME)],
    initWal: END,
    initTimeline: 2,
    provisional: true,
    timeline: 3,
    highestTimeline: 3,
  });

  it.each([
    ["open to clients", { settings: { syncNames: [peerAddress(HEIR).pgUrl], gate: "open" as const, upstream: null } }],
    ["not open yet", {}],
    ["alone by an operator's word", { settings: { syncNames: [], gate: "open" as const, upstream: null } }],
  ])("is stopped, and %s keeps its list until then: another one could release what waits (I1, I4)", (_, server) => {
    const { rule, action, settings } = decideWith({ state: successor, server: { ...server, clientSessions: 3 } });
    expect(rule).toBe("T1");
    expect(action).toEqual({ kind: "stop", mode: "immediate" });
    expect(settings).toBeUndefined();
  });

  it("keeps its list while it is being stopped", () => {
    const job = { kind: "stop" as const, since: 99_990, progress: undefined };
    const { action, settings } = decideWith({ state: successor, job });
    expect([action, settings]).toEqual([undefined, undefined]);
  });
});
