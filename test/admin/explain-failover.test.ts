import { describe, expect, it } from "vitest";
import type { JournalEntry } from "../../src/status/report.ts";
import { document, NOW, peer, ShardFixture } from "./fixture.ts";

/** That many milliseconds after the first sign. */
function at(ms: number, message: string, fields: Readonly<Record<string, unknown>>): JournalEntry {
  return { wallMs: NOW + ms, message, fields };
}

const AFTER = {
  generation: 4,
  primary: peer("b"),
  sync: peer("c"),
  async: [],
  deposed: [peer("a")],
  rule: "T1",
  reason: "the primary a is gone",
};

async function shardAfterTakeover(): Promise<ShardFixture> {
  const shard = await new ShardFixture().prepare([document(), document(AFTER)]);
  shard.journals["b"] = [
    at(-9_000, "evidence about a peer", { peer: peer("a").id, sitter: "silent" }),
    at(-8_000, "evidence about a peer", { peer: peer("a").id, sitter: "answers" }),
    at(-7_000, "decision", { rule: "RESUME", because: "this peer is sync" }),
    at(0, "evidence about a peer", { peer: peer("a").id, sitter: "refused" }),
    at(100, "decision", {
      rule: "T1",
      because: "the primary a refuses on both its ports",
      waitingOn: "receiving to stop",
    }),
    at(150, "decision", { rule: "T1", because: "the primary a refuses on both its ports", action: "write" }),
    at(170, "state read", { generation: 4, role: "primary", provisional: true }),
    at(200, "decision", { rule: "T1", because: "the state names this peer primary", action: "promote" }),
    at(500, "PostgreSQL", { is: "primary", gate: "closed" }),
    at(550, "state read", { generation: 4, role: "primary" }),
    at(610, "PostgreSQL", { is: "primary", gate: "open" }),
    at(90_000, "decision", { rule: "A1", because: "long after" }),
  ];
  shard.journals["c"] = [at(90, "decision", { rule: "RESUME", because: "this peer is async" })];
  return shard;
}

describe("explain-failover", () => {
  it("says who took over, why, and where the time went", async () => {
    const { status, out, err } = await (await shardAfterTakeover()).adm("explain-failover");
    expect(status).toBe(0);
    const lines = out.split("\n");
    expect(lines[0]).toMatch(/^Generation 4, .*: bbbbbbbb took over from aaaaaaaa\.$/);
    expect(lines[1]).toBe("T1: the primary a is gone");
    expect(lines.filter((line) => / ms /.test(line)).map((line) => Number.parseInt(line, 10))).toEqual([
      100, 50, 20, 330, 50, 60, 610,
    ]);
    expect(lines.at(-1)).toContain("Longest: until PostgreSQL was promoted. What makes it shorter: replay that lags");
    expect(err).toContain("warning: aaaaaaaa's sitter did not tell its journal");
  });

  it("tells with -v what each peer saw, in order, around the takeover only", async () => {
    const { out } = await (await shardAfterTakeover()).adm("explain-failover", "-v", "4");
    const events = out.split("\n").filter((line) => / s {2}/.test(line));
    expect(events[0]).toContain("+0.000 s  bbbbbbbb  evidence about a peer");
    expect(events[1]).toContain("+0.090 s  cccccccc  RESUME  this peer is async");
    expect(events[2]).toContain(
      "+0.100 s  bbbbbbbb  T1  the primary a refuses on both its ports; waits for receiving to stop",
    );
    expect(out).not.toContain("long after");
  });

  it("gives all of it as JSON", async () => {
    const { out } = await (await shardAfterTakeover()).adm("explain-failover", "-j");
    expect(JSON.parse(out)).toMatchObject({
      generation: 4,
      from: peer("a").id,
      to: peer("b").id,
      rule: "T1",
      phases: [{ ms: 100 }, { ms: 50 }, { ms: 20 }, { ms: 330 }, { ms: 50 }, { ms: 60 }],
      notAsked: [peer("a").id],
    });
  });

  it("says so where the journal does not reach back", async () => {
    const shard = await shardAfterTakeover();
    shard.journals["b"] = [];
    const { status, out, err } = await shard.adm("explain-failover");
    expect(out).toContain("took over from");
    expect(out).not.toContain(" ms ");
    expect(err).toContain("does not reach back");
    expect(status).toBe(0);
  });

  it("lists the generations that there are to explain", async () => {
    const shard = await shardAfterTakeover();
    const { status, err } = await shard.adm("explain-failover", "3");
    expect(err).toContain("generation 3 did not begin with another primary");
    expect(err).toContain("Generations that did: 4. (ADMIN_NO_FAILOVER)");
    expect(status).toBe(1);
    expect((await shard.adm("explain-failover", "last")).status).toBe(2);
    expect((await (await new ShardFixture().prepare()).adm("explain-failover")).err).toContain(
      "the primary never changed",
    );
  });
});
