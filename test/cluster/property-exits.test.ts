// I6: no state is silent. Walks every role through every condition of data, server, store and document, and shows that each decision
// has an exit wherever this peer is not simply in its place: it does something, or waits for something, or names the operator's command.

import { expect, test } from "vitest";
import type { Lineage, Wal } from "../../src/base/lineage.ts";
import { lsn } from "../../src/base/lsn.ts";
import { decide } from "../../src/cluster/decide.ts";
import { type Decision, type Memory, NEW_MEMORY } from "../../src/cluster/decision.ts";
import type {
  DataMark,
  DataObservation,
  Observation,
  PostgresSettings,
  ServerObservation,
  ShardView,
  StoreObservation,
} from "../../src/cluster/observation.ts";
import type { PeerEntry, Role, ShardState } from "../../src/cluster/state.ts";
import { peerAddress, peerEntry, shardState, standbyAnnouncement, SYSTEM_IDENTIFIER } from "../support/shard-state.ts";

const NOW = 100_000;
const lineage: Lineage = { past: [], timeline: 1 };
const wal: Wal = { ...lineage, end: lsn(0x5000n) };

const ME = 9;
const mine = peerAddress(ME);

/** 1 to 4 are others; this peer takes the place of its role. */
function stateWith(role: Role, change: Partial<ShardState>): ShardState {
  const place = (here: Role, otherwise: number): PeerEntry => peerEntry(role === here ? ME : otherwise);
  return shardState({
    generation: 3,
    primary: place("primary", 1),
    sync: place("sync", 2),
    async: role === "async" ? [peerEntry(3), peerEntry(ME)] : [peerEntry(3)],
    deposed: role === "deposed" ? [peerEntry(ME)] : [],
    initWal: lsn(0x3000n),
    rule: "S1",
    reason: "for the test",
    written: { by: peerAddress(1).id, version: 7 },
    ...change,
  });
}

const DOCUMENTS: Readonly<Record<string, (role: Role) => ShardState>> = {
  plain: (role) => stateWith(role, {}),
  provisional: (role) => stateWith(role, { provisional: true, timeline: 2, highestTimeline: 2 }),
  frozen: (role) => stateWith(role, { freeze: { date: undefined, reason: "for the test" } }),
  "promote of the sync": (role) => {
    const state = stateWith(role, {});
    const id = state.sync?.id ?? "";
    return {
      ...state,
      promote: { id, role: "sync", asyncIndex: undefined, generation: 3, expireTime: "2099-01-01T00:00:00.000Z" },
    };
  },
  "expired promote": (role) =>
    stateWith(role, {
      promote: {
        id: peerAddress(2).id,
        role: "sync",
        asyncIndex: undefined,
        generation: 3,
        expireTime: "2001-01-01T00:00:00.000Z",
      },
    }),
  "malformed promote": (role) => stateWith(role, { malformedPromote: "{}" }),
  "one-node-write mode asked for": (role) => stateWith(role, { oneNodeWriteMode: true }),
  "one-node-write mode": (role) =>
    stateWith(role, {
      oneNodeWriteMode: true,
      sync: null,
      async: [],
      freeze: { date: undefined, reason: "one-node-write mode" },
    }),
  "claimed timeline not begun": (role) => stateWith(role, { timeline: 2, highestTimeline: 2, initTimeline: 2 }),
};

const mark: DataMark = {
  shard: "1.test",
  incarnation: `data-${ME}`,
  claim: undefined,
  founding: false,
  incomplete: false,
  source: undefined,
  lastDocument: undefined,
};

function present(change: Partial<Extract<DataObservation, { kind: "present" }>> = {}): DataObservation {
  return {
    kind: "present",
    mark,
    systemIdentifier: SYSTEM_IDENTIFIER,
    controlState: "recovery",
    lineage,
    checkpoint: lsn(0x4000n),
    standbySignal: true,
    ...change,
  };
}

const DATA: Readonly<Record<string, DataObservation>> = {
  none: { kind: "none" },
  "own data": present(),
  "crashed as primary": present({ controlState: "production", standbySignal: false }),
  "other incarnation": present({ mark: { ...mark, incarnation: "another" } }),
  "marked claim": present({ mark: { ...mark, claim: { version: 7 } } }),
  founding: present({ mark: { ...mark, founding: true, incarnation: "founding" } }),
  "no mark": present({ mark: undefined }),
  "another shard's": present({ mark: { ...mark, shard: "2.other" } }),
  "another database": present({ systemIdentifier: "1" }),
  "rewind cut short": present({ mark: { ...mark, incomplete: true } }),
  "roll-back cut short": {
    kind: "unusable",
    code: "PG_DATA_INCOMPLETE",
    message: "cut short",
    hint: "Wait.",
    mark: { ...mark, incomplete: true },
  },
  "copy cut short": {
    kind: "unusable",
    code: "PG_DATA_INCOMPLETE",
    message: "cut short",
    hint: "Wait.",
    mark: { ...mark, incomplete: true },
  },
  "not a data directory": {
    kind: "unusable",
    code: "PG_DATA_UNUSABLE",
    message: "not ours",
    hint: "Empty it.",
    mark: undefined,
  },
};

const closed: PostgresSettings = { syncNames: ["manatee-nobody"], gate: "closed", upstream: null };
const following: PostgresSettings = { ...closed, upstream: peerAddress(1) };
const sender = { pid: 7, state: "streaming" as const, sent: wal.end, flush: wal.end, replay: wal.end };
const syncSender = { ...sender, name: peerAddress(2).pgUrl, clientAddress: peerAddress(2).ip, syncPriority: 1 };
const standby: Extract<ServerObservation, { kind: "standby" }> = {
  kind: "standby",
  since: 0,
  wal,
  replayed: wal.end,
  caughtUpLocally: true,
  partialRecord: false,
  replayPaused: false,
  settings: following,
  receiver: { kind: "streaming", pid: 5, from: { host: peerAddress(1).ip, port: 5432 }, silentMs: 0 },
  walsenders: [],
  clientSessions: 0,
};
const primary: Extract<ServerObservation, { kind: "primary" }> = {
  kind: "primary",
  since: 0,
  wal,
  recoveredEnd: lsn(0x4000n),
  commitsWait: true,
  settings: { syncNames: [peerAddress(2).pgUrl], gate: "open", upstream: null },
  walsenders: [syncSender],
  marker: undefined,
  clientSessions: 1,
  cannotGoOn: undefined,
};

const SERVERS: Readonly<Record<string, ServerObservation>> = {
  "not started": { kind: "stopped", since: 0, how: "not-started" },
  stopped: { kind: "stopped", since: 0, how: "stopped" },
  exited: { kind: "stopped", since: 0, how: "exited" },
  starting: { kind: "starting", since: 0 },
  unresponsive: { kind: "unresponsive", since: 0, reason: "no answer" },
  "standby, receiving": standby,
  "standby, connecting": { ...standby, receiver: { kind: "connecting", pid: 5 } },
  "standby, receiving nothing": { ...standby, receiver: { kind: "none" } },
  "standby, told to receive nothing": { ...standby, settings: closed, receiver: { kind: "none" } },
  "standby, silent": {
    ...standby,
    receiver: { kind: "streaming", pid: 5, from: { host: peerAddress(1).ip, port: 5432 }, silentMs: 60_000 },
  },
  "standby, replay paused": { ...standby, replayPaused: true, caughtUpLocally: false },
  "standby with an heir": {
    ...standby,
    receiver: { kind: "none" },
    walsenders: [{ ...sender, name: peerAddress(3).pgUrl, clientAddress: peerAddress(3).ip, syncPriority: 0 }],
  },
  "primary, open": primary,
  "primary, closed": { ...primary, settings: { ...primary.settings, gate: "closed" } },
  "primary without its sync": { ...primary, walsenders: [] },
  "primary, commits do not wait": { ...primary, commitsWait: false, settings: { ...primary.settings, gate: "closed" } },
  "primary, disk full": { ...primary, cannotGoOn: "no space left on device" },
  "primary on another timeline": {
    ...primary,
    wal: { past: [{ timeline: 1, end: lsn(0x2000n) }], timeline: 3, end: wal.end },
  },
};

const announcement = standbyAnnouncement({ incarnation: undefined });

/** Who is there: everybody, only this peer, or everybody but the primary. */
const ELECTIONS: Readonly<Record<string, readonly number[]>> = {
  all: [1, 2, 3, ME],
  alone: [ME],
  "no primary": [2, 3, ME],
};

function storeOf(shard: ShardView, present: readonly number[], connected: boolean): StoreObservation {
  return {
    connection: { kind: connected ? "connected" : "cut-off", since: 0 },
    sessionTimeoutMs: 4_000,
    shard,
    election: present.map((n, sequence) => ({
      peer: peerAddress(n),
      sequence,
      announcement: standbyAnnouncement({
        incarnation: `data-${n}`,
        ...(n === 1 ? { phase: "primary" as const, serving: { generation: 3, lineage } } : {}),
      }),
    })),
    announced: announcement,
    lastWrite: undefined,
    takeoversLastHour: 0,
  };
}

function observation(store: StoreObservation, data: DataObservation, server: ServerObservation): Observation {
  const silent = { kind: "silent" as const, since: 0 };
  const evidence = { sitter: silent, postgresPort: silent, postgresHealthy: undefined, alsoSilentFor: [] };
  return {
    now: NOW,
    wallMs: Date.UTC(2026, 0, 1),
    nonce: "nonce",
    shard: "1.test",
    self: mine,
    policy: {
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
    },
    store,
    postgres: { data, server, job: undefined, failure: undefined, forks: [], canRollBack: true },
    peers: Object.fromEntries([1, 2, 3].map((n) => [peerAddress(n).id, evidence])),
  };
}

interface Case {
  readonly name: string;
  readonly role: Role;
  readonly observation: Observation;
}

function* cases(): Generator<Case> {
  const views: [string, Role, ShardView][] = [
    ["the state not read", "none", { kind: "unread" }],
    ["no state", "none", { kind: "absent" }],
    [
      "an unreadable state",
      "none",
      { kind: "unreadable", code: "STATE_MALFORMED", message: "malformed", hint: "manatee-adm state restore" },
    ],
  ];
  for (const role of ["primary", "sync", "async", "deposed", "none"] as const)
    for (const [name, make] of Object.entries(DOCUMENTS))
      views.push([`${role}, ${name}`, role, { kind: "document", state: make(role), version: 7, readAt: NOW - 10 }]);
  for (const [view, role, shard] of views)
    for (const [who, present] of Object.entries(ELECTIONS))
      for (const connected of [true, false])
        for (const [dataName, data] of Object.entries(DATA))
          for (const [serverName, server] of Object.entries(SERVERS)) {
            // no server runs without data
            if (data.kind !== "present" && server.kind !== "stopped") continue;
            const name = [view, who, connected ? "connected" : "cut off", dataName, serverName].join(" | ");
            yield { name, role, observation: observation(storeOf(shard, present, connected), data, server) };
          }
}

function acts(decision: Decision, { postgres }: Observation): boolean {
  const { server } = postgres;
  const now = server.kind === "primary" || server.kind === "standby" ? server.settings : undefined;
  const changes =
    decision.settings !== undefined && now !== undefined && JSON.stringify(decision.settings) !== JSON.stringify(now);
  return (
    decision.waitingOn !== undefined || decision.operator !== undefined || decision.action !== undefined || changes
  );
}

/** In its place, as the document names it, with nothing left to wish for: such a peer may say nothing. */
function isInPlace({ role, observation: { postgres } }: Case): boolean {
  const { server } = postgres;
  if (role === "primary")
    return server.kind === "primary" && server.settings.gate === "open" && server.cannotGoOn === undefined;
  if (role === "sync" || role === "async")
    return server.kind === "standby" && server.receiver.kind === "streaming" && server.receiver.silentMs < 2_000;
  return false;
}

/** Changing what is remembered may be a step of its own: the next looks then have to say more. */
const LOOKS = 3;

/** What is decided when nothing changes outside: on the first looks, and on those after a wait. */
function exitWithin({ observation }: Case, memory: Memory): { exit: boolean; last: Decision } {
  let last = decide(observation, memory);
  for (let look = 1; look < LOOKS && !acts(last, observation); look++)
    last = decide({ ...observation, now: observation.now + look * last.lookAgainAfterMs }, last.memory);
  return { exit: acts(last, observation), last };
}

const SETTLED: Memory = { ...NEW_MEMORY, startVersion: 1, fenced: true, followed: true, servedWithSync: true };

function wrongWith(it: Case): readonly string[] {
  const first = decide(it.observation, NEW_MEMORY);
  const wrong: string[] = [];
  if (first.because.length < 10) wrong.push(`${it.name}: gives no reason`);
  if (!(first.lookAgainAfterMs > 0 && first.lookAgainAfterMs <= 60_000))
    wrong.push(`${it.name}: looks again after ${first.lookAgainAfterMs} ms`);
  if (isInPlace(it)) return wrong;
  const later: Case = { ...it, observation: { ...it.observation, now: NOW + 15_000 } };
  const looks = {
    "first look": exitWithin(it, NEW_MEMORY),
    settled: exitWithin(it, SETTLED),
    later: exitWithin(later, first.memory),
  };
  for (const [when, { exit, last }] of Object.entries(looks))
    if (!exit) wrong.push(`${it.name} | ${when}: ${last.rule} ${last.because}`);
  return wrong;
}

test("I6: every decision of every role under every condition has a reason, an exit, and a next look", {
  timeout: 120_000,
}, () => {
  const wrong: string[] = [];
  let walked = 0;
  for (const it of cases()) {
    walked++;
    wrong.push(...wrongWith(it));
  }
  expect(walked).toBeGreaterThan(20_000);
  expect(wrong.slice(0, 20), `${wrong.length} of ${walked}`).toEqual([]);
});

test("the same observation and memory give the same decision", () => {
  let walked = 0;
  for (const it of cases())
    if (walked++ % 20 === 0) expect(decide(it.observation, SETTLED)).toEqual(decide(it.observation, SETTLED));
});
