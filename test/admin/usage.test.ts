import { describe, expect, it } from "vitest";
import { VERBS } from "../../src/admin/program.ts";
import { document, ShardFixture } from "./fixture.ts";

describe("wrong use exits with 2 and names the option", () => {
  it.each([
    [["show"], {}, "option is required: --zk"],
    [["show"], { ZK_IPS: "10.0.0.9" }, "option is required: --shard"],
    [["show", "-z", "10.0.0.9"], {}, "option is required: --shard"],
    [["freeze"], undefined, "option is required: --reason"],
    [["promote"], undefined, "option is required: --zonename"],
    [["promote", "-n", "x"], undefined, "option is required: --role"],
    [["promote", "-n", "x", "-r", "primary"], undefined, "option --role takes sync or async"],
    [["promote", "-n", "x", "-r", "async"], undefined, "option is required: --asyncIndex"],
    [["promote", "-n", "x", "-r", "async", "-i", "first"], undefined, "option --asyncIndex takes a number"],
    [["set-onwm"], undefined, "option is required: --mode"],
    [["set-onwm", "-m", "maybe"], undefined, "option --mode takes on or off"],
    [["reap"], undefined, "option is required: --zonename"],
    [["rebuild"], undefined, "option is required: --file (or --config)"],
    [["snapshots"], undefined, "option is required: --file"],
    [["snapshot"], undefined, "what shall be done? There is: snapshot now"],
    [["snapshot", "later"], undefined, 'unknown command "snapshot later" (there is: snapshot now)'],
    [["state", "restor", "-s", "1"], undefined, 'unknown command "state restor" (there is: state restore)'],
    [["state", "-s", "1", "restor"], undefined, 'unknown command "state restor" (there is: state restore)'],
    [["diverged", "-t", "x", "--drop", "x"], undefined, "options exclude each other: --transactions and --drop"],
    [["check-lock"], undefined, "option is required: --path"],
    [["history", "--sort", "name"], undefined, "option --sort takes zkSeq or time"],
    [["peers", "-o", "peernam"], undefined, 'unknown column "peernam", did you mean peername?'],
    [["peers", "-o", "pg-lag"], undefined, 'unknown column "pg-lag"'],
    [["peers", "-r", "leader"], undefined, "option --role takes one of primary, sync, async, deposed"],
    [["pg-status", "often"], undefined, "PERIOD is a number above 0"],
    [["show", "--timeout", "soon"], undefined, "option --timeout takes a number of seconds"],
    [["show", "--store-dir", "store"], {}, "option --store-dir takes an absolute path"],
    [["show", "-z", "10.0.0.9:0"], undefined, "is not a list of HOST:PORT"],
    [["show", "-f", "/nowhere.json"], undefined, "there is no file /nowhere.json"],
    [["show", "--frobnicate"], undefined, "unknown option '--frobnicate'"],
    [["peers", "-r"], undefined, "argument missing"],
    [["show", "me"], undefined, "too many arguments"],
    [["shwo"], undefined, 'unknown command "shwo", did you mean show?'],
    [["help", "shwo"], undefined, 'unknown command "shwo", did you mean show?'],
    [["shwo", "--help"], undefined, 'unknown command "shwo", did you mean show?'],
    [["pgstatus"], undefined, 'unknown command "pgstatus", did you mean pg-status?'],
  ])("%j with the environment %j", async (args, env, message) => {
    const shard = await new ShardFixture().prepare();
    if (env !== undefined) shard.env = env;
    const { status, out, err } = await shard.adm(...args);
    expect(err).toContain(message);
    expect(err).toContain("usage: manatee-adm");
    expect(out).toBe("");
    expect(status).toBe(2);
  });
});

it("wrong use of a command below another leads to that one's help", async () => {
  const shard = await new ShardFixture().prepare();
  expect((await shard.adm("state", "restore", "--frobnicate")).err).toContain(
    "usage: manatee-adm state restore --help",
  );
  expect((await shard.adm("snapshot", "now")).err).toContain("usage: manatee-adm snapshot now --help");
  expect((await shard.adm("state", "--frobnicate")).err).toContain("usage: manatee-adm state --help");
});

describe("help", () => {
  it.each(Object.keys(VERBS))("%s --help teaches, with an example", async (verb) => {
    const { status, out } = await new ShardFixture().adm(verb, "--help");
    expect(status).toBe(0);
    expect(out).toMatch(new RegExp(`Examples?:\\n {2}manatee-adm (${verb}|${VERBS[verb]?.alias ?? verb})`));
  });

  it("lists every command, also without any argument", async () => {
    const { status, out } = await new ShardFixture().adm();
    expect(status).toBe(0);
    for (const [verb, { summary }] of Object.entries(VERBS))
      expect(out).toMatch(new RegExp(`${verb}.*\\n?.*${summary.slice(0, 10)}`));
    expect((await new ShardFixture().adm("help", "freeze")).out).toContain("--reason");
  });
});

describe("where store and shard come from", () => {
  it("takes options before and after the command, which come before the environment", async () => {
    const shard = await new ShardFixture().prepare();
    shard.env = { ZK_IPS: "10.0.0.8", SHARD: "other" };
    expect((await shard.adm("-s", "1", "-z", "10.0.0.7:2181", "show")).out).toContain(
      "zookeeper:   10.0.0.7:2181\ncluster:     1\n",
    );
    expect((await shard.adm("show", "-s", "1", "-z", "10.0.0.7:2181")).out).toContain(
      "zookeeper:   10.0.0.7:2181\ncluster:     1\n",
    );
    expect((await shard.adm("show", "-s", "1")).out).toContain("zookeeper:   10.0.0.8:2181");
  });

  it("takes them from a sitter's file, the embedded store, too", async () => {
    const shard = await new ShardFixture().prepare();
    shard.env = {};
    shard.files.set(
      "/etc/sitter.json",
      JSON.stringify({
        ip: "10.0.0.1",
        zoneId: "a",
        shardPath: "/manatee/1",
        store: { kind: "local", directory: "/var/store" },
        postgres: { dataDir: "/data" },
      }),
    );
    expect((await shard.adm("show", "-f", "/etc/sitter.json")).out).toContain(
      "zookeeper:   embedded store in /var/store\ncluster:     1\n",
    );
    shard.files.set("/etc/broken.json", "{}");
    const { status, err } = await shard.adm("show", "-f", "/etc/broken.json");
    expect(status).toBe(1);
    expect(err).toContain("/etc/broken.json: ip is missing");
    expect(err).toContain("CONFIG_INVALID");
  });

  it("says so where the store doesn't answer", async () => {
    const shard = await new ShardFixture().prepare();
    shard.store.cut("adm");
    const { status, err } = await shard.adm("show", "--timeout", "0.05");
    expect(status).toBe(1);
    expect(err).toContain("is out of reach: no connection within 0.05 s");
    expect(err).toContain("ADMIN_STORE_UNREACHABLE");
  });

  it("says which shards there are where show is asked for one that is not", async () => {
    const shard = await new ShardFixture().prepare();
    const { status, err } = await shard.adm("show", "-s", "nosuch");
    expect(err).toBe("Shards in this store: 1.");
    expect(status).toBe(1);
    expect((await shard.adm("show")).err).toBe("");
  });

  it("says why a document can't be used, and what to do", async () => {
    const shard = await new ShardFixture().prepare([JSON.stringify({ ...document(), requires: ["telepathy"] })]);
    const { status, err } = await shard.adm("freeze", "-r", "x");
    expect(status).toBe(1);
    expect(err).toContain("telepathy");
    expect(err).toContain("STATE_UNKNOWN_FEATURE");
  });
});
