import { existsSync, readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { HISTORY_COLUMNS, SUMMARY_COLUMN } from "../../src/admin/history-rows.ts";
import { PEER_COLUMNS, STATUS_COLUMNS } from "../../src/admin/peer-rows.ts";
import { CLONE_COLUMNS } from "../../src/admin/commands/clone.ts";
import { FORK_COLUMNS } from "../../src/admin/commands/diverged.ts";
import { SNAPSHOT_COLUMNS } from "../../src/admin/snapshot-rows.ts";
import { VERBS } from "../../src/admin/program.ts";
import { document, peer, report, ShardFixture, wellReports } from "./fixture.ts";

const root = new URL("../../", import.meta.url);

function read(path: string): string {
  return readFileSync(new URL(path, root), "utf8");
}

function documented(name: string): string[] {
  const table =
    new RegExp(`<!-- fields: ${name} -->\n([\\s\\S]*?)<!-- end -->`).exec(read("docs/json-output.md"))?.[1] ?? "";
  return [...table.matchAll(/^\| `([^`]+)`/gm)].map((match) => match[1] as string);
}

const names = (columns: readonly { readonly name: string }[]) => columns.map(({ name }) => name);

describe("docs/json-output.md", () => {
  it("lists the fields of the tables", () => {
    expect(documented("peers")).toEqual(names(PEER_COLUMNS));
    expect([...documented("peers"), ...documented("pg-status")]).toEqual(names(STATUS_COLUMNS));
    expect(documented("snapshots")).toEqual(names(SNAPSHOT_COLUMNS));
    expect(documented("diverged")).toEqual(names(FORK_COLUMNS));
    expect(documented("clone")).toEqual(names(CLONE_COLUMNS));
    expect(documented("history")).toEqual(names([...HISTORY_COLUMNS, SUMMARY_COLUMN]));
  });

  it("lists the fields of show, verify and manatee-stat", async () => {
    const reports = { ...wellReports(), c: report("c", "async", { postgres: { healthy: false, error: "x" } }) };
    const shard = await new ShardFixture(reports).prepare([document({ freeze: true })]);
    expect(Object.keys(JSON.parse((await shard.adm("show", "-o", "json")).out) as object)).toEqual(documented("show"));
    const [problem] = JSON.parse((await shard.adm("verify", "-o", "json")).out) as object[];
    expect(Object.keys(problem ?? {}).sort()).toEqual(documented("verify").sort());
    const moved = await new ShardFixture().prepare([
      document(),
      document({ generation: 4, primary: peer("b"), sync: peer("c"), async: [] }),
    ]);
    const explained = JSON.parse((await moved.adm("explain-failover", "-j")).out) as object;
    expect(Object.keys(explained)).toEqual(documented("explain-failover"));
    const shardAsIs = await new ShardFixture().prepare();
    const { ip, zoneId } = peer("c");
    const c = { ip, zoneId, shardPath: "/manatee/1", zkCfg: { connStr: "10.0.0.9" }, postgres: { dataDir: "/data" } };
    shardAsIs.files.set("/c.json", JSON.stringify(c));
    const planned = JSON.parse(
      (await shardAsIs.adm("rebuild", "-c", "/c.json", "--dry-run", "-o", "json")).out,
    ) as object;
    expect(Object.keys(planned)).toEqual(documented("rebuild"));
    const { async } = JSON.parse((await shard.stat("-s", "1")).out) as { async: object };
    expect(Object.keys(async)).toEqual(documented("stat"));
  });
});

describe("docs/manatee-adm.md", () => {
  it("has every command", () => {
    const page = read("docs/manatee-adm.md");
    expect(Object.keys(VERBS).filter((verb) => !page.includes(`\`${verb}\``))).toEqual([]);
  });
});

describe("docs/operating", () => {
  it("is where messages send people", () => {
    const sources = ["src/cluster", "src/admin", "src/admin/commands"].flatMap((folder) =>
      readdirSync(new URL(folder, root))
        .filter((name) => name.endsWith(".ts"))
        .map((name) => read(`${folder}/${name}`)),
    );
    const named = sources.flatMap((text) => [...text.matchAll(/docs\/[a-z/-]+\.md/g)].map(([path]) => path));
    expect(named.length).toBeGreaterThan(1);
    expect(named.filter((path) => !existsSync(new URL(path, root)))).toEqual([]);
  });

  it("lists every page in its index", () => {
    const index = read("docs/operating/README.md");
    const pages = readdirSync(new URL("docs/operating", root)).filter((name) => name !== "README.md");
    expect(pages.length).toBeGreaterThan(8);
    expect(pages.filter((name) => !index.includes(`(${name})`))).toEqual([]);
  });

  it("names commands that exist", () => {
    const pages = readdirSync(new URL("docs/operating", root)).map((name) => read(`docs/operating/${name}`));
    const used = pages.flatMap((text) =>
      [...text.matchAll(/manatee-adm ([a-z][a-z-]+)/g)].map((match) => match[1] as string),
    );
    const known = Object.entries(VERBS).flatMap(([name, { alias }]) => [name, ...(alias === undefined ? [] : [alias])]);
    expect(used.length).toBeGreaterThan(15);
    expect(used.filter((verb) => !known.includes(verb))).toEqual([]);
  });
});
