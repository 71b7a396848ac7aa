// The README's first command, as a new user runs it.

import { spawn } from "node:child_process";
import { chmodSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import { afterEach, expect, test } from "vitest";
import { killAllIn, processesIn } from "../support/processes.ts";

const demo = fileURLToPath(new URL("../../scripts/demo.mjs", import.meta.url));
const full = process.env["MANATEE_TEST_FULL"] === "1";

let folder: string | undefined;

afterEach(async () => {
  if (folder === undefined) return;
  await killAllIn(folder);
  rmSync(folder, { recursive: true, force: true });
  folder = undefined;
});

const ways = [[], ["--embedded"], ...(full ? [["--zookeeper"], ["--zookeeper", "--embedded"]] : [])];

test.each(ways.map((options) => ({ options, how: options.join(" ") || "as it is" })))(
  "the demonstration loses nothing acknowledged (I1), ends by itself and leaves nothing: $how",
  async ({ options }) => {
    folder = mkdtempSync(`${tmpdir()}/mdt-`);
    chmodSync(folder, 0o1777);

    const { status, output } = await runDemo(options, folder);

    expect(output).toMatch(/has taken over: [\d,]+ ms after the kill/);
    expect(output).toMatch(/is back in the chain: [\d,]+ ms after its start/);
    expect(output.match(/holds all [\d,]+ acknowledged writes/g), output).toHaveLength(3);
    expect(output).not.toContain("LACKS");
    expect(status, output).toBe(0);
    expect(readdirSync(folder).filter((name) => name.startsWith("manatee-"))).toEqual([]);
    expect(processesIn(folder).filter(({ args }) => !args.some((arg) => arg.endsWith("watchdog.mjs")))).toEqual([]);
  },
);

function runDemo(options: readonly string[], temporary: string): Promise<{ status: number | null; output: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [demo, "--auto", ...options], {
      env: { ...process.env, TMPDIR: temporary, NO_COLOR: "1" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const chunks: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => chunks.push(chunk));
    child.on("close", (status) => resolve({ status, output: Buffer.concat(chunks).toString("utf8") }));
  });
}
