import { describe, expect, test } from "vitest";
import { lsn } from "../../src/base/lsn.ts";
import { checkState, checkTransition, type TransitionContext } from "../../src/cluster/invariants.ts";
import type { ShardState } from "../../src/cluster/state.ts";
import { peerEntry, shardState } from "../support/shard-state.ts";

const peer = peerEntry;

/** Generation 4, on a timeline that a takeover began; a number above it was claimed before. */
function state(changes: Partial<ShardState> = {}): ShardState {
  return shardState({
    generation: 4,
    async: [peer(3)],
    initTimeline: 2,
    timeline: 2,
    highestTimeline: 3,
    rule: "S1",
    reason: "",
    ...changes,
  });
}

const takeover: Partial<ShardState> = {
  generation: 5,
  primary: peer(2),
  sync: peer(3),
  async: [],
  deposed: [peer(1)],
  initWal: lsn(0x4000000n),
  provisional: true,
  timeline: 4,
  highestTimeline: 4,
};
const claimed = state(takeover);
const amended = state({ ...takeover, provisional: false, initTimeline: 4, initWal: lsn(0x3fffff0n) });
const renewed = state({ generation: 5, sync: peer(3), async: [peer(2)], initWal: lsn(0x3500000n) });

const rules = (found: readonly { rule: string }[]) => [...new Set(found.map((violation) => violation.rule))].sort();
const brokenBy = (before: ShardState | undefined, after: ShardState, kind: TransitionContext["kind"] = "agent") =>
  rules(checkTransition(before, after, { kind }));

describe("a state", () => {
  test("of a healthy shard, a provisional one, and one alone by its flag have no violation", () => {
    for (const good of [state(), claimed, amended, state({ sync: null, async: [], oneNodeWriteMode: true })])
      expect(checkState(good)).toEqual([]);
  });

  test("of the original is not held to our own fields", () => {
    const bare = (n: number) => peer(n, { incarnation: undefined });
    const original = state({
      primary: bare(1),
      sync: bare(2),
      async: [bare(3)],
      initTimeline: 1,
      timeline: 1,
      highestTimeline: 1,
      systemIdentifier: undefined,
      rule: "",
      requires: [],
    });
    expect(checkState(original)).toEqual([]);
    expect(rules(checkState({ ...original, rule: "S1" }))).toEqual(["incarnation", "requires", "system-identifier"]);
  });

  test.each<[string, Partial<ShardState>]>([
    ["generation", { generation: 0 }],
    ["one-role", { async: [peer(2, { zoneId: "other", pgUrl: "tcp://x@10.9.9.9:1/x", incarnation: "other" })] }],
    ["peer-id", { async: [peer(3, { id: "three" })] }],
    ["name-length", { async: [peer(3, { pgUrl: `tcp://postgres@10.0.0.3:5432/${"ä".repeat(20)}` })] }],
    ["unique-pg-url", { async: [peer(3, { pgUrl: peer(1).pgUrl.toUpperCase() })] }],
    ["unique-zone-id", { primary: peer(1, { zoneId: "zone-abc-1" }), sync: peer(2, { zoneId: "zone-abc-2" }) }],
    ["timeline", { timeline: 4, initTimeline: 4 }],
    ["timeline", { highestTimeline: 2 ** 31 }],
    ["provisional", { initTimeline: 1 }],
    ["provisional", { provisional: true }],
    ["requires", { requires: [] }],
    ["system-identifier", { systemIdentifier: undefined }],
    ["incarnation", { sync: peer(2, { incarnation: undefined }) }],
    ["unique-incarnation", { sync: peer(2, { incarnation: "data-1" }) }],
  ])("that breaks `%s` is found, and nothing else is reported (%o)", (rule, changes) => {
    expect(rules(checkState(state(changes)))).toEqual([rule]);
  });

  test("with a name of exactly 63 bytes is fine", () => {
    const pgUrl = "tcp://postgres@10.0.0.3:5432/".padEnd(63, "x");
    expect(checkState(state({ async: [peer(3, { pgUrl })] }))).toEqual([]);
  });
});

describe("a transition", () => {
  test("of each rule has no violation (B1, S1, A1, A2, T1, T3, R1, FENCE)", () => {
    const first = state({ generation: 1, timeline: 1, initTimeline: 1, highestTimeline: 1 });
    expect(brokenBy(undefined, first)).toEqual([]);
    expect(brokenBy(state(), renewed)).toEqual([]);
    expect(brokenBy(state(), state({ generation: 5, sync: peer(2, { incarnation: "new" }) }))).toEqual([]);
    expect(brokenBy(state(), state({ async: [peer(3), peer(4)] }))).toEqual([]);
    expect(brokenBy(state(), state({ async: [] }))).toEqual([]);
    expect(brokenBy(state(), claimed)).toEqual([]);
    expect(brokenBy(claimed, amended)).toEqual([]);
    expect(brokenBy(amended, { ...amended, deposed: [], async: [peer(1, { incarnation: "again" })] })).toEqual([]);
    expect(brokenBy(state(), state())).toEqual([]);
    const alone = state({ sync: null, async: [], oneNodeWriteMode: true });
    expect(brokenBy(alone, state({ generation: 5, async: [] }))).toEqual([]);
    expect(brokenBy(state({ async: [], oneNodeWriteMode: true }), { ...alone, generation: 5 })).toEqual([]);
  });

  test("by the heir of a takeover that never got its new timeline is fine: a claim from the old timeline (T1)", () => {
    const again = state({
      ...takeover,
      generation: 6,
      primary: peer(3),
      sync: peer(4),
      deposed: [peer(2), peer(1)],
      timeline: 5,
      highestTimeline: 5,
    });
    expect(brokenBy(claimed, again)).toEqual([]);
  });

  test.each<[string, ShardState | undefined, Partial<ShardState>]>([
    ["generation", undefined, { generation: 2, timeline: 2 }],
    ["generation", state(), { sync: peer(3), async: [peer(2)] }],
    ["generation", state(), { generation: 5 }],
    ["generation", state(), { generation: 6, sync: peer(3), async: [] }],
    ["generation", state(), { sync: peer(2, { incarnation: "new" }) }],
    ["requires", state({ requires: ["incarnations", "more"] }), {}],
    ["system-identifier", state(), { systemIdentifier: "8" }],
    ["highest-timeline", state({ highestTimeline: 9 }), {}],
    ["primary", state(), { ...takeover, primary: peer(3), sync: peer(2) }],
    ["primary", state(), { ...takeover, primary: peer(2, { incarnation: "other" }) }],
    ["former-primary", state(), { ...takeover, deposed: [] }],
    ["sync", state(), { generation: 5, sync: null, oneNodeWriteMode: true }],
    ["init-wal", state(), { initWal: lsn(0x3000001n) }],
    ["init-wal", state(), { generation: 5, sync: peer(3), async: [], initWal: lsn(0x2ffffffn) }],
    ["new-timeline", state({ highestTimeline: 4 }), takeover],
    ["timeline", state(), { initTimeline: 3, timeline: 3, generation: 5, sync: peer(3), async: [] }],
    ["provisional", state(), { ...takeover, initTimeline: 4, provisional: false }],
    [
      "promote",
      state(),
      { promote: { id: peer(2).id, role: "sync", asyncIndex: undefined, generation: 4, expireTime: "" } },
    ],
    ["freeze", state(), { freeze: { date: undefined, reason: undefined } }],
    ["deposed", state({ deposed: [peer(5)] }), { generation: 5, sync: peer(3), async: [peer(2)] }],
  ])("of an agent that breaks `%s` is found, and nothing else is reported", (rule, before, changes) => {
    expect(brokenBy(before, state(changes))).toEqual([rule]);
  });

  test("of a frozen shard's roles is an agent's violation, its amendment and a fence are not (F1)", () => {
    const freeze = { date: undefined, reason: "maintenance" };
    expect(brokenBy(state({ freeze }), { ...renewed, freeze })).toEqual(["frozen"]);
    expect(brokenBy(state({ freeze }), state({ freeze, async: [] }))).toEqual(["frozen"]);
    expect(brokenBy({ ...claimed, freeze }, { ...amended, freeze })).toEqual([]);
    expect(brokenBy(state({ freeze }), state({ freeze }))).toEqual([]);
  });

  test("that makes initWal provisional within a generation is found", () => {
    expect(brokenBy(amended, claimed)).toEqual(["init-wal", "provisional"]);
  });

  test("by an operator may set flags and reap, not change the primary; forced it may, and lose WAL (O2)", () => {
    const freeze = { date: undefined, reason: "maintenance" };
    expect(brokenBy(state({ deposed: [peer(5)] }), state({ freeze }), "operator")).toEqual([]);
    expect(brokenBy(state(), claimed, "operator")).toEqual(["primary"]);
    const forced = state({
      ...takeover,
      primary: peer(3),
      sync: null,
      oneNodeWriteMode: true,
      deposed: [peer(1), peer(2)],
      initWal: lsn(1n),
    });
    expect(brokenBy(state(), forced, "forced")).toEqual([]);
    expect(brokenBy(state(), forced, "agent")).toEqual(["init-wal", "primary"]);
  });

  test("by restore may begin any generation, and keeps the highest timeline and the system identifier (B1)", () => {
    expect(brokenBy(undefined, state({ generation: 40 }), "restore")).toEqual([]);
    expect(brokenBy(state(), state({ generation: 40, highestTimeline: 2 }), "restore")).toEqual(["highest-timeline"]);
  });
});
