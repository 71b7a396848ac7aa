import { describe, expect, it } from "vitest";
import { ShardFixture } from "./fixture.ts";

describe("manatee-stat", () => {
  it.each([
    [["--frobnicate"], {}, "unknown option '--frobnicate'"],
    [["10.0.0.9", "10.0.0.8"], {}, "too many arguments"],
    [[], {}, "option is required: ZOOKEEPER"],
    [["10.0.0.9:0"], {}, "ZOOKEEPER is not a list of HOST:PORT: 10.0.0.9:0"],
    [["-f", "/nowhere.json"], {}, "there is no file /nowhere.json"],
    [["--timeout", "soon", "10.0.0.9"], {}, "option --timeout takes a number of seconds"],
  ])("%j with the environment %j is wrong use: exit status 2, and the way to the usage", async (args, env, message) => {
    const shard = await new ShardFixture().prepare();
    shard.env = env;
    const { status, out, err } = await shard.stat(...args);
    expect(err).toContain(`manatee-stat: `);
    expect(err).toContain(message);
    expect(err).toContain("\nusage: manatee-stat --help");
    expect(out).toBe("");
    expect(status).toBe(2);
  });

  it("exits with 1 for a shard that is not there, with the reason in its place", async () => {
    const shard = await new ShardFixture().prepare();
    const { status, out } = await shard.stat("-s", "2");
    expect(JSON.parse(out)).toEqual({ error: "no state document" });
    expect(status).toBe(1);
    expect((await shard.stat("-s", "1")).status).toBe(0);
  });

  it("--help teaches, with an example, and exits with 0", async () => {
    const { status, out, err } = await new ShardFixture().stat("--help");
    expect(out).toContain("Usage: manatee-stat [options] [ZOOKEEPER]");
    expect(out).toContain("Example:\n  manatee-stat -s 1 10.0.0.1:2181");
    expect(err).toBe("");
    expect(status).toBe(0);
  });

  it("-f takes the store from a sitter's file, -v says which; a broken file is explained", async () => {
    const shard = await new ShardFixture().prepare();
    shard.env = {};
    const store = { kind: "local", directory: "/var/store" };
    const sitter = { ip: "10.0.0.1", zoneId: "a", shardPath: "/manatee/1", store, postgres: { dataDir: "/data" } };
    shard.files.set("/etc/sitter.json", JSON.stringify(sitter));
    const { status, out, err } = await shard.stat("-v", "-f", "/etc/sitter.json");
    expect(Object.keys(JSON.parse(out) as object)).toEqual(["1"]);
    expect(err).toBe("asking embedded store in /var/store");
    expect(status).toBe(0);
    shard.files.set("/etc/broken.json", "{}");
    const broken = await shard.stat("-f", "/etc/broken.json");
    expect(broken.err).toContain("/etc/broken.json: ip is missing");
    expect(broken.err).toContain("Correct the file; docs/configuration.md lists every key. (CONFIG_INVALID)");
    expect(broken.status).toBe(1);
  });

  it("says what to do where the store doesn't answer, with the code, as manatee-adm does", async () => {
    const shard = await new ShardFixture().prepare();
    shard.store.cut("adm");
    shard.colours = { colour: false, noteColour: true };
    const { status, out, err } = await shard.stat("--timeout", "0.05");
    expect(err).toContain("is out of reach: no connection within 0.05 s");
    expect(err).toContain("\nCheck the address, and that the store runs and has a majority. (ADMIN_STORE_UNREACHABLE)");
    expect(err).toContain("\u001b[31m");
    expect(out).toBe("");
    expect(status).toBe(1);
  });
});
