import { describe, expect, it } from "vitest";
import { coloursOf } from "../../src/admin/paint.ts";
import { document, peer, report, ShardFixture, wellReports } from "./fixture.ts";

const ESCAPE = "\u001b[";
const OUT_ONLY = { colour: true, noteColour: false };
const ERR_ONLY = { colour: false, noteColour: true };

/** A shard with a problem to tell, whose primary changed once. */
async function illShard(): Promise<ShardFixture> {
  const reports = { ...wellReports(), c: report("c", "async", { postgres: { lagSeconds: 93 } }) };
  return new ShardFixture(reports).prepare([
    document(),
    document({ generation: 4, primary: peer("b"), sync: peer("c"), async: [], deposed: [peer("a")] }),
  ]);
}

function sitterFile(): string {
  const { ip, zoneId } = peer("b");
  return JSON.stringify({
    ip,
    zoneId,
    shardPath: "/manatee/1",
    zkCfg: { connStr: "10.0.0.9" },
    postgres: { dataDir: "/data" },
  });
}

describe("colours are for terminals only", () => {
  it("asks of each output by itself whether it is one", () => {
    expect(coloursOf({ outIsTerminal: true, errIsTerminal: false }, {})).toEqual(OUT_ONLY);
    expect(coloursOf({ outIsTerminal: false, errIsTerminal: true }, {})).toEqual(ERR_ONLY);
    expect(coloursOf({ outIsTerminal: false, errIsTerminal: false }, { FORCE_COLOR: "1" })).toEqual({
      colour: false,
      noteColour: false,
    });
  });

  it.each([{ NO_COLOR: "1" }, { TERM: "dumb" }])("leaves them out with %j", (env) => {
    expect(coloursOf({ outIsTerminal: true, errIsTerminal: true }, env)).toEqual({ colour: false, noteColour: false });
  });

  it("does not take an empty NO_COLOR for a wish", () => {
    expect(coloursOf({ outIsTerminal: true, errIsTerminal: true }, { NO_COLOR: "", TERM: "xterm" })).toEqual({
      colour: true,
      noteColour: true,
    });
  });

  // Each says something on the standard error output.
  it.each([
    ["a problem below a table", ["pg-status"], "error:"],
    ["a problem before a promotion", ["promote", "-r", "sync", "-n", "cccccccc", "--dry-run"], "error:"],
    ["a refusal", ["promote", "-r", "sync", "-n", "bbbbbbbb", "-y"], "is primary, not sync"],
    ["a journal that is not there", ["explain-failover"], "warning:"],
    ["a backup server that does not answer", ["snapshots", "-f", "/sitter.json"], "error:"],
  ])("paints %s by the standard error output, not by the other", async (_what, args, text) => {
    const shard = await illShard();
    shard.files.set("/sitter.json", sitterFile());
    shard.colours = OUT_ONLY;
    const { err: plain } = await shard.adm(...args);
    expect(plain).toContain(text);
    expect(plain).not.toContain(ESCAPE);
    shard.colours = ERR_ONLY;
    const { out, err } = await shard.adm(...args);
    expect(err).toContain(ESCAPE);
    expect(out).not.toContain(ESCAPE);
  });

  // Each prints its result, problems too, on the standard output.
  it.each([[["show"]], [["verify"]], [["peers"]]])("paints what %j prints by the standard output", async (args) => {
    const shard = await illShard();
    shard.colours = ERR_ONLY;
    expect((await shard.adm(...args)).out).not.toContain(ESCAPE);
    shard.colours = OUT_ONLY;
    expect((await shard.adm(...args)).out).toContain(ESCAPE);
  });
});
