// The developers' shard (`npm run dev`), in a copy of the work tree: its sources are changed.

import { type ChildProcess, spawn } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterEach, expect, test } from "vitest";
import { killAllIn, processesIn } from "../support/processes.ts";

const root = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");
const PEERS = ["alpha", "bravo", "charlie"];
/** It compiles twice and makes three databases, on a machine that may do other things, too. */
const LIMIT_MS = 240_000;

let folder: string | undefined;
let running: ChildProcess | undefined;

afterEach(async () => {
  running?.kill("SIGKILL");
  running = undefined;
  if (folder === undefined) return;
  await killAllIn(folder);
  rmSync(folder, { recursive: true, force: true });
  folder = undefined;
});

test("the developers' shard starts from a clone, has new sitters when a source changes, none when it does not compile, and leaves nothing", async () => {
  folder = mkdtempSync(`${tmpdir()}/mdt-`);
  chmodSync(folder, 0o1777);
  // Where the user of the servers can't enter, as in root's home.
  const closed = join(folder, "closed");
  mkdirSync(closed, { mode: 0o700 });
  const clone = join(closed, "clone");
  const without = new Set([".git", "node_modules", "dist"]);
  cpSync(root, clone, { recursive: true, filter: (path) => !without.has(relative(root, path)) });
  symlinkSync(join(root, "node_modules"), join(clone, "node_modules"));
  const dev = start(clone, folder);

  await dev.tells("Sitters are restarted when the code changes");
  expect(dev.output()).toContain("the chain stands");
  const shard = join(folder, readdirSync(folder).find((name) => name.startsWith("manatee-demo-")) ?? "none");
  const servers = PEERS.map((peer) => postmasterOf(shard, peer));

  const source = join(clone, "src/sitter/sitter.ts");
  const text = readFileSync(source, "utf8");
  expect(text).toContain('"sitter starts"');
  writeFileSync(source, text.replace('"sitter starts"', '"sitter starts, changed"'));
  await dev.tells("the code has changed");
  for (const peer of PEERS)
    await dev.until(`${peer} runs the changed code`, () => logOf(shard, peer).includes("sitter starts, changed"));
  expect(
    PEERS.map((peer) => postmasterOf(shard, peer)),
    "PostgreSQL goes on",
  ).toEqual(servers);

  const starts = () => PEERS.map((peer) => logOf(shard, peer).split('"sitter starts').length);
  const before = starts();
  writeFileSync(source, `${text}\nconst mistake: number = "no number";\n`);
  await dev.tells("error TS2322");
  expect(starts()).toEqual(before);

  // Ctrl-C reaches everybody who shares the terminal.
  process.kill(-(dev.child.pid as number), "SIGINT");
  expect(await dev.ended, dev.output()).toBe(0);
  expect(readdirSync(folder).filter((name) => name.startsWith("manatee-"))).toEqual([]);
  expect(processesIn(folder).filter(({ args }) => !args.some((arg) => arg.endsWith("watchdog.mjs")))).toEqual([]);
});

function start(clone: string, temporary: string) {
  const child = spawn(process.execPath, [join(clone, "scripts/dev.mjs"), "--plain"], {
    env: { ...process.env, TMPDIR: temporary, NO_COLOR: "1" },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  running = child;
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString("utf8")));
  child.stderr.on("data", (chunk: Buffer) => (output += chunk.toString("utf8")));
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  const until = async (what: string, holds: () => boolean) => {
    const giveUpAt = performance.now() + LIMIT_MS;
    while (!holds()) {
      if (child.exitCode !== null) throw new Error(`it ended before: ${what}\n${output}`);
      if (performance.now() > giveUpAt) throw new Error(`not seen within ${LIMIT_MS} ms: ${what}\n${output}`);
      await sleep(50);
    }
  };
  return {
    child,
    ended,
    output: () => output,
    until,
    tells: (text: string) => until(`it tells "${text}"`, () => output.includes(text)),
  };
}

function logOf(shard: string, peer: string): string {
  const path = join(shard, peer, "sitter.log");
  return existsSync(path) ? readFileSync(path, "utf8") : "";
}

/** The server's pid. */
function postmasterOf(shard: string, peer: string): string | undefined {
  return readFileSync(join(shard, peer, "data/postmaster.pid"), "utf8").split("\n")[0];
}
