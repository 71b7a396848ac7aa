// manatee-sim as a program: what it prints, and with which exit status it ends.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
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
