import { describe, expect, test } from "vitest";
import { Peer } from "../../demo/shard.ts";
import { plainLength } from "../../demo/text.ts";
import { chainText, draw, type Picture } from "../../demo/view.ts";
import { isWhole, type Reports } from "../../demo/watch.ts";
import type { PeerReport } from "../../src/status/report.ts";

const [alpha, bravo, charlie] = ["alpha", "bravo", "charlie"].map(
  (name, i) => new Peer({ name, folder: `/f/${name}`, pgPort: 5440 + 3 * i }),
) as [Peer, Peer, Peer];

function report(role: PeerReport["role"], postgres: Partial<PeerReport["postgres"]> = {}): PeerReport {
  const standby = role === "sync" || role === "async";
  return {
    run: "r",
    id: "127.0.0.1:5440:5442",
    zoneId: "alpha",
    shard: "demo",
    pgUrl: "tcp://postgres@127.0.0.1:5440/postgres",
    incarnation: "i",
    systemIdentifier: "1",
    generation: 1,
    version: 1,
    role,
    decision: { rule: "Z1", because: "all is well", waitingOn: null, operator: null, forMs: 0 },
    store: { connected: true, sinceMs: 0, evaluationOnly: true, openToAll: null },
    postgres: {
      healthy: true,
      error: null,
      lastCheck: "2026-01-01T00:00:00Z",
      version: "18.4",
      state: standby ? "standby" : "primary",
      job: null,
      gate: role === "primary" ? "open" : null,
      syncNames: null,
      lineage: "1",
      timeline: 1,
      walEnd: "0/3000000",
      replayed: null,
      lagSeconds: null,
      receiver: standby ? "streaming" : null,
      clientSessions: 0,
      replication: [],
      forksKept: 0,
      waitingCommits: null,
      cancelledWaits: 0,
      inDoubt: null,
      warnings: [],
      ...postgres,
    },
    silent: [],
  };
}

const whole: Reports = new Map([
  [charlie, report("async")],
  [alpha, report("primary")],
  [bravo, report("sync", { walEnd: "0/2FFFC00" })],
]);

describe("what the demonstration shows", () => {
  test("peers stand in the chain's order, whatever order they were asked in", () => {
    expect(chainText(whole)).toBe("alpha (primary) → bravo (sync) → charlie (async)");
    expect(chainText(new Map([...whole, [alpha, report("deposed")]]))).toBe(
      "bravo (sync) → charlie (async), deposed: alpha",
    );
  });

  test("who does not answer is named, once anybody has a place", () => {
    expect(chainText(new Map([...whole, [alpha, null]]))).toBe("bravo (sync) → charlie (async), dead: alpha");
    expect(chainText(new Map([[alpha, null]]))).toBe("");
  });

  test("the chain counts as whole only with an open gate, a sync, and standbys that receive", () => {
    expect(isWhole(whole)).toBe(true);
    expect(isWhole(new Map([...whole, [alpha, report("primary", { gate: "closed" })]]))).toBe(false);
    expect(isWhole(new Map([...whole, [bravo, report("sync", { receiver: "none" })]]))).toBe(false);
    expect(isWhole(new Map([...whole, [charlie, report("none")]]))).toBe(false);
    expect(isWhole(new Map([...whole, [charlie, null]]))).toBe(false);
    expect(isWhole(new Map())).toBe(false);
  });

  test("no line is wider than the terminal, and a dead sitter is named", () => {
    const picture: Picture = {
      about: "PostgreSQL 18.4, embedded store",
      generation: 1,
      reports: new Map([...whole, [alpha, null]]),
      rates: [1, 2, 3],
      intervalMs: 500,
      writes: { acknowledged: 12_345, longestGapMs: 1_800 },
    };
    for (const columns of [40, 79, 200]) {
      const lines = draw(picture, columns);
      expect(Math.max(...lines.map(plainLength))).toBeLessThanOrEqual(columns);
    }
    expect(draw(picture, 79).join("\n")).toContain("its sitter is dead");
    expect(draw(picture, 200).join("\n")).toContain("12,345 writes acknowledged, longest gap 1,800 ms");
    expect(draw({ ...picture, reports: whole }, 200).join("\n")).toContain("1 kB");
  });
});
