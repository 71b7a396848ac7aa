import { describe, expect, it } from "vitest";
import { document, NOW, peer, report, row, ShardFixture, wellReports } from "./fixture.ts";

function lines(text: string): string[] {
  return text.split("\n");
}

describe("peers", () => {
  it("prints role, name and address, each column of its fixed width", async () => {
    const shard = await new ShardFixture().prepare();
    const { status, out } = await shard.adm("peers");
    expect(status).toBe(0);
    expect(lines(out)).toEqual([
      "ROLE     PEERNAME                             IP             ",
      "primary  aaaaaaaa-0000-4000-8000-000000000001 10.0.0.1       ",
      "sync     bbbbbbbb-0000-4000-8000-000000000002 10.0.0.2       ",
      "async    cccccccc-0000-4000-8000-000000000003 10.0.0.3       ",
    ]);
  });

  it("takes columns by repeated options and by lists, without a header, of one role", async () => {
    const shard = await new ShardFixture().prepare([document({ deposed: [peer("d")] })]);
    expect((await shard.adm("peers", "-H", "-o", "peerabbr,role", "-o", "ip")).out).toBe(
      [
        "aaaaaaaa primary  10.0.0.1       ",
        "bbbbbbbb sync     10.0.0.2       ",
        "cccccccc async    10.0.0.3       ",
        "dddddddd deposed  10.0.0.4       ",
      ].join("\n"),
    );
    expect((await shard.adm("peers", "-H", "-o", "ip", "-r", "deposed")).out).toBe("10.0.0.4       ");
  });

  it("prints JSON", async () => {
    const shard = await new ShardFixture().prepare();
    const { out } = await shard.adm("peers", "-o", "json", "-r", "sync");
    expect(JSON.parse(out)).toEqual([
      { peername: peer("b").zoneId, peerabbr: "bbbbbbbb", role: "sync", ip: "10.0.0.2" },
    ]);
  });

  it("exits with 1 where there is no state, and says what to do", async () => {
    const shard = await new ShardFixture().prepare([], []);
    const { status, err } = await shard.adm("peers");
    expect(status).toBe(1);
    expect(err).toContain("no state document for shard /manatee/1");
    expect(err).toContain("STATE_ABSENT");
  });
});

describe("pg-status", () => {
  it("prints the chain's replication as the original does", async () => {
    const shard = await new ShardFixture().prepare();
    const { status, out, err } = await shard.adm("pg-status");
    expect(status).toBe(0);
    expect(lines(out)).toEqual([
      "ROLE     PEER     PG   REPL  SENT       FLUSH      REPLAY     LAG   ",
      "primary  aaaaaaaa ok   sync  0/79E8E0A0 0/79E8E0A0 0/79E8DCA0 -     ",
      "sync     bbbbbbbb ok   async 0/79E8E0A0 0/79E8E0A0 0/79E8DCA0 -     ",
      "async    cccccccc ok   -     -          -          -          0m00s ",
    ]);
    expect(err).toBe("");
  });

  it("picks the row of the next peer, whatever else receives from the same server", async () => {
    const reports = wellReports();
    reports["a"] = report("a", "primary", {
      postgres: {
        replication: [
          row("c", { application_name: "pg_receivewal", flush_location: null }),
          row("b", { sync_state: "sync", flush_location: "0/99" }),
        ],
      },
    });
    const shard = await new ShardFixture(reports).prepare();
    expect((await shard.adm("pg-status", "-H", "-r", "primary", "-o", "pg-repl,pg-flush")).out).toBe(
      "sync  0/99      ",
    );
  });

  it("says what can't be asked, on the standard error output, and shows the lag of asyncs in minutes", async () => {
    const reports = wellReports();
    delete reports["a"];
    reports["c"] = report("c", "async", { postgres: { lagSeconds: 93.7 } });
    const shard = await new ShardFixture(reports).prepare(undefined, ["b", "c"]);
    shard.ports["a"] = "refused";
    const { out, err } = await shard.adm("pg-status");
    expect(lines(out)[1]).toBe("primary  aaaaaaaa fail -     -          -          -          -     ");
    expect(lines(out)[3]).toBe("async    cccccccc ok   -     -          -          -          1m33s ");
    expect(err).toContain(
      'error: cannot query postgres on primary: peer "aaaaaaaa": its sitter refuses the connection; its PostgreSQL\'s port refuses',
    );
    expect(err).toContain('warning: peer "cccccccc" (async) is 94 s behind');
  });

  it("repeats with a period as often as asked", async () => {
    const shard = await new ShardFixture().prepare();
    const { out } = await shard.adm("pg-status", "-H", "-r", "sync", "-o", "role", "0.01", "3");
    expect(lines(out)).toEqual(["sync    ", "sync    ", "sync    "]);
  });

  it("-w shows whole names", async () => {
    const shard = await new ShardFixture().prepare();
    expect(lines((await shard.adm("pg-status", "-w")).out)[1]).toMatch(
      /^primary {2}aaaaaaaa-0000-4000-8000-000000000001 ok /,
    );
  });

  it("prints JSON with null for what is not there", async () => {
    const shard = await new ShardFixture().prepare();
    const rows = JSON.parse((await shard.adm("pg-status", "-o", "json")).out) as Record<string, unknown>[];
    expect(rows[2]).toMatchObject({ role: "async", "pg-online": "ok", "pg-repl": null, "pg-lag": "0m00s" });
  });
});

describe("verify", () => {
  it("says nothing and exits with 0 where all is well; -v says so", async () => {
    const shard = await new ShardFixture().prepare();
    expect(await shard.adm("verify")).toEqual({ status: 0, out: "", err: "" });
    expect(await shard.adm("verify", "-v")).toEqual({ status: 0, out: "shard 1: no problems found", err: "" });
  });

  it("prints a problem a line, with what to do, and exits with 1", async () => {
    const shard = await new ShardFixture().prepare([
      document({ deposed: [peer("d")], freeze: { date: "2026-03-01T11:00:00.000Z", reason: "moving racks" } }),
    ]);
    const { status, out } = await shard.adm("verify");
    expect(status).toBe(1);
    expect(lines(out)).toEqual([
      "warning: the shard is frozen since 2026-03-01T11:00:00.000Z: moving racks; nobody takes over (run manatee-adm unfreeze when the work is done)",
      'warning: peer "dddddddd" is deposed (start its sitter, or, if the peer is gone for good, run manatee-adm reap)',
    ]);
  });

  it("warns, by what a sitter tells, where there is no room for another fork (I5)", async () => {
    const shard = await new ShardFixture().prepare();
    shard.reports["c"] = report("c", "async", { forksKeptMax: 2, postgres: { forksKept: 1 } });
    expect((await shard.adm("verify")).status).toBe(0);
    shard.reports["c"] = report("c", "async", { forksKeptMax: 2, postgres: { forksKept: 2 } });
    const { status, out } = await shard.adm("verify");
    expect(out).toContain('warning: peer "cccccccc" keeps 2 forks of former WAL, and policy.forksKeptMax is 2');
    expect(status).toBe(1);
  });

  it("prints JSON", async () => {
    const shard = await new ShardFixture().prepare([document({ async: [] })], ["a", "b"]);
    const found = JSON.parse((await shard.adm("verify", "-o", "json")).out) as unknown;
    expect(found).toEqual([
      {
        severity: "warning",
        rule: "T1",
        peer: null,
        message: "there is no async: if a peer is lost, writes stop until one is back",
        remedy: "start a third peer",
      },
    ]);
  });

  it("tells a lost document with data from a shard that was never founded (B1)", async () => {
    const lost = await new ShardFixture().prepare([], ["a", "b"]);
    expect((await lost.adm("verify")).out).toContain("manatee-adm state restore");
    const never = await new ShardFixture({}).prepare([], []);
    expect((await never.adm("verify")).out).toContain("there is no state document and no peer");
  });
});

describe("show", () => {
  it("prints the shard, its peers and its problems", async () => {
    const shard = await new ShardFixture().prepare([
      document({ freeze: { date: "2026-03-01T11:00:00.000Z", reason: "moving racks" } }),
    ]);
    const { status, out } = await shard.adm("show", "-v");
    expect(status).toBe(0);
    expect(out).toMatchInlineSnapshot(`
      "zookeeper:   10.0.0.9:2181
      cluster:     1
      generation:  3 (0/174C4C8)
      mode:        normal
      freeze:      frozen since 2026-03-01T11:00:00.000Z
      freeze info: moving racks

      ROLE     PEERNAME                             IP             
      primary  aaaaaaaa-0000-4000-8000-000000000001 10.0.0.1       
      sync     bbbbbbbb-0000-4000-8000-000000000002 10.0.0.2       
      async    cccccccc-0000-4000-8000-000000000003 10.0.0.3       

      ROLE     PEER     PG   REPL  SENT       FLUSH      REPLAY     LAG   
      primary  aaaaaaaa ok   sync  0/79E8E0A0 0/79E8E0A0 0/79E8DCA0 -     
      sync     bbbbbbbb ok   async 0/79E8E0A0 0/79E8E0A0 0/79E8DCA0 -     
      async    cccccccc ok   -     -          -          -          0m00s 

      warning: the shard is frozen since 2026-03-01T11:00:00.000Z: moving racks; nobody takes over (run manatee-adm unfreeze when the work is done)"
    `);
  });

  it("shows one-node-write mode, and exits with 1 without a state", async () => {
    const alone = await new ShardFixture().prepare(
      [document({ sync: null, async: [], oneNodeWriteMode: true })],
      ["a"],
    );
    expect((await alone.adm("show")).out).toContain("mode:        singleton (one-node-write)\nfreeze:      not frozen");
    const none = await new ShardFixture({}).prepare([], []);
    expect((await none.adm("show")).status).toBe(1);
  });

  it("prints JSON", async () => {
    const shard = await new ShardFixture().prepare();
    expect(JSON.parse((await shard.adm("show", "-o", "json")).out)).toMatchObject({
      cluster: "1",
      generation: 3,
      initWal: "0/174C4C8",
      mode: "normal",
      freeze: null,
      problems: [],
      peers: [{ role: "primary" }, { role: "sync" }, { role: "async" }],
    });
  });
});

describe("history", () => {
  const first = document({
    generation: 2,
    primary: peer("b"),
    sync: peer("a"),
    async: [],
    rule: "B1",
    reason: "the shard is founded",
    written: { by: "x", version: 1 },
  });
  const second = document({
    generation: 3,
    deposed: [peer("b")],
    sync: peer("c"),
    async: [],
    rule: "T1",
    reason: "the primary is gone",
    written: { by: "x", version: 2 },
  });
  const third = document({
    generation: 3,
    rule: "A1",
    reason: "bbbbbbbb has rejoined",
    sync: peer("c"),
    async: [peer("b")],
    written: { by: "x", version: 3 },
  });

  async function shardWithHistory(): Promise<ShardFixture> {
    return new ShardFixture().prepare([first, second, third]);
  }

  /** Written while the store's clock was put back: the last entry bears the earliest time. */
  async function shardWithClockPutBack(): Promise<ShardFixture> {
    const shard = new ShardFixture();
    shard.storeWallMs = NOW;
    await shard.prepare([first]);
    shard.storeWallMs = NOW + 60_000;
    await shard.put(second, 1);
    shard.storeWallMs = NOW - 3_600_000;
    await shard.put(third, 2);
    return shard;
  }

  it("stands in the store's order, or with --sort time by its clock; each entry tells the same in both", async () => {
    const shard = await shardWithClockPutBack();
    const inOrder = ["2026-03-01T12:00:00.000Z", "2026-03-01T12:01:00.000Z", "2026-03-01T11:00:00.000Z"];
    const byTime = [inOrder[2], inOrder[0], inOrder[1]];
    const read = async (...args: readonly string[]) => {
      const { out } = await shard.adm("history", "-o", "json", ...args);
      return JSON.parse(out) as { time: string; summary: string }[];
    };
    const timesOf = (entries: readonly { time: string }[]) => entries.map(({ time }) => time);
    const sequence = await read();
    expect(timesOf(sequence)).toEqual(inOrder);
    expect(timesOf(await read("--sort", "zkSeq"))).toEqual(inOrder);
    const sorted = await read("--sort", "time");
    expect(timesOf(sorted)).toEqual(byTime);
    expect(sorted).toEqual([sequence[2], sequence[0], sequence[1]]);
    const jsonLines = lines((await shard.adm("history", "-j", "--sort", "time")).out);
    expect(jsonLines.map((line) => (JSON.parse(line) as { time: string }).time)).toEqual(byTime);
    const table = lines((await shard.adm("history", "--sort", "time")).out).slice(1);
    expect(table.map((line) => line.split(" ")[0])).toEqual(byTime);
  });

  it("prints who was what, in the store's order", async () => {
    const { out } = await (await shardWithHistory()).adm("history");
    expect(lines(out).map((line) => line.replace(/^\d{4}-\S+Z/, "TIME".padEnd(24)))).toEqual([
      "TIME                     G# MODE  FRZ PRIMARY  SYNC     ASYNC    DEPOSED ",
      "TIME                      2 multi -   bbbbbbbb aaaaaaaa -        -       ",
      "TIME                      3 multi -   aaaaaaaa cccccccc -        bbbbbbbb",
      "TIME                      3 multi -   aaaaaaaa cccccccc bbbbbbbb -       ",
    ]);
  });

  it("-v tells what changed, by which rule and why", async () => {
    const { out } = await (await shardWithHistory()).adm("history", "-v");
    expect(lines(out).map((line) => line.slice(74))).toEqual([
      "SUMMARY",
      "shard set up for normal (multi-peer) mode [B1: the shard is founded]",
      "sync (aaaaaaaa) took over as primary (from bbbbbbbb) [T1: the primary is gone]",
      'async "bbbbbbbb" added, "bbbbbbbb" no longer deposed [A1: bbbbbbbb has rejoined]',
    ]);
  });

  it("gives no rule for a change that a program of the original made", async () => {
    const shard = await new ShardFixture().prepare([
      document(),
      document({ freeze: { date: "2026-03-01T11:00:00.000Z", reason: "x" } }),
    ]);
    expect(lines((await shard.adm("history", "-v")).out)[2]?.slice(74)).toBe("shard frozen: x");
  });

  it("-j prints a line of JSON each: time, state, zkSeq", async () => {
    const { out } = await (await shardWithHistory()).adm("history", "-j");
    const entries = lines(out).map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(entries.map(({ zkSeq }) => zkSeq)).toEqual([0, 1, 2]);
    expect(entries[0]).toMatchObject({
      state: { generation: 2 },
      time: expect.stringMatching(/^\d{4}-.*Z$/) as string,
    });
  });
});

describe("the developers' commands", () => {
  it("zk-state and state print the document as it stands", async () => {
    const shard = await new ShardFixture().prepare([document({ later: { x: 1 } })]);
    const { out } = await shard.adm("zk-state");
    expect(JSON.parse(out)).toEqual(JSON.parse(JSON.stringify(document({ later: { x: 1 } }))));
    expect((await shard.adm("state")).out).toBe(out);
  });

  it("zk-active and active print the election in its order", async () => {
    const shard = await new ShardFixture().prepare(undefined, ["b", "a"]);
    const nodes = JSON.parse((await shard.adm("zk-active")).out) as { id: string; pgUrl: string }[];
    expect(nodes.map(({ id }) => id)).toEqual([peer("b").id, peer("a").id]);
    expect(nodes[0]?.pgUrl).toBe(peer("b").pgUrl);
    expect((await shard.adm("active")).status).toBe(0);
  });

  it("check-lock exits with 1 if the node exists", async () => {
    const shard = await new ShardFixture().prepare();
    expect((await shard.adm("check-lock", "-p", "/manatee/1/state")).status).toBe(1);
    expect((await shard.adm("check-lock", "-p", "/manatee/2")).status).toBe(0);
  });

  it("version prints the package's", async () => {
    expect(await new ShardFixture().adm("version")).toEqual({ status: 0, out: "1.2.3", err: "" });
  });

  it("status prints JSON by shard, with the mark of a frozen one", async () => {
    const shard = await new ShardFixture().prepare([
      document({ freeze: { date: "2026-03-01T11:00:00.000Z", reason: "x" } }),
    ]);
    shard.env = { ZK_IPS: "10.0.0.9" };
    const all = JSON.parse((await shard.adm("status")).out) as Record<string, Record<string, unknown>>;
    expect(Object.keys(all)).toEqual(["1"]);
    expect(all["1"]).toMatchObject({
      primary: { online: true, repl: { sync_state: "sync" } },
      async: { online: true, lag: { time_lag: { seconds: 0 } } },
      __FROZEN__: { reason: "x" },
    });
  });
});

describe("manatee-stat", () => {
  it("prints peers by role, their replication, and what could not be asked", async () => {
    const reports = wellReports();
    delete reports["c"];
    const shard = await new ShardFixture(reports).prepare([document({ async: [peer("c"), peer("d")], deposed: [] })]);
    const json = JSON.parse((await shard.stat()).out) as Record<string, Record<string, Record<string, unknown>>>;
    expect(Object.keys(json["1"] ?? {})).toEqual(["primary", "sync", "async", "async1"]);
    expect(json["1"]?.["primary"]).toMatchObject({
      zoneId: peer("a").zoneId,
      ip: "10.0.0.1",
      pgUrl: peer("a").pgUrl,
      repl: { application_name: peer("b").pgUrl, sent_location: "0/79E8E0A0" },
    });
    expect(json["1"]?.["async"]).toMatchObject({
      repl: {},
      error: "the sitter doesn't answer; PostgreSQL's port: silent",
    });
  });

  it("-s prints the shard's object alone, with the registrar node of its reversed name", async () => {
    const shard = await new ShardFixture().prepare();
    const session = shard.session("sitters");
    const node = new TextEncoder().encode('{"type":"database","database":{"primary":"tcp://x","ttl":60}}');
    await session.write([
      { kind: "create", path: "/1", data: new Uint8Array() },
      { kind: "create", path: "/1/pg", data: node, ephemeral: true },
    ]);
    const json = JSON.parse((await shard.stat("-p", "-s", "1", "10.0.0.9:2181")).out) as Record<string, unknown>;
    expect(json["registrar"]).toEqual({ type: "database", database: { primary: "tcp://x", ttl: 60 } });
    expect(Object.keys(json)).toEqual(["primary", "sync", "async", "registrar"]);
  });
});
