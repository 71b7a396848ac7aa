// The house rules that a machine can keep: who imports whom, what may touch the machine, and documents in step with the code.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url)).replace(/\/$/, "");

interface SourceFile {
  /** Below the repository's root. */
  readonly path: string;
  readonly text: string;
  /** The same without comments. */
  readonly code: string;
  readonly imports: readonly string[];
}

const sources = ["src", "bin", "demo", "simulation", "bench", "chaos", "scripts"].flatMap(load);
const tests = load("test");
const inSrc = sources.filter(({ path }) => path.startsWith("src/"));

describe("imports", () => {
  test("enough files were looked at for the rest to mean something", () => {
    expect(inSrc.length).toBeGreaterThan(60);
    expect(inSrc.flatMap(({ imports }) => imports).length).toBeGreaterThan(200);
    expect(tests.length).toBeGreaterThan(20);
  });

  test("each folder of src imports only what architecture allows", () => {
    expect(inSrc.flatMap(forbiddenImports)).toEqual([]);
  });

  test("every relative import names a file that is there", () => {
    const missing = [...sources, ...tests.filter(({ path }) => path !== "test/tidy.test.ts")].flatMap(
      ({ path, imports }) =>
        imports
          .filter((name) => name.startsWith(".") && !name.includes("/dist/"))
          .filter((name) => !existsSync(resolve(root, dirname(path), name)))
          .map((name) => `${path} imports ${name}`),
    );
    expect(missing).toEqual([]);
  });

  test("no file of src is imported by nobody", () => {
    // Ports wait for their drivers: some of them are places for what comes next.
    const entries = /^src\/(main|client)\/|\/port\.ts$/;
    const imported = new Set(
      [...sources, ...tests].flatMap(({ path, imports }) => imports.map((name) => targetOf(path, name))),
    );
    const reachedByBin = sources
      .filter(({ path }) => path.startsWith("bin/"))
      .map(({ text }) => text)
      .join("\n");
    const orphans = inSrc
      .map(({ path }) => path)
      .filter(
        (path) => !imported.has(path) && !entries.test(path) && !reachedByBin.includes(path.replace(/\.ts$/, ".js")),
      );
    expect(orphans).toEqual([]);
  });

  test("the parser sees every way to import", () => {
    const text = [
      'import { a } from "./a.ts";',
      "import type { B } from './b.ts';",
      'import "./c.ts";',
      'export * from "./d.ts";',
      'export { e,\n  f } from "./e.ts";',
      'const g = await import("./g.ts");',
      'type H = import("./h.ts").H;',
      '// import { i } from "./i.ts";',
      'const text = "from nowhere";',
    ].join("\n");
    expect(importsOf(withoutComments(text))).toEqual([
      "./a.ts",
      "./b.ts",
      "./c.ts",
      "./d.ts",
      "./e.ts",
      "./g.ts",
      "./h.ts",
    ]);
  });
});

describe("the machine", () => {
  test("time, randomness, network and node:* are handed in, but for drivers and composition roots", () => {
    const found = sources
      .filter(({ path }) => !mayTouchTheMachine(path))
      .flatMap(({ path, code }) =>
        Object.entries(machine)
          .filter(
            ([, pattern]) =>
              pattern.test(withoutStrings(code)) || (pattern === machine["node:*"] && pattern.test(code)),
          )
          .map(([name]) => `${path} uses ${name}`),
      );
    expect(found).toEqual([]);
  });

  test("the patterns find what they are for, and nothing else", () => {
    const hits = (text: string) => Object.keys(machine).filter((name) => (machine[name] as RegExp).test(text));
    expect(hits("setTimeout(f, 1)")).toEqual(["timers"]);
    expect(hits("const t = new Date()")).toEqual(["Date"]);
    expect(hits("Date.now()")).toEqual(["Date"]);
    expect(hits("AbortSignal.timeout(5)")).toEqual(["AbortSignal.timeout"]);
    expect(hits("Math.random()")).toEqual(["Math.random"]);
    expect(hits("crypto.randomUUID()")).toEqual(["crypto"]);
    expect(hits("await fetch(url)")).toEqual(["fetch"]);
    expect(hits('import { readFile } from "node:fs"')).toEqual(["node:*"]);
    expect(hits("process.exit(1)")).toEqual(["process"]);
    expect(hits("const update = candidate.prefetch(); this.fetch(x); timers.after(1, f); Math.max(1, 2)")).toEqual([]);
  });
});

describe("documents in step with the code", () => {
  test("every error code stands in docs/errors.md, and every code there exists", () => {
    const used = new Set(
      inSrc.flatMap(({ code }) =>
        [...code.matchAll(/\bcode: "([A-Z][A-Z0-9_]+)"/g)].map((match) => match[1] as string),
      ),
    );
    const listed = new Set(
      [...read("docs/errors.md").matchAll(/^\|\s*`?([A-Z][A-Z0-9_]+)`?\s*\|/gm)].map((match) => match[1] as string),
    );
    const named = new Set(
      inSrc.flatMap(({ code }) => [...code.matchAll(/"([A-Z][A-Z0-9_]+)"/g)].map((match) => match[1] as string)),
    );
    expect(used.size).toBeGreaterThan(20);
    expect([...used].filter((code) => !listed.has(code)).sort(), "used, not documented").toEqual([]);
    // A code may be put together elsewhere than beside `code:` (a table, a parameter), hence any string counts for this direction.
    expect([...listed].filter((code) => !named.has(code)).sort(), "documented, not used").toEqual([]);
  });

  test("every code of docs/errors.md is named by a test, which is not this one", () => {
    const listed = [...read("docs/errors.md").matchAll(/^\|\s*`?([A-Z][A-Z0-9_]+)`?\s*\|/gm)].map(
      (match) => match[1] as string,
    );
    const named = new Set(
      tests
        .filter(({ path }) => path !== "test/tidy.test.ts")
        .flatMap(({ code }) => [...code.matchAll(/\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b/g)].map(([name]) => name)),
    );
    expect(listed.length).toBeGreaterThan(100);
    expect(listed.filter((code) => !named.has(code))).toEqual([]);
  });

  test("every rule and invariant of docs/protocol.md is cited by the name of a test", () => {
    const rules = [...read("docs/protocol.md").matchAll(/^#{2,4} ([A-Z]+\d*)[ .:—]/gm)].map(
      (match) => match[1] as string,
    );
    const names = tests.flatMap(({ text }) =>
      [...text.matchAll(/\b(?:test|it|describe)(?:\.\w+)*(?:\([^)]*\))?\(\s*(["'`])((?:\\.|(?!\1)[^\\])*)\1/g)].map(
        (match) => match[2] as string,
      ),
    );
    const stories = existsSync(join(root, "test/scenarios"))
      ? readdirSync(join(root, "test/scenarios"))
          .filter((name) => name.endsWith(".txt"))
          .map((name) => read(`test/scenarios/${name}`))
      : [];
    const cited = expandRanges(
      [
        ...names,
        ...stories.map((story) =>
          story
            .split("\n")
            .filter((line) => line.startsWith("#"))
            .join("\n"),
        ),
      ].join("\n"),
    );
    expect(rules.length).toBeGreaterThan(20);
    expect(
      rules.filter((rule) => !new RegExp(`\\b${rule}\\b`).test(cited)),
      "cited by no test",
    ).toEqual([]);
  });

  test("every rule that a decision can name stands in docs/protocol.md", () => {
    const declared = /export type RuleName =([^;]+);/.exec(read("src/cluster/decision.ts"))?.[1] ?? "";
    const names = [...declared.matchAll(/"([A-Z0-9]+)"/g)].map((match) => match[1] as string);
    expect(names.length).toBeGreaterThan(15);
    const protocol = read("docs/protocol.md");
    expect(names.filter((name) => !new RegExp(`^#{2,4} ${name}\\b`, "m").test(protocol))).toEqual([]);
  });

  test("every link between documents leads to a file", () => {
    const documents = [...readdirSync(root), ...below("docs"), ...below("etc")].filter((path) => path.endsWith(".md"));
    const broken = documents.flatMap((path) =>
      [...read(path).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)]
        .map((match) => match[1] as string)
        .filter((link) => !/^[a-z]+:/.test(link) && !existsSync(resolve(root, dirname(path), link)))
        .map((link) => `${path}: ${link}`),
    );
    expect(documents.length).toBeGreaterThan(8);
    expect(broken).toEqual([]);
  });

  test("every path in ARCHITECTURE's table of components is there", () => {
    const table = read("ARCHITECTURE.md").split("\n## ").at(-1) ?? "";
    const paths = [...table.matchAll(/`((?:src|bin|test|docs|demo|scripts|simulation|bench|chaos|etc)\/[^`]*)`/g)].map(
      (match) => match[1] as string,
    );
    expect(paths.length).toBeGreaterThan(15);
    expect(paths.filter((path) => !existsSync(join(root, path)))).toEqual([]);
  });

  test("every npm script that a document names exists", () => {
    const scripts = new Set(
      Object.keys((JSON.parse(read("package.json")) as { scripts: Record<string, string> }).scripts),
    );
    const documents = [
      "README.md",
      "CONTRIBUTING.md",
      "ARCHITECTURE.md",
      ...below("docs").filter((path) => path.endsWith(".md")),
    ];
    const named = documents.flatMap((path) =>
      [...read(path).matchAll(/npm run ([a-z][a-z:-]*)/g)].map((match) => match[1] as string),
    );
    expect(named).toContain("demo");
    expect(named.filter((name) => !scripts.has(name))).toEqual([]);
  });

  test("no host of a package registry stands in the tree", () => {
    const hosts = [
      ["registry", "npmjs"],
      ["registry", "yarnpkg"],
      ["npm", "pkg", "github"],
    ].map((parts) => parts.join("."));
    const files = ["package.json", "package-lock.json", ".npmrc", "README.md", "CONTRIBUTING.md", ...below("docs")];
    const all = [...files.map((path) => ({ path, text: read(path) })), ...sources, ...tests];
    expect(all.filter(({ text }) => hosts.some((host) => text.includes(host))).map(({ path }) => path)).toEqual([]);
  });
});

test("no test runs alone or is switched off", () => {
  const pattern = /\b(?:test|it|describe|scenario)\.(?:only|skip|todo)\b/;
  expect(tests.filter(({ code }) => pattern.test(withoutStrings(code))).map(({ path }) => path)).toEqual([]);
  expect(pattern.test("test.only(")).toBe(true);
});

test("sizes: files and functions where a second idea may hide are listed, not refused", () => {
  const long = [...sources, ...tests].flatMap(({ path, text }) => {
    const lines = text.split("\n").length;
    return [
      ...(lines > 400 ? [`${path}: ${lines} lines`] : []),
      ...longFunctions(text).map((found) => `${path}: ${found}`),
    ];
  });
  if (long.length > 0) console.warn(`look for the second idea in:\n  ${long.join("\n  ")}`);
  expect(longFunctions(`function a() {\n${"  b();\n".repeat(80)}}\n`)).toEqual(["line 1: 82 lines"]);
  expect(longFunctions("function a() {\n  b();\n}\n")).toEqual([]);
});

// --- who may import whom

/** Folders of src that each folder may import from; `*`: with its subfolders. A port is the folder's file(s) named here. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  base: [],
  cluster: ["base"],
  snapshots: ["base"],
  world: ["base"],
  coordination: ["base", "world"],
  storage: ["base", "world"],
  shard: ["base", "cluster", "world", "coordination/port"],
  postgres: ["base", "cluster", "snapshots", "world", "status/report", "config/types", "storage/port"],
  peers: ["base", "cluster", "world", "status/report"],
  status: ["base", "cluster", "world", "shard", "config/types"],
  config: ["base", "cluster", "world"],
  sitter: [
    "base",
    "cluster",
    "world",
    "coordination/port",
    "shard",
    "postgres/port",
    "peers",
    "status",
    "config/types",
  ],
  snapshotter: ["base", "cluster", "snapshots", "world", "storage/port", "config/snapshotter"],
  backup: ["base", "cluster", "snapshots", "world", "storage/port", "peers", "status/report"],
  admin: [
    "base",
    "cluster",
    "world",
    "coordination/port",
    "shard",
    "status/report",
    "config",
    "backup/wire",
    "snapshots",
    "postgres/clones",
    "postgres/forks",
    "postgres/rebuild-look",
    "postgres/rebuild-plan",
    "postgres/restore",
    "status/rebuild-file",
  ],
  client: ["base", "cluster", "world", "coordination/port", "shard"],
};

/** Folders that hold concrete drivers, beside the port. */
const driver =
  /^src\/(world\/real|coordination\/(zookeeper|etcd|local|memory)|postgres\/(real|simulated)|storage\/[a-z]+)\//;
/** Composition roots: may name anything. */
const compositionRoot = /^src\/main\//;

function forbiddenImports({ path, imports }: SourceFile): string[] {
  if (compositionRoot.test(path)) return [];
  const folder = path.split("/")[1] as string;
  const mayUse = allowed[folder];
  if (!mayUse) return [`${path}: the folder src/${folder} is not in the list of this test`];
  return imports
    .filter((name) => name.startsWith("."))
    .map((name) => targetOf(path, name))
    .filter((target) => {
      if (target.startsWith(`src/${folder}/`))
        return driver.test(target) && !driver.test(path) && !sameDriver(path, target);
      if (driver.test(target)) return true;
      return !mayUse.some(
        (name) => target === `src/${name}.ts` || (!name.includes("/") && target.startsWith(`src/${name}/`)),
      );
    })
    .map((target) => `${path} imports ${target}`);
}

function sameDriver(path: string, target: string): boolean {
  return dirname(path) === dirname(target) || target.startsWith("src/storage/common/");
}

function targetOf(path: string, name: string): string {
  return name.startsWith(".") ? relative(root, resolve(root, dirname(path), name)) : name;
}

// --- what touches the machine

const machine: Readonly<Record<string, RegExp>> = {
  timers: /(?<![.\w])(?:setTimeout|setInterval|setImmediate|queueMicrotask)\s*\(/,
  Date: /\bnew Date\(\s*\)|\bDate\.now\b|\bperformance\.now\b/,
  "AbortSignal.timeout": /\bAbortSignal\.timeout\b/,
  "Math.random": /\bMath\.random\b/,
  crypto: /\b(?:randomUUID|randomBytes|getRandomValues|randomInt)\b/,
  fetch: /(?<![.\w])fetch\s*\(/,
  "node:*": /["']node:/,
  process: /(?<![.\w])process\.(?:exit|env|hrtime|kill|on|nextTick|pid|stdout|stderr)\b/,
};

function mayTouchTheMachine(path: string): boolean {
  if (!path.startsWith("src/")) return !path.startsWith("simulation/");
  return (
    compositionRoot.test(path) ||
    /^src\/(world\/real|coordination\/(zookeeper|etcd|local)|postgres\/real|storage\/(zfs|btrfs|directory|common))\//.test(
      path,
    )
  );
}

// --- reading

function load(folder: string): SourceFile[] {
  return below(folder)
    .filter((path) => /\.(ts|mjs)$/.test(path) || folder === "bin")
    .map((path) => {
      const text = read(path);
      const code = withoutComments(text);
      return { path, text, code, imports: importsOf(code) };
    });
}

function below(folder: string): string[] {
  if (!existsSync(join(root, folder))) return [];
  return readdirSync(join(root, folder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && !entry.parentPath.includes("node_modules"))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .sort();
}

function read(path: string): string {
  return readFileSync(join(root, path), "utf8");
}

/** `I1 to I3` cites I2 as well. */
function expandRanges(text: string): string {
  return text.replace(/\b([A-Z])(\d) to \1(\d)\b/g, (_, letter: string, first: string, last: string) =>
    Array.from({ length: Number(last) - Number(first) + 1 }, (_unused, i) => `${letter}${Number(first) + i}`).join(" "),
  );
}

/** Comments blanked out, strings left; a small scanner, since a comment sign can stand in a string and the other way round. */
function withoutComments(text: string): string {
  return text.replace(
    /("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)|\/\/[^\n]*|\/\*[\s\S]*?\*\//g,
    (all, string: string | undefined) => (string === undefined ? all.replace(/[^\n]/g, " ") : all),
  );
}

function withoutStrings(code: string): string {
  return code.replace(/"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'/g, '""');
}

function importsOf(code: string): string[] {
  const pattern =
    /(?:^|[\n;])\s*(?:import|export)\b[^"'`;=()]*?(?:\bfrom\s*)?(["'])([^"'\n]+)\1|\bimport\s*\(\s*(["'])([^"'\n]+)\3/g;
  return [...code.matchAll(pattern)].map((match) => (match[2] ?? match[4]) as string);
}

/** Functions and methods of more than 70 lines, by indentation (the formatter keeps that honest). */
function longFunctions(text: string): string[] {
  const lines = text.split("\n");
  const opening =
    /^(\s*)(?:export )?(?:default )?(?:static |private |readonly )*(?:async )?(?:function\b.*|(?!(?:if|for|while|switch|catch)\b)[\w#]+\([^()]*\)(?:: [^={]+)?|const \w+ = (?:async )?\([^()]*\)[^=]*=>) \{$/;
  return lines.flatMap((line, start) => {
    const indent = opening.exec(line)?.[1];
    if (indent === undefined) return [];
    const end = lines.findIndex((other, i) => i > start && other.startsWith(`${indent}}`));
    const length = end - start + 1;
    return end > 0 && length > 70 ? [`line ${start + 1}: ${length} lines`] : [];
  });
}
