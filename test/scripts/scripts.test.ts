// The plain scripts that prepare a clone and clean up after a demonstration.

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
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
