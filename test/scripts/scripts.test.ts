// The plain scripts that prepare a clone and clean up after a demonstration.

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";

const script = (name: string) => fileURLToPath(new URL(`../../scripts/${name}`, import.meta.url));
const { FOLDER_VARIABLE, makeFolder, removeFolder } = (await import(script("lib/folder.mjs"))) as {
  readonly FOLDER_VARIABLE: string;
  readonly makeFolder: (user: undefined) => string;
  readonly removeFolder: (folder: string) => void;
};
const { checkNode, productionPackages } = (await import(script("lib/packages.mjs"))) as {
  readonly checkNode: (version: string) => void;
  readonly productionPackages: () => string[];
};

const { stageTree } = (await import(script("lib/stage.mjs"))) as {
  readonly stageTree: (target: string, from: string) => void;
};
const { debianPostgres, keepDebianFromMakingACluster } = (await import(script("lib/debian.mjs"))) as {
  readonly debianPostgres: (base: string) => string | undefined;
  readonly keepDebianFromMakingACluster: (file: string) => void;
};

const children: ChildProcess[] = [];
const folders: string[] = [];

afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

function startIn(folder: string, env: Record<string, string> = {}): ChildProcess {
  const child = spawn("sleep", ["300"], {
    cwd: folder,
    env: { ...process.env, ...env },
    detached: true,
    stdio: "ignore",
  });
  children.push(child);
  return child;
}

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "manatee-demo-"));
  folders.push(folder);
  return folder;
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await new Promise((resolve) => child.once("exit", resolve));
}

describe("a demonstration's folder", () => {
  test("goes with the processes that were started for it, and leaves a person's shell in it alone", async () => {
    const folder = newFolder();
    mkdirSync(join(folder, "alpha"));
    const ours = startIn(join(folder, "alpha"), { [FOLDER_VARIABLE]: folder });
    const somebodys = startIn(join(folder, "alpha"));
    await Promise.all([ours, somebodys].map((child) => new Promise((resolve) => child.once("spawn", resolve))));

    removeFolder(folder);

    await ended(ours);
    expect(ours.signalCode).toBe("SIGKILL");
    expect(somebodys.signalCode).toBeNull();
    expect(existsSync(folder)).toBe(false);
  });

  test("is removed by the watchdog when whoever made it is killed", async () => {
    const child = spawn(
      process.execPath,
      [
        "--input-type=module",
        "-e",
        `import { makeFolder } from ${JSON.stringify(script("lib/folder.mjs"))}; console.log(makeFolder()); setInterval(() => {}, 1000);`,
      ],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    children.push(child);
    const folder = await new Promise<string>((resolve) =>
      child.stdout.once("data", (data: Buffer) => resolve(data.toString("utf8").trim())),
    );
    folders.push(folder);
    const ours = startIn(folder, { [FOLDER_VARIABLE]: folder });
    expect(existsSync(join(folder, "owner"))).toBe(true);

    child.kill("SIGKILL");

    await ended(ours);
    for (let tries = 0; existsSync(folder) && tries < 500; tries++) await sleep(20);
    expect(existsSync(folder)).toBe(false);
  });

  test("is removed by the next one where its owner is gone, and left where it lives", () => {
    const [dead, alive] = [newFolder(), newFolder()];
    const { pid } = spawnSync("true");
    writeFileSync(join(dead, "owner"), JSON.stringify({ pid, started: "1" }));
    const living = makeFolder(undefined);
    folders.push(living);
    writeFileSync(join(alive, "not-an-owner"), "");

    const next = makeFolder(undefined);
    folders.push(next);

    expect(existsSync(dead)).toBe(false);
    expect(existsSync(living)).toBe(true);
    expect(existsSync(alive)).toBe(true);
    expect(readdirSync(next)).toEqual(["owner"]);
  });
});

describe("what a clone needs", () => {
  test("Node's versions are those of package.json's engines", () => {
    for (const version of ["20.19.0", "20.20.2", "22.12.0", "24.0.0", "25.1.0"])
      expect(() => checkNode(version)).not.toThrow();
    for (const version of ["18.20.0", "20.18.9", "21.7.0", "22.11.0", "23.5.0"])
      expect(() => checkNode(version), version).toThrow(version);
  });

  test("what runs without development's packages is copied, and nothing else", () => {
    const packages = productionPackages();
    expect(packages).toContain("node_modules/pg");
    expect(packages).toContain("node_modules/pino");
    expect(packages).not.toContain("node_modules/vitest");
    expect(packages).not.toContain("node_modules/typescript");
  });
});

describe("a copy of the work tree that others can read", () => {
  function tree(files: Readonly<Record<string, string>>): string {
    const folder = newFolder();
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, path)), { recursive: true });
      writeFileSync(join(folder, path), content, { mode: 0o600 });
    }
    return folder;
  }

  const FILES = {
    ".gitignore": "dist/\nnode_modules/\nsecret\n",
    "src/kept.ts": "kept",
    "src/gone.ts": "gone",
    "dist/made.js": "made",
    "node_modules/one/index.js": "one",
    secret: "no",
  };

  test("is what git knows, changed or new, with node_modules and dist, and nothing that is ignored", () => {
    const from = tree(FILES);
    const git = (...args: string[]) =>
      expect(spawnSync("git", ["-c", "safe.directory=*", ...args], { cwd: from }).status, args[0]).toBe(0);
    git("init", "-q");
    git("add", ".");
    writeFileSync(join(from, "src/kept.ts"), "changed");
    writeFileSync(join(from, "src/new file.ts"), "new");
    symlinkSync("kept.ts", join(from, "src/link.ts"));
    rmSync(join(from, "src/gone.ts"));
    const target = newFolder();
    stageTree(target, from);
    expect(contentOf(target)).toEqual({
      ".gitignore": FILES[".gitignore"],
      "dist/made.js": "made",
      "node_modules/one/index.js": "one",
      "src/kept.ts": "changed",
      "src/link.ts": "-> kept.ts",
      "src/new file.ts": "new",
    });
    expect(statSync(join(target, "src/kept.ts")).mode & 0o044).toBe(0o044);
    expect(statSync(join(target, "src")).mode & 0o055).toBe(0o055);
  });

  test("is all that there is where git knows nothing of it", () => {
    const target = newFolder();
    stageTree(target, tree(FILES));
    expect(Object.keys(contentOf(target))).toEqual(Object.keys(FILES).sort());
  });

  function contentOf(folder: string): Record<string, string> {
    const entries = readdirSync(folder, { withFileTypes: true, recursive: true });
    return Object.fromEntries(
      entries
        .filter((entry) => !entry.isDirectory())
        .map((entry): [string, string] => {
          const path = join(entry.parentPath, entry.name);
          const content = entry.isSymbolicLink() ? `-> ${readlinkSync(path)}` : readFileSync(path, "utf8");
          return [relative(folder, path), content];
        })
        .sort(([a], [b]) => (a < b ? -1 : 1)),
    );
  }
});

describe("what the system has to bring", () => {
  test("is the newest PostgreSQL of Debian's, by number, among those that are whole", () => {
    const base = newFolder();
    expect(debianPostgres(join(base, "nowhere"))).toBeUndefined();
    expect(debianPostgres(base)).toBeUndefined();
    for (const version of ["9.6", "15", "9"]) {
      mkdirSync(join(base, version, "bin"), { recursive: true });
      writeFileSync(join(base, version, "bin/postgres"), "");
    }
    // The client's programs alone.
    mkdirSync(join(base, "17/bin"), { recursive: true });
    expect(debianPostgres(base)).toBe(join(base, "15/bin"));
  });

  test("makes no cluster of its own, and what an administrator wrote stays", () => {
    const file = join(newFolder(), "postgresql-common/createcluster.conf");
    const after = (before: string | undefined) => {
      if (before !== undefined) writeFileSync(file, before);
      keepDebianFromMakingACluster(file);
      return readFileSync(file, "utf8");
    };
    const line = "create_main_cluster = false\n";
    expect(after(undefined)).toBe(line);
    expect(after(line)).toBe(line);
    expect(after("#create_main_cluster = true\nssl = on\n")).toBe(`#create_main_cluster = true\nssl = on\n${line}`);
    expect(after("ssl = on")).toBe(`ssl = on\n${line}`);
    expect(after(" create_main_cluster = true\n")).toBe(" create_main_cluster = true\n");
  });

  test("is named where it is missing and can't be installed, with what to type", () => {
    const code = [
      `import { ensureSystem } from ${JSON.stringify(script("lib/debian.mjs"))};`,
      `import { run } from ${JSON.stringify(script("lib/say.mjs"))};`,
      'process.getuid = () => Number(process.env["AS"]);',
      'await run(() => ensureSystem(["sudo", "iproute2"]));',
    ].join("\n");
    // Nothing is found on this path, apt-get neither.
    const missing = (as: string) =>
      spawnSync(process.execPath, ["--input-type=module", "-e", code], {
        encoding: "utf8",
        env: { PATH: newFolder(), AS: as },
      });
    const user = missing("1000");
    expect(user.status).toBe(1);
    expect(user.stderr).toContain("Missing on this machine: sudo, iproute2. As root it would be installed; on Debian:");
    expect(user.stderr).toContain(
      "    sudo apt-get update && sudo apt-get install -y --no-install-recommends sudo iproute2\n",
    );
    const root = missing("0");
    expect(root.status).toBe(1);
    expect(root.stderr).toContain("Missing on this machine: sudo, iproute2; there is no apt-get here");
  });
});
