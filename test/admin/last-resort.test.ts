import { describe, expect, it } from "vitest";
import { document, peer, report, ShardFixture, SYSTEM } from "./fixture.ts";

describe("takeover --accept-loss (O2)", () => {
  /** Primary and sync are gone; c and d are left, d behind c. */
  async function bereft(): Promise<ShardFixture> {
    const reports = {
      c: report("c", "async", { postgres: { walEnd: "0/5000000", lineage: "1@0/174C4C8,2" } }),
      d: report("d", "async", { postgres: { walEnd: "0/4000000", lineage: "1@0/174C4C8,2" } }),
    };
    return new ShardFixture(reports).prepare([document({ async: [peer("c"), peer("d")] })], ["c", "d"]);
  }

  function open(shard: ShardFixture, name: string): void {
    shard.onAsk = async () => {
      const { json, version } = shard.current();
      if (json["provisional"] !== true) return;
      shard.reports[name] = report(name, "primary", { generation: 4 });
      await shard
        .put(
          { ...json, provisional: false, initTimeline: json["timeline"], written: { by: "x", version: version + 1 } },
          version,
        )
        .catch(() => undefined);
    };
  }

  it("shows where everybody stands, says what may be lost, and writes the claim of whoever is farthest", async () => {
    const shard = await bereft();
    open(shard, "c");
    const { status, out, err } = await shard.adm("takeover", "--accept-loss", "-y");
    expect(out).toContain("async    cccccccc answers  standby      inc-c                0/5000000    1@0/174C4C8,2");
    expect(err).toContain('"cccccccc" takes over at 0/5000000 on timeline 2, with "dddddddd" as its sync.');
    expect(err).toContain('May be lost: every commit that "aaaaaaaa" and "bbbbbbbb" confirmed behind that position.');
    expect(err).toContain('How far "aaaaaaaa" is, nobody can say');
    expect(status).toBe(0);
    const claim = shard.store.children("/manatee/1/history")?.find((name) => name.startsWith("4-"));
    const written = JSON.parse(
      new TextDecoder().decode(shard.store.peek(`/manatee/1/history/${claim ?? ""}`)?.data),
    ) as Record<string, unknown>;
    expect(written).toMatchObject({
      generation: 4,
      primary: { id: peer("c").id, incarnation: "inc-c" },
      sync: { id: peer("d").id, incarnation: "inc-d" },
      async: [],
      deposed: [{ id: peer("a").id }, { id: peer("b").id }],
      initWal: "0/5000000",
      initTimeline: 2,
      provisional: true,
      timeline: 3,
      highestTimeline: 3,
      systemIdentifier: SYSTEM,
      rule: "O2",
      reason: "forced by an operator, accepting loss: 10.0.0.3:5432:12345 takes over at 0/5000000 on timeline 2",
    });
  });

  it("takes whom the operator names, alone where nobody can follow", async () => {
    const shard = await bereft();
    const { status, out, err } = await shard.adm("takeover", "--accept-loss", "-n", "dddddddd", "--dry-run");
    expect(status).toBe(0);
    expect(err).toContain('"dddddddd" takes over at 0/4000000 on timeline 2, alone');
    expect(JSON.parse(out.slice(out.indexOf("\n{") + 1))).toMatchObject({
      primary: { id: peer("d").id },
      sync: null,
      oneNodeWriteMode: true,
      async: [{ id: peer("c").id }],
    });
    expect(shard.current().version).toBe(1);
  });

  it("makes a document of the original its own, with rule and reason", async () => {
    const shard = await bereft();
    const plain = (name: string) => {
      const { incarnation: _, ...rest } = peer(name);
      return rest;
    };
    const original = {
      generation: 3,
      primary: plain("a"),
      sync: plain("b"),
      async: [plain("c"), plain("d")],
      deposed: [],
      initWal: "0/1",
    };
    await shard.put(original, 1);
    const { out } = await shard.adm("takeover", "--accept-loss", "--dry-run");
    expect(JSON.parse(out.slice(out.indexOf("\n{") + 1))).toMatchObject({
      rule: "O2",
      requires: ["incarnations"],
      systemIdentifier: SYSTEM,
      primary: { incarnation: "inc-c" },
    });
  });

  it("is refused while primary and sync both run, and could acknowledge what would be lost", async () => {
    const shard = await bereft();
    shard.ports["a"] = "open";
    shard.ports["b"] = "open";
    const { status, err } = await shard.adm("takeover", "--accept-loss", "-y");
    expect(status).toBe(1);
    expect(err).toContain('primary "aaaaaaaa" and sync "bbbbbbbb" still run');
    expect(err).toContain("(ADMIN_TAKEOVER_REFUSED)");
    expect(shard.current().version).toBe(1);
  });

  it("never names a peer of another database, or one whose position is not known", async () => {
    const shard = await bereft();
    shard.reports["c"] = report("c", "async", { systemIdentifier: "1" });
    shard.reports["d"] = report("d", "async", { postgres: { walEnd: null } });
    const { status, err } = await shard.adm("takeover", "--accept-loss", "-y");
    expect(status).toBe(1);
    expect(err).toContain("no reachable peer says that it holds this shard's data");
    expect(err).toContain("(ADMIN_TAKEOVER_REFUSED)");
  });

  it("goes not without --accept-loss, nor unasked", async () => {
    const shard = await bereft();
    expect(await shard.adm("takeover")).toMatchObject({
      status: 2,
      err: expect.stringContaining("option is required: --accept-loss") as string,
    });
    expect(await shard.adm("takeover", "--accept-loss")).toMatchObject({
      status: 2,
      err: expect.stringContaining("option is required: --yes") as string,
    });
    expect(shard.current().version).toBe(1);
  });
});

describe("state restore (B1)", () => {
  const kept = (name: string, generation: number, version: number) =>
    report(name, null, {
      generation: null,
      version: null,
      lastDocument: { version, json: JSON.stringify(document({ generation, written: { by: "x", version } })) },
      postgres: { walEnd: "0/5000000" },
    });

  it("shows the last document of each peer, and writes the chosen one with a generation above all that is known", async () => {
    const shard = await new ShardFixture({ a: kept("a", 7, 21), b: kept("b", 6, 18) }).prepare([], ["a", "b"]);
    shard.onAsk = () => {
      if (shard.store.peek("/manatee/1/state") !== undefined)
        shard.reports["a"] = report("a", "primary", { generation: 8 });
    };
    const { status, out, err } = await shard.adm("state", "restore", "-n", "aaaaaaaa", "-y");
    expect(out.split("\n").slice(0, 3)).toEqual([
      "DOCUMENT       G# VERSION PRIMARY  SYNC     POSITION     TIMELINE       FROM      ",
      "aaaaaaaa        7      21 aaaaaaaa bbbbbbbb 0/5000000    1@0/174C4C8,2  10.0.0.1:5432:12345",
      "bbbbbbbb        6      18 aaaaaaaa bbbbbbbb 0/5000000    1@0/174C4C8,2  10.0.0.2:5432:12345",
    ]);
    expect(err).toContain("Writes the document of aaaaaaaa as generation 8");
    expect(status).toBe(0);
    expect(shard.current()).toMatchObject({
      version: 22,
      json: {
        generation: 8,
        rule: "B1",
        reason: "restored by an operator from aaaaaaaa (generation 7)",
        primary: { id: peer("a").id, incarnation: "inc-a" },
      },
    });
  });

  it("replaces a document that can't be read, here by one of the history", async () => {
    const broken = { ...document({ generation: 9 }), requires: undefined };
    const shard = await new ShardFixture().prepare([document({ generation: 5 }), JSON.stringify(broken)]);
    const { status, err } = await shard.adm("state", "restore", "--history", "0", "-y");
    expect(err).toContain("Writes the document of history 0 as generation 10");
    expect(shard.current()).toMatchObject({ version: 3, json: { generation: 10, requires: ["incarnations"] } });
    expect(status).toBe(0);
  });

  it("lets an operator choose on a terminal, the newest by default", async () => {
    const shard = await new ShardFixture({ a: kept("a", 7, 21), b: kept("b", 6, 18) }).prepare([], ["a", "b"]);
    shard.interactive = true;
    shard.answers = ["", "no"];
    const { status } = await shard.adm("state", "restore");
    expect(shard.questions).toEqual(["Which document? [aaaaaaaa] ", "Go ahead? (yes/no) "]);
    expect(status).toBe(1);
    expect(shard.store.peek("/manatee/1/state")).toBeUndefined();
  });

  it("refuses while there is a document that can be read", async () => {
    const shard = await new ShardFixture().prepare();
    const { status, err } = await shard.adm("state", "restore", "-n", "aaaaaaaa", "-y");
    expect(status).toBe(1);
    expect(err).toContain("there is a state document, of generation 3, and it can be read");
    expect(err).toContain("(ADMIN_RESTORE_REFUSED)");
  });

  it("replaces a document that is older than one that a peer has seen", async () => {
    const older = document({ generation: 5 });
    const shard = await new ShardFixture({ a: kept("a", 7, 21), b: kept("b", 6, 18) }).prepare([older], ["a", "b"]);
    const { status, err } = await shard.adm("state", "restore", "-n", "aaaaaaaa", "-y", "--timeout", "1");
    expect(err).toContain("Writes the document of aaaaaaaa as generation 8");
    expect(shard.current()).toMatchObject({ json: { generation: 8, rule: "B1" } });
    expect(shard.current().version).toBeGreaterThan(21);
    expect(status).toBe(1);
  });

  it("needs to be told which, where nobody can be asked", async () => {
    const shard = await new ShardFixture({ a: kept("a", 7, 21) }).prepare([], ["a"]);
    expect(await shard.adm("state", "restore", "-y")).toMatchObject({ status: 2 });
    const { status, err } = await shard.adm("state", "restore", "-n", "bbbbbbbb", "-y");
    expect(status).toBe(1);
    expect(err).toContain("bbbbbbbb has no document that can be read");
    expect(err).toContain("(ADMIN_NO_DOCUMENT)");
  });

  it("writes no document that breaks a rule, whoever kept it", async () => {
    const twice = { ...peer("c"), pgUrl: peer("b").pgUrl };
    const json = JSON.stringify(document({ async: [twice], written: { by: "x", version: 21 } }));
    const a = report("a", null, { generation: null, version: null, lastDocument: { version: 21, json } });
    const shard = await new ShardFixture({ a }).prepare([], ["a"]);
    const { status, err } = await shard.adm("state", "restore", "-n", "aaaaaaaa", "-y");
    expect(status).toBe(1);
    expect(err).toContain(`the document would break a rule: several peers have the pgUrl ${peer("b").pgUrl}`);
    expect(err).toContain("(ADMIN_CHANGE_REFUSED)");
    expect(shard.store.peek("/manatee/1/state")).toBeUndefined();
  });

  it("writes nothing over a document that came meanwhile", async () => {
    const shard = await new ShardFixture({ a: kept("a", 7, 21) }).prepare([], ["a"]);
    shard.onWrite = () => shard.put(document({ generation: 9 }), undefined);
    const { status, err } = await shard.adm("state", "restore", "-n", "aaaaaaaa", "-y");
    expect(status).toBe(1);
    expect(err).toContain("the store refuses the write: node-exists");
    expect(err).toContain("(ADMIN_WRITE_CONFLICT)");
    expect(shard.current()).toMatchObject({ version: 1, json: { generation: 9 } });
  });
});
