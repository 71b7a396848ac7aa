import { describe, expect, it } from "vitest";
import { document, NOW, peer, report, ShardFixture, wellReports } from "./fixture.ts";

describe("freeze and unfreeze (F1)", () => {
  it("writes date and reason in the form of the original, with rule, reason, author and history", async () => {
    const shard = await new ShardFixture().prepare();
    expect(await shard.adm("freeze", "-r", "moving racks")).toMatchObject({ status: 0, out: "Frozen." });
    const { json, version } = shard.current();
    expect(json).toMatchObject({
      generation: 3,
      freeze: { date: "2026-03-01T12:00:00.000Z", reason: "moving racks" },
      rule: "F1",
      reason: "frozen by an operator: moving racks",
      written: { by: "manatee-adm of root on host1", version: 2 },
    });
    expect(version).toBe(2);
    expect(shard.store.children("/manatee/1/history")).toHaveLength(2);
    expect(await shard.adm("freeze", "-r", "again")).toMatchObject({ status: 0, out: "Frozen already: moving racks." });
    expect(await shard.adm("unfreeze")).toMatchObject({ status: 0, out: "Unfrozen." });
    expect(shard.current().json).not.toHaveProperty("freeze");
    expect(await shard.adm("unfreeze", "-r", "done")).toMatchObject({ status: 0, out: "Not frozen." });
  });

  it("says that one-node-write mode stays frozen after it (O1)", async () => {
    const shard = await new ShardFixture().prepare([
      document({ sync: null, async: [], oneNodeWriteMode: true, freeze: { date: "D", reason: "R" } }),
    ]);
    const { status, err } = await shard.adm("unfreeze");
    expect(status).toBe(0);
    expect(err).toContain("manatee-adm set-onwm -m off ends both");
  });

  it("asks on a terminal, and changes nothing without a yes", async () => {
    const shard = await new ShardFixture().prepare();
    shard.interactive = true;
    shard.answers = ["no"];
    expect(await shard.adm("freeze", "-r", "x")).toMatchObject({ status: 1, out: "" });
    expect(shard.current().version).toBe(1);
    shard.answers = ["yes"];
    expect((await shard.adm("freeze", "-r", "x")).out).toBe("Frozen.");
    expect(shard.questions).toEqual(["Go ahead? (yes/no) ", "Go ahead? (yes/no) "]);
  });

  it("--dry-run shows the document and writes nothing", async () => {
    const shard = await new ShardFixture().prepare();
    const { status, out } = await shard.adm("freeze", "-r", "x", "--dry-run");
    expect(status).toBe(0);
    expect(out).toContain('"reason": "frozen by an operator: x"');
    const shown = JSON.parse(out.slice(out.indexOf("{"))) as Record<string, unknown>;
    expect(shown["written"]).toEqual({ by: "manatee-adm of root on host1", version: 2 });
    expect(shard.current().version).toBe(1);
  });

  it("leaves a document of the original one of the original's", async () => {
    const plain = (name: string) => {
      const { incarnation: _, ...rest } = peer(name);
      return rest;
    };
    const original = { generation: 1, primary: plain("a"), sync: plain("b"), async: [], deposed: [], initWal: "0/1" };
    const shard = await new ShardFixture().prepare([original]);
    await shard.adm("freeze", "-r", "x");
    expect(shard.current().json).toEqual({ ...original, freeze: { date: "2026-03-01T12:00:00.000Z", reason: "x" } });
  });

  it("keeps fields that it doesn't know", async () => {
    const shard = await new ShardFixture().prepare([document({ later: { deep: [1, 2] } })]);
    await shard.adm("freeze", "-r", "x");
    expect(shard.current().json).toMatchObject({ later: { deep: [1, 2] } });
  });
});

describe("conflicts", () => {
  it("writes again where the write was lost", async () => {
    const shard = await new ShardFixture().prepare();
    shard.store.faultNextWrite("adm", "lost");
    const run = shard.adm("freeze", "-r", "x");
    expect(await run).toMatchObject({ status: 0, out: "Frozen." });
    expect(shard.current().version).toBe(2);
  });

  it("recognises its own write whose answer was lost", async () => {
    const shard = await new ShardFixture().prepare();
    shard.store.faultNextWrite("adm", "done");
    expect(await shard.adm("freeze", "-r", "x")).toMatchObject({ status: 0, out: "Frozen." });
    expect(shard.store.children("/manatee/1/history")).toHaveLength(2);
  });

  it("stops where the shard changed while somebody was asked", async () => {
    const shard = await new ShardFixture().prepare();
    shard.interactive = true;
    const takenOver = document({
      generation: 4,
      primary: peer("b"),
      sync: peer("c"),
      async: [],
      deposed: [peer("a")],
      timeline: 3,
      highestTimeline: 3,
      initTimeline: 3,
      rule: "T1",
      reason: "the primary is gone",
    });
    // The question is when the operator thinks; meanwhile the sync takes over.
    shard.answers = ["yes"];
    shard.onQuestion = () => shard.put(takenOver, 1);
    const { status, err } = await shard.adm("freeze", "-r", "x");
    expect(status).toBe(1);
    expect(err).toContain("the shard changed meanwhile: T1, the primary is gone (generation 3, now 4)");
    expect(err).toContain("(ADMIN_STATE_CHANGED)");
    expect(shard.current().json).not.toHaveProperty("freeze");
  });

  it("goes on where only the version was raised meanwhile", async () => {
    const shard = await new ShardFixture().prepare();
    shard.interactive = true;
    shard.answers = ["yes"];
    shard.onQuestion = () =>
      shard.put(document({ rule: "FENCE", reason: "the sitter started", written: { by: "x", version: 2 } }), 1);
    expect(await shard.adm("freeze", "-r", "x")).toMatchObject({ status: 0, out: "Frozen." });
    expect(shard.current().version).toBe(3);
  });

  it("gives up where somebody else is faster each time, and says who knows", async () => {
    const shard = await new ShardFixture().prepare();
    shard.onWrite = () => {
      const { version } = shard.current();
      return shard.put(
        document({ rule: "FENCE", reason: "again", written: { by: "x", version: version + 1 } }),
        version,
      );
    };
    const { status, err } = await shard.adm("freeze", "-r", "x");
    expect(status).toBe(1);
    expect(err).toContain("somebody else wrote the document each of 5 times");
    expect(err).toContain("manatee-adm history -v for who writes, then try again. (ADMIN_WRITE_CONFLICT)");
    expect(shard.current()).toMatchObject({ version: 6, json: { rule: "FENCE" } });
    expect(shard.current().json).not.toHaveProperty("freeze");
  });

  it("says what the store answers where it refuses the write itself", async () => {
    const shard = await new ShardFixture().prepare();
    await shard.remove("/manatee/1/history/3-0000000000", "/manatee/1/history");
    const { status, err } = await shard.adm("freeze", "-r", "x");
    expect(status).toBe(1);
    expect(err).toContain("the store refuses the write: no-parent");
    expect(err).toContain("(ADMIN_WRITE_REFUSED)");
    expect(shard.current().version).toBe(1);
  });
});

describe("promote (T3)", () => {
  const REFUSED = "ADMIN_PROMOTE_REFUSED";
  const switched = document({
    generation: 4,
    primary: peer("b"),
    sync: peer("a"),
    async: [peer("c")],
    timeline: 3,
    highestTimeline: 3,
    initTimeline: 3,
    rule: "T1",
    reason: "switchover",
  });

  it("writes the request as the original does, and waits until it is gone and the peer has another role", async () => {
    const shard = await new ShardFixture().prepare();
    let seen: unknown;
    shard.onAsk = async () => {
      const { json, version } = shard.current();
      if (json["promote"] === undefined) return;
      seen = json["promote"];
      await shard.put(switched, version).catch(() => undefined);
    };
    const { status, out } = await shard.adm("promote", "-n", peer("b").zoneId, "-r", "sync", "-y");
    expect(seen).toEqual({
      id: peer("b").id,
      role: "sync",
      generation: 3,
      expireTime: new Date(NOW + 30_000).toISOString(),
    });
    expect(out).toMatch(/^Done after \d+\.\d s: "bbbbbbbb" is primary, generation 4\.$/);
    expect(status).toBe(0);
  });

  it("gives the place of an async", async () => {
    const shard = await new ShardFixture().prepare();
    const { out } = await shard.adm("promote", "-n", "cccccccc", "-r", "async", "-i", "0", "--dry-run");
    expect(JSON.parse(out.slice(out.indexOf("{")))).toMatchObject({
      promote: { id: peer("c").id, role: "async", asyncIndex: 0 },
      rule: "T3",
    });
  });

  it("fails where the request was taken away and nothing changed, with the reason", async () => {
    const shard = await new ShardFixture().prepare();
    shard.onAsk = async () => {
      const { json, version } = shard.current();
      if (json["promote"] !== undefined)
        await shard.put(document({ rule: "T3", reason: "the sync lags too far" }), version).catch(() => undefined);
    };
    const { status, err } = await shard.adm("promote", "-n", "bbbbbbbb", "-r", "sync", "-y");
    expect(status).toBe(1);
    expect(err).toContain('the request was taken away, and "bbbbbbbb" is still sync: the sync lags too far');
    expect(err).toContain("(ADMIN_NOT_REACHED)");
  });

  it.each([
    [["-n", "bbbbbbbb", "-r", "sync"], { freeze: { date: "x", reason: "y" } }, REFUSED, "the shard is frozen"],
    [["-n", "bbbbbbbb", "-r", "sync"], { oneNodeWriteMode: true }, REFUSED, "one-node-write mode"],
    [["-n", "bbbbbbbb", "-r", "async", "-i", "0"], {}, REFUSED, 'peer "bbbbbbbb" is sync, not async'],
    [["-n", "cccccccc", "-r", "async", "-i", "1"], {}, REFUSED, 'peer "cccccccc" is async 0, not async 1'],
    [["-n", "aaaaaaaa", "-r", "sync"], {}, REFUSED, 'peer "aaaaaaaa" is primary, not sync'],
    [["-n", "bbbbbbbc", "-r", "sync"], {}, "ADMIN_UNKNOWN_PEER", "no peer of the shard is bbbbbbbc"],
  ])("refuses %j on %j", async (args, change, code, message) => {
    const shard = await new ShardFixture().prepare([document(change)]);
    const { status, err } = await shard.adm("promote", "-y", ...args);
    expect(status).toBe(1);
    expect(err).toContain(message);
    expect(err).toContain(`(${code})`);
    expect(shard.current().version).toBe(1);
  });

  it("shows problems and a large lag before it asks, and needs -y where nobody can be asked", async () => {
    const reports = wellReports();
    reports["b"] = report("b", "sync", { postgres: { lagSeconds: 75 } });
    const shard = await new ShardFixture(reports).prepare(undefined, ["a", "b"]);
    const { status, err } = await shard.adm("promote", "-n", "bbbbbbbb", "-r", "sync");
    expect(err).toContain('warning: "bbbbbbbb" is 1m15s behind, more than 0m05s');
    expect(err).toContain('warning: peer "cccccccc" (async) is not in the election');
    expect(err).toContain("option is required: --yes");
    expect(status).toBe(2);
    expect(shard.current().version).toBe(1);
  });

  it("clear-promote takes a request away, also one that is none", async () => {
    const shard = await new ShardFixture().prepare([document({ promote: { what: 1 } })]);
    expect(await shard.adm("clear-promote")).toMatchObject({ status: 0, out: "Cleared." });
    expect(shard.current().json).not.toHaveProperty("promote");
    expect((await shard.adm("clear-promote")).out).toBe("There is no request to promote.");
  });
});

describe("reap", () => {
  it("takes a deposed peer off the list, by name or by address", async () => {
    for (const args of [
      ["-n", "dddddddd"],
      ["-i", "10.0.0.4"],
    ]) {
      const shard = await new ShardFixture().prepare([document({ deposed: [peer("d")] })]);
      expect(await shard.adm("reap", ...args)).toMatchObject({ status: 0, out: `Reaped ${peer("d").zoneId}.` });
      expect(shard.current().json["deposed"]).toEqual([]);
    }
  });

  it("refuses a peer that is not deposed", async () => {
    const shard = await new ShardFixture().prepare();
    const { status, err } = await shard.adm("reap", "-n", "cccccccc");
    expect(status).toBe(1);
    expect(err).toContain('peer "cccccccc" is async, not deposed');
    expect(err).toContain("(ADMIN_NOT_DEPOSED)");
  });
});

describe("set-onwm (O1)", () => {
  it("writes the request beside a sync, and waits until the primary writes alone", async () => {
    const shard = await new ShardFixture().prepare();
    shard.onAsk = async () => {
      const { json, version } = shard.current();
      if (json["oneNodeWriteMode"] === true && json["sync"] !== null)
        await shard
          .put(document({ generation: 4, sync: null, oneNodeWriteMode: true, initWal: "0/2000000" }), version)
          .catch(() => undefined);
    };
    expect(await shard.adm("set-onwm", "-m", "on", "-y")).toMatchObject({
      status: 0,
      out: expect.stringContaining('"aaaaaaaa" writes alone, generation 4') as string,
    });
  });

  it("ends the mode without a sync, so that one is named", async () => {
    const shard = await new ShardFixture().prepare(
      [document({ sync: null, async: [], oneNodeWriteMode: true })],
      ["a"],
    );
    shard.onAsk = async () => {
      const { json, version } = shard.current();
      if (json["oneNodeWriteMode"] === undefined && json["sync"] === null)
        await shard.put(document({ generation: 4, async: [], initWal: "0/2000000" }), version).catch(() => undefined);
    };
    expect(await shard.adm("set-onwm", "-m", "off", "-y")).toMatchObject({
      status: 0,
      out: expect.stringContaining('"bbbbbbbb" is sync, generation 4') as string,
    });
  });
});

describe("rebuild (R1)", () => {
  const config = (name: string) =>
    JSON.stringify({
      ip: peer(name).ip,
      zoneId: peer(name).zoneId,
      shardPath: "/manatee/1",
      zkCfg: { connStr: "10.0.0.9" },
      postgres: { dataDir: "/data" },
    });

  it("leaves a request for the sitter, and waits until it has been carried out", async () => {
    const shard = await new ShardFixture({
      ...wellReports(),
      d: report("d", "deposed", { postgres: { job: { kind: "copy", forMs: 1, progress: "1.2 of 4.0 GB" } } }),
    }).prepare([document({ deposed: [peer("d")] })]);
    shard.files.set("/etc/d.json", config("d"));
    let request: string | undefined;
    let looks = 0;
    shard.onAsk = () => {
      request ??= shard.files.get("/data.manatee/rebuild.json");
      if (request !== undefined && ++looks > 1) shard.files.delete("/data.manatee/rebuild.json");
    };
    const { status, out, err } = await shard.adm("rebuild", "-c", "/etc/d.json", "-y");
    expect(JSON.parse(request ?? "null")).toEqual({
      requestedAt: "2026-03-01T12:00:00.000Z",
      by: "manatee-adm of root on host1",
    });
    expect(err).toContain("copy 1.2 of 4.0 GB");
    expect(out).toContain("is rebuilt");
    expect(status).toBe(0);
  });

  it("says so where the sitter doesn't run", async () => {
    const shard = await new ShardFixture().prepare([document({ deposed: [peer("d")] })]);
    shard.files.set("/etc/d.json", config("d"));
    expect((await shard.adm("rebuild", "-f", "/etc/d.json", "-y")).out).toContain(
      "takes the request up when it starts",
    );
  });

  it.each([
    ["a", "primary"],
    ["b", "sync"],
  ])("refuses peer %s, the %s", async (name, role) => {
    const shard = await new ShardFixture().prepare();
    shard.files.set("/etc/x.json", config(name));
    const { status, err } = await shard.adm("rebuild", "-c", "/etc/x.json", "-y");
    expect(status).toBe(1);
    expect(err).toContain(`is the ${role}: what it holds may be the only copy`);
    expect(err).toContain("(ADMIN_REBUILD_REFUSED)");
    expect(shard.files.has("/data.manatee/rebuild.json")).toBe(false);
  });
});
