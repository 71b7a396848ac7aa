import { describe, expect, it } from "vitest";
import type { HealthFacts, PeerFacts } from "../../src/cluster/health-facts.ts";
import { judgeHealth } from "../../src/cluster/health.ts";
import type { ElectionEntry, ShardView } from "../../src/cluster/observation.ts";
import { document, NOW, peer, report, row, state, wellReports } from "../admin/fixture.ts";
import { standbyAnnouncement } from "../support/shard-state.ts";

const announcement = standbyAnnouncement({ incarnation: "inc", systemIdentifier: undefined, features: [] });

function election(...names: readonly string[]): ElectionEntry[] {
  return names.map((name, at) => ({ peer: peer(name), sequence: at, announcement }));
}

function asked(reports: ReturnType<typeof wellReports>): Record<string, PeerFacts> {
  return Object.fromEntries(
    Object.values(reports).map((each) => [each.id, { sitter: "answers", postgresPort: undefined, report: each }]),
  );
}

function view(change: Readonly<Record<string, unknown>> = {}): Exclude<ShardView, { kind: "unread" }> {
  return { kind: "document", state: state(change), version: 1, readAt: 0 };
}

function facts(
  change: Partial<HealthFacts> = {},
  reports: ReturnType<typeof wellReports> = wellReports(),
): HealthFacts {
  return {
    view: view(),
    election: election("a", "b", "c"),
    peers: asked(reports),
    wallMs: NOW,
    historyEntries: 3,
    evaluationOnly: false,
    ...change,
  };
}

/** Each finding as `severity: message`. */
function told(given: HealthFacts): string[] {
  return judgeHealth(given).map(({ severity, message }) => `${severity}: ${message}`);
}

describe("the verdict on a shard", () => {
  it("finds nothing where all is well", () => {
    expect(judgeHealth(facts())).toEqual([]);
  });

  it("says of everything what to do", () => {
    const reports = wellReports();
    reports["a"] = report("a", "primary", {
      incarnation: "other",
      store: { connected: false, openToAll: true },
      postgres: { gate: "closed", cancelledWaits: 2, forksKept: 1, warnings: ["x is off"] },
    });
    const found = judgeHealth(
      facts(
        {
          view: view({ freeze: true, deposed: [peer("d")], promote: 1, oneNodeWriteMode: true }),
          election: [],
          evaluationOnly: true,
          historyEntries: 20_000,
        },
        reports,
      ),
    );
    expect(found.length).toBeGreaterThan(12);
    expect(found.filter(({ remedy }) => remedy.trim() === "")).toEqual([]);
    const order = found.map(({ severity }) => ["error", "warning", "note"].indexOf(severity));
    expect(order).toEqual([...order].sort((a, b) => a - b));
  });

  it("names the way on where primary and sync are both gone, and doesn't promise a takeover", () => {
    const remedies = (...present: string[]) =>
      judgeHealth(facts({ election: election(...present) }))
        .filter(({ message }) => message.endsWith("is not in the election"))
        .map(({ remedy }) => remedy);
    expect(remedies("c")).toHaveLength(2);
    for (const remedy of remedies("c")) expect(remedy).toContain("docs/operating/primary-and-sync-lost.md");
    expect(remedies("b", "c")).toEqual(["start its sitter; the sync takes over otherwise"]);
    expect(remedies("a", "c")).toEqual(["start its sitter; the primary names another sync otherwise"]);
  });

  it("doesn't send who is in one-node-write mode to unfreeze alone (O1)", () => {
    const freeze = { date: "D", reason: "one-node-write mode" };
    const remedy = (change: Readonly<Record<string, unknown>>) =>
      judgeHealth(facts({ view: view({ freeze, ...change }) })).find(({ rule }) => rule === "F1")?.remedy;
    expect(remedy({ sync: null, async: [], oneNodeWriteMode: true })).toContain("manatee-adm set-onwm -m off");
    expect(remedy({})).toBe("run manatee-adm unfreeze when the work is done");
  });

  it.each([
    [
      "frozen (F1)",
      { view: view({ freeze: { date: "D", reason: "R" } }) },
      "warning: the shard is frozen since D: R; nobody takes over",
    ],
    [
      "provisional (T1)",
      { view: view({ provisional: true, initTimeline: 1 }) },
      "warning: generation 3 is provisional: the takeover is not complete",
    ],
    [
      "one-node-write mode (O1)",
      { view: view({ sync: null, async: [], oneNodeWriteMode: true }) },
      "warning: one-node-write mode: commits wait for no second peer, and losing this one loses data",
    ],
    [
      "one-node-write mode asked for (O1)",
      { view: view({ oneNodeWriteMode: true }) },
      "warning: one-node-write mode is requested beside a sync; the sync stays required until the primary has written it",
    ],
    [
      "no sync yet (O1)",
      { view: view({ sync: null, async: [] }) },
      "warning: one-node-write mode has ended, and there is no sync yet",
    ],
    [
      "no async (T1)",
      { view: view({ async: [] }) },
      "warning: there is no async: if a peer is lost, writes stop until one is back",
    ],
    [
      "a request pending (T3)",
      {
        view: view({
          promote: { id: peer("b").id, role: "sync", generation: 3, expireTime: "2026-03-01T12:00:20.000Z" },
        }),
      },
      `warning: a request to promote ${peer("b").id} (sync) is pending until 2026-03-01T12:00:20.000Z`,
    ],
    [
      "a request expired (T3)",
      {
        view: view({
          promote: { id: peer("b").id, role: "sync", generation: 3, expireTime: "2026-03-01T11:59:59.000Z" },
        }),
      },
      `warning: a request to promote ${peer("b").id} (sync) expired at 2026-03-01T11:59:59.000Z and is still there`,
    ],
    [
      "a request that is none (T3)",
      { view: view({ promote: "please" }) },
      "warning: the state document holds a promote request that is none",
    ],
    [
      "a broken rule",
      { view: view({ sync: { ...peer("b"), zoneId: peer("a").zoneId } }) },
      "error: the state document breaks a rule: several peers have a zoneId that begins with aaaaaaaa",
    ],
    [
      "a primary that is absent (D1)",
      { election: election("b", "c") },
      'error: peer "aaaaaaaa" (primary) is not in the election',
    ],
    [
      "a sync that is absent (D1)",
      { election: election("a", "c") },
      'warning: peer "bbbbbbbb" (sync) is not in the election',
    ],
    [
      "an async that is absent (A2)",
      { election: election("a", "b") },
      'warning: peer "cccccccc" (async) is not in the election',
    ],
    [
      "a peer without a role (A1)",
      { election: election("a", "b", "c", "d") },
      'warning: peer "dddddddd" is present and has no role yet',
    ],
    [
      "an original sitter",
      { election: [...election("a", "b", "c"), { peer: peer("d"), sequence: 9, announcement: undefined }] },
      'warning: peer "dddddddd" runs a sitter of the original Manatee; it never gets into the chain',
    ],
    [
      "the embedded store",
      { evaluationOnly: true },
      "warning: the coordination store is the embedded one, for evaluation only",
    ],
    [
      "a long history",
      { historyEntries: 12_000 },
      "warning: the history has 12000 entries; past about 30000 ZooKeeper can't list them",
    ],
    [
      "a document that can't be read",
      { view: { kind: "unreadable", code: "STATE_MALFORMED", message: "it is no JSON", hint: "h" } as const },
      "error: the state document can't be used: it is no JSON",
    ],
    [
      "a document that is gone (B1)",
      { view: { kind: "absent" } as const },
      `error: there is no state document, but "aaaaaaaa", "bbbbbbbb", "cccccccc" hold this shard's data`,
    ],
    [
      "a change by the original's tool",
      { view: { ...view(), version: 2 } as never },
      "note: the last change (version 2) was made by a program of the original Manatee",
    ],
  ] satisfies [string, Partial<HealthFacts>, string][])("finds %s", (_, change, expected) => {
    expect(told(facts(change))).toContain(expected);
  });

  const ill = (name: string, change: Parameters<typeof report>[2]) => ({
    ...wellReports(),
    [name]: report(name, ({ a: "primary", b: "sync", c: "async" } as const)[name as "a" | "b" | "c"], change),
  });
  const streams = { replication: [row("b", { sync_state: "sync" })] };

  it.each([
    [
      "a sync that does not stream (S1)",
      ill("a", { postgres: { replication: [] } }),
      'error: peer "aaaaaaaa": downstream replication peer not connected: the sync, peer "bbbbbbbb", does not stream, and commits wait',
    ],
    [
      "a sync that catches up (S1)",
      ill("a", { postgres: { replication: [row("b", { state: "catchup" })] } }),
      'error: peer "aaaaaaaa": downstream replication peer not connected: the sync, peer "bbbbbbbb", is in state catchup, and commits wait',
    ],
    [
      "a sync that doesn't count (S1)",
      ill("a", { postgres: { replication: [row("b", { sync_state: "async" })] } }),
      'error: peer "aaaaaaaa": expected downstream replication to be "sync", found "async"',
    ],
    [
      "a primary that waits for nobody (S1)",
      ill("a", { postgres: { ...streams, syncNames: [] } }),
      'error: peer "aaaaaaaa" waits for no standby, though the state names a sync',
    ],
    [
      "a closed gate (P1)",
      ill("a", { postgres: { ...streams, gate: "closed" }, decision: { because: "the sync is missing" } }),
      'error: the primary, peer "aaaaaaaa", admits no clients yet: the sync is missing',
    ],
    [
      "a primary that is down (T2)",
      ill("a", { postgres: { ...streams, healthy: false, error: "ECONNREFUSED" } }),
      'error: cannot query postgres on primary: peer "aaaaaaaa": ECONNREFUSED',
    ],
    [
      "a primary that runs as a standby (RESUME)",
      ill("a", { postgres: { ...streams, state: "standby" } }),
      'error: peer "aaaaaaaa" is named primary, and its PostgreSQL is standby',
    ],
    [
      "a standby that runs as a primary",
      ill("c", { postgres: { state: "primary", receiver: null } }),
      'error: peer "cccccccc" is named async, and its PostgreSQL is a primary',
    ],
    [
      "an async that does not receive (A1)",
      ill("c", { postgres: { receiver: "none" } }),
      'warning: peer "cccccccc" (async) does not receive: its receiver is none',
    ],
    ["a lag", ill("b", { postgres: { lagSeconds: 61 } }), 'warning: peer "bbbbbbbb" (sync) is 61 s behind'],
    [
      "other data than named (S1)",
      ill("b", { incarnation: "inc-x" }),
      'error: peer "bbbbbbbb" (sync) holds other data than the state names: incarnation inc-x, not inc-b',
    ],
    [
      "another database (B1)",
      ill("c", { systemIdentifier: "42" }),
      'error: peer "cccccccc" holds another database: system identifier 42, not 7512345678901234567',
    ],
    [
      "different databases among the peers",
      ill("c", { systemIdentifier: "42" }),
      `error: peers hold different databases: 7512345678901234567 (${peer("a").id}, ${peer("b").id}), 42 (${peer("c").id})`,
    ],
    ["an old belief (Z1)", ill("c", { generation: 2 }), 'warning: peer "cccccccc" knows generation 2 only, not 3'],
    [
      "a peer cut off from the store (Z1)",
      ill("c", { store: { connected: false } }),
      'warning: peer "cccccccc" is cut off from the coordination store',
    ],
    [
      "a store open to all",
      ill("c", { store: { openToAll: true } }),
      "warning: the shard's nodes in the coordination store are open to all: whoever reaches it can rewrite the state",
    ],
    [
      "a peer that waits for an operator",
      ill("c", { decision: { because: "forks fill the disk", operator: "delete forks" } }),
      'warning: peer "cccccccc" waits for an operator: forks fill the disk',
    ],
    [
      "settings that are not as they must be",
      ill("c", { postgres: { warnings: ["fsync is off"] } }),
      'warning: peer "cccccccc": fsync is off',
    ],
    [
      "cancelled waits",
      ill("a", { postgres: { ...streams, cancelledWaits: 3 } }),
      'note: peer "aaaaaaaa": 3 commits gave up waiting for the sync since its start; their clients were told so by a warning only',
    ],
    [
      "a cancelled wait",
      ill("a", { postgres: { ...streams, cancelledWaits: 1 } }),
      'note: peer "aaaaaaaa": 1 commit gave up waiting for the sync since its start; its client was told so by a warning only',
    ],
    [
      "commits in doubt (I1)",
      ill("a", { postgres: { ...streams, cancelledWaits: 3, inDoubt: { timeline: 2, upTo: "0/79E8E1A0" } } }),
      'warning: peer "aaaaaaaa": commits up to 0/79E8E1A0 gave up waiting for the sync, are visible and not safe yet: the sync has flushed up to 0/79E8E0A0, 256 bytes less',
    ],
    [
      "commits in doubt while the sync is away (I1)",
      ill("a", { postgres: { replication: [], cancelledWaits: 3, inDoubt: { timeline: 2, upTo: "0/79E8E1A0" } } }),
      'warning: peer "aaaaaaaa": commits up to 0/79E8E1A0 gave up waiting for the sync, are visible and not safe yet: what the sync has flushed is not known',
    ],
    [
      "commits in doubt that are not placed yet (I1)",
      ill("a", { postgres: { ...streams, cancelledWaits: 3, inDoubt: { timeline: null, upTo: null } } }),
      'warning: peer "aaaaaaaa": commits gave up waiting for the sync, are visible and not safe yet: where they end is not known yet',
    ],
    [
      "commits that wait for a sync that streams (I1)",
      ill("a", { postgres: { ...streams, waitingCommits: 1, walEnd: "0/79E8E0E0" } }),
      'note: peer "aaaaaaaa": 1 commit waits for the sync, with WAL up to 0/79E8E0E0: the sync has flushed up to 0/79E8E0A0, 64 bytes less',
    ],
    [
      "commits that wait for a sync that does not count (I1)",
      ill("a", {
        postgres: { replication: [row("b", { state: "catchup" })], waitingCommits: 2, walEnd: "0/79E8E0E0" },
      }),
      'warning: peer "aaaaaaaa": 2 commits wait for the sync, with WAL up to 0/79E8E0E0: the sync has flushed up to 0/79E8E0A0, 64 bytes less',
    ],
    [
      "the embedded store, as a sitter tells of it",
      ill("b", { store: { evaluationOnly: true } }),
      "warning: the coordination store is the embedded one, for evaluation only",
    ],
    ["forks kept (I5)", ill("c", { postgres: { forksKept: 1 } }), 'note: peer "cccccccc" keeps 1 fork of former WAL'],
    [
      "room for another fork (I5)",
      ill("c", { forksKeptMax: 2, postgres: { forksKept: 1 } }),
      'note: peer "cccccccc" keeps 1 fork of former WAL',
    ],
    [
      "no room for another fork (I5)",
      ill("c", { forksKeptMax: 2, postgres: { forksKept: 2 } }),
      'warning: peer "cccccccc" keeps 2 forks of former WAL, and policy.forksKeptMax is 2: where the next one has to be kept, it waits for an operator',
    ],
  ])("finds %s", (_, reports, expected) => {
    expect(told(facts({}, reports))).toContain(expected);
  });

  it("has no problem to tell of once nothing is in doubt: how many gave up waiting is a note (I1)", () => {
    const severities = judgeHealth(facts({}, ill("a", { postgres: { ...streams, cancelledWaits: 3 } })));
    expect(severities.map(({ severity }) => severity)).toEqual(["note"]);
  });

  it("tells a sitter that refuses from one that is silent, with what its PostgreSQL's port says", () => {
    const { [peer("c").id]: _, ...others } = asked(wellReports());
    const silent = (sitter: PeerFacts["sitter"], postgresPort: PeerFacts["postgresPort"]) =>
      told(facts({ peers: { ...others, [peer("c").id]: { sitter, postgresPort, report: undefined } } }));
    expect(silent("refused", "open")).toEqual([
      `warning: peer "cccccccc": its sitter refuses the connection; its PostgreSQL's port is open`,
    ]);
    expect(silent("silent", "refused")).toEqual([
      `warning: peer "cccccccc": its sitter doesn't answer; its PostgreSQL's port refuses`,
    ]);
    expect(silent("stranger", "silent")).toEqual([
      `warning: peer "cccccccc": something that is no sitter of this version answers on its status port; its PostgreSQL's port doesn't answer`,
    ]);
  });

  it("gives a deposed peer's own reason, and the command that it waits for (R1)", () => {
    const reports = {
      ...wellReports(),
      d: report("d", "deposed", {
        incarnation: "inc-new",
        decision: { because: "its WAL has forked", operator: "manatee-adm rebuild" },
      }),
    };
    const [found] = judgeHealth(
      facts({ view: view({ deposed: [peer("d")] }), election: election("a", "b", "c", "d") }, reports),
    );
    expect(found).toMatchObject({
      severity: "warning",
      rule: "R1",
      message: 'peer "dddddddd" is deposed: its WAL has forked',
      remedy: "manatee-adm rebuild",
    });
  });

  it("says where a shard was never founded, and where it was", () => {
    const none = { incarnation: undefined, data: "none" } as const;
    const empty = election("a").map((entry) => ({ ...entry, announcement: { ...announcement, ...none } }));
    expect(told(facts({ view: { kind: "absent" }, election: empty, peers: {} }))).toEqual([
      'error: there is no state document; present: "aaaaaaaa"',
    ]);
    expect(told(facts({ view: { kind: "absent" }, election: [], peers: {} }))).toEqual([
      "error: there is no state document and no peer",
    ]);
  });

  it("takes the original's documents for what they are", () => {
    const plain = (name: string) => {
      const { incarnation: _, ...rest } = peer(name);
      return rest;
    };
    const { generation, initWal } = document() as { generation: number; initWal: string };
    const original = {
      generation,
      initWal,
      primary: plain("a"),
      sync: plain("b"),
      async: [plain("c")],
      deposed: [],
      requires: undefined,
      systemIdentifier: undefined,
      rule: undefined,
      reason: undefined,
      written: undefined,
      initTimeline: undefined,
      timeline: undefined,
      highestTimeline: undefined,
      provisional: undefined,
    };
    expect(told(facts({ view: view(original) }))).toEqual([
      "warning: the state document was written by the original Manatee",
    ]);
  });
});
