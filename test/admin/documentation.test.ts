import { existsSync, readdirSync, readFileSync } from "node:fs";
import { Command, type Option } from "commander";
import { describe, expect, it } from "vitest";
import { HISTORY_COLUMNS, SUMMARY_COLUMN } from "../../src/admin/history-rows.ts";
import { PEER_COLUMNS, STATUS_COLUMNS } from "../../src/admin/peer-rows.ts";
import { CLONE_COLUMNS } from "../../src/admin/commands/clone.ts";
import { FORK_COLUMNS } from "../../src/admin/commands/diverged.ts";
import { SNAPSHOT_COLUMNS } from "../../src/admin/snapshot-rows.ts";
import { VERBS } from "../../src/admin/program.ts";
import { document, NOW, peer, report, ShardFixture, snapshot, wellReports } from "./fixture.ts";

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
    shardAsIs.files.set("/c.json", JSON.stringify({ ...c, storage: { kind: "zfs", dataset: "tank/pg" } }));
    const taken = snapshot(NOW);
    shardAsIs.clonePlace.snapshots.push({ ...taken, dataset: "tank/pg", ownBytes: 0, referencedBytes: 0 });
    const restored = await shardAsIs.adm("restore", String(NOW), "-f", "/c.json", "--dry-run", "-o", "json");
    expect(Object.keys(JSON.parse(restored.out) as object)).toEqual(documented("restore"));
    const { async } = JSON.parse((await shard.stat("-s", "1")).out) as { async: object };
    expect(Object.keys(async)).toEqual(documented("stat"));
  });
});

interface Row {
  readonly command: string;
  readonly flags: ReadonlySet<string>;
}

/** `-n` and `--dry-run` in what is written as code. */
function flagsIn(text: string): string[] {
  return [...text.matchAll(/`([^`]+)`/g)].flatMap(
    ([, code = ""]) => code.match(/(?<![\w-])--?[A-Za-z][A-Za-z-]*/g) ?? [],
  );
}

/** The rows of the page's tables of commands. Of a command whose row says more in its first cell (`clone --drop CLONE`), too. */
function rowsOf(section: string, commands: readonly string[]): Row[] {
  return section.split("\n").flatMap((line) => {
    const [, first = "", second = ""] = /^\| (.+?) \| (.*?) \|/.exec(line.replaceAll("\\|", "/")) ?? [];
    const words = first.replaceAll("`", "");
    const command = commands
      .filter((name) => ` ${words} `.startsWith(` ${name} `))
      .sort()
      .at(-1);
    return command === undefined ? [] : [{ command, flags: new Set(flagsIn(`${first} ${second}`)) }];
  });
}

/** What the program itself knows: each command's options, by `state restore` for one below another. */
async function realCommands(): Promise<Map<string, readonly Option[]>> {
  const found = new Map<string, readonly Option[]>();
  for (const [name, { load }] of Object.entries(VERBS)) {
    const command = new Command(name);
    (await load()).define(command, () => () => Promise.resolve());
    found.set(name, command.options);
    for (const below of command.commands) found.set(`${name} ${below.name()}`, below.options);
  }
  return found;
}

describe("docs/manatee-adm.md", () => {
  it("has every option of every command, and no other", async () => {
    const commands = await realCommands();
    const page = read("docs/manatee-adm.md");
    const [, whichShard = "", looking = "", changing = ""] =
      /^## Which shard$([^]*?)^## Exit[^]*?^## Looking$([^]*?)^## Changing$([^]*?)^## manatee-stat$/m.exec(page) ?? [];
    const common = new Set(flagsIn(whichShard));
    const ofChanges = new Set(flagsIn(changing.slice(0, changing.indexOf("| command |"))));
    expect([...common]).toEqual(expect.arrayContaining(["-z", "-s", "-f", "--store-dir", "--timeout"]));
    expect([...ofChanges]).toEqual(expect.arrayContaining(["-y", "--dry-run"]));
    const names = [...commands.keys()];
    const rows = { looking: rowsOf(looking, names), changing: rowsOf(changing, names) };
    const missing: string[] = [];
    const unknown: string[] = [];
    for (const [name, options] of commands) {
      const own = [...rows.looking, ...rows.changing].filter(({ command }) => command === name);
      const changes = rows.changing.some(({ command }) => command === name);
      const documentedFlags = new Set(own.flatMap(({ flags }) => [...flags]));
      for (const { short, long, hidden, flags } of options) {
        const names = [short, long].filter((flag) => flag !== undefined);
        const known = names.some(
          (flag) => documentedFlags.has(flag) || common.has(flag) || (changes && ofChanges.has(flag)),
        );
        if (!hidden && !known) missing.push(`${name} ${flags}`);
      }
      for (const flag of documentedFlags)
        if (!options.some(({ short, long }) => flag === short || flag === long)) unknown.push(`${name} ${flag}`);
    }
    expect({ missing, unknown }).toEqual({ missing: [], unknown: [] });
  });

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
