// manatee-sim as a program: what it prints, and with which exit status it ends.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { stripVTControlCharacters } from "node:util";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { COMMANDS } from "../../simulation/commands.ts";
import { CONDITIONS } from "../../simulation/conditions.ts";
import { main } from "../../src/main/sim.ts";

let folder: string;
let out: string;
let err: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "manatee-sim-"));
  out = "";
  err = "";
  vi.spyOn(process.stdout, "write").mockImplementation((text) => ((out += String(text)), true));
  vi.spyOn(process.stderr, "write").mockImplementation((text) => ((err += String(text)), true));
});

afterEach(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true, force: true });
});

function script(text: string): string {
  const file = join(folder, "story.txt");
  writeFileSync(file, text);
  return file;
}

test("a story that comes to its end is told, with exit status 0", async () => {
  expect(await main([script("shard 2\nwrite x\nrun 200ms\nexpect acknowledged x\nshow\n")])).toBe(0);
  expect(out).toContain("generation 2, primary A, sync B");
  expect(out).toContain("1 acknowledged, none waiting");
  expect(err).toBe("");
});

test("one that does not ends with exit status 1 and says at which line", async () => {
  expect(await main([script("shard 2\nexpect primary B\n")])).toBe(1);
  expect(err).toMatch(/^manatee-sim: line 2: expected primary B/);
});

test("a file that is not there is told, with exit status 2", async () => {
  expect(await main([join(folder, "nothing.txt")])).toBe(2);
  expect(err).toContain("can't read");
});

test.each([[["--seed", "x"]], [["--nonsense"]]])("wrong use (%s) ends with exit status 2", async (argv) => {
  expect(await main([...argv])).toBe(2);
  expect(err).not.toBe("");
});

test("--help teaches, with exit status 0", async () => {
  expect(await main(["--help"])).toBe(0);
  expect(out).toContain("manatee-sim test/scenarios/primary-dies.txt");
});

/** Types at a terminal, each text when what it waits for was printed since the one before, and tells what stood there at the end. */
async function converse(
  argv: readonly string[],
  ...typed: readonly string[]
): Promise<{ status: number; shown: string }> {
  const terminal = { isTTY: true, columns: 200, rows: 50 };
  const input = Object.assign(new PassThrough(), terminal);
  const output = Object.assign(new PassThrough(), terminal);
  let shown = "";
  output.on("data", (text: Buffer) => (shown += text.toString()));
  const ended = main(argv, { input, output });
  for (const text of typed) {
    const before = shown.length;
    input.write(text);
    if (text.endsWith("\r")) await vi.waitUntil(() => shown.slice(before).includes("\n"), { timeout: 30_000 });
  }
  const status = await ended;
  return { status, shown: stripVTControlCharacters(shown) };
}

test("without a file, at a terminal, it converses until somebody quits: what a command does, the shard below, and mistakes", async () => {
  const { status, shown } = await converse(
    [],
    "shard 2\r",
    "write x\r",
    "run 200ms\r",
    "expect acknowledged x\r",
    "expect primary B\r",
    "frobnicate\r",
    "# a remark\r",
    "quit\r",
  );
  expect(status).toBe(0);
  expect(shown).toContain('A simulated shard. "help" lists the commands');
  expect(shown).toContain("generation 2, primary A, sync B");
  expect(shown).toContain("1 acknowledged, none waiting");
  expect(shown).toContain("expected primary B");
  expect(shown).toContain("frobnicate");
  expect(err).toBe("");
});

test("the tab key completes a command's name", async () => {
  const { shown } = await converse([], "sha\t", " 2\r", "quit\r");
  expect(shown).toContain("sim> shard 2");
  expect(shown).toContain("generation");
});

test("help and conditions list what can be said; reset begins anew; exit leaves, too", async () => {
  const { status, shown } = await converse([], "help\r", "conditions\r", "shard 2\r", "reset\r", "show\r", "exit\r");
  for (const name of [...Object.keys(COMMANDS), "conditions", "reset", "quit"])
    expect(shown).toMatch(new RegExp(`^  ${name}\\b`, "m"));
  for (const { usage } of Object.values(CONDITIONS)) expect(shown).toContain(`  ${usage}`);
  const afterReset = shown.slice(shown.lastIndexOf("reset"));
  expect(afterReset).not.toContain("primary A");
  expect(status).toBe(0);
});

test("the end of the input ends it", async () => {
  const { status } = await converse([], "shard 2\r", "\u0004");
  expect(status).toBe(0);
});
