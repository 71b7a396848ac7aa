// The lock between containers: holders in pid namespaces of their own, on one folder.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { takeLock } from "../../src/world/real/lock.ts";
import { type Compiled, compile } from "../support/compile.ts";

const isRoot = process.getuid?.() === 0;

describe.skipIf(!isRoot)("the lock, held in another pid namespace (skipped but for root, who may make one)", () => {
  let compiled: Compiled;
  let folder: string;
  let path: string;
  const children = new Set<ChildProcess>();

  beforeAll(async () => {
    compiled = await compile(["src/world/real/lock.ts"]);
  });
  afterAll(() => compiled.remove());
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "manatee-lock-"));
    path = join(folder, "lock");
  });
  afterEach(async () => {
    for (const child of children) await end(child);
    await rm(folder, { recursive: true, force: true });
  });

  /** A process with a small pid in namespaces of its own, of the network as well: what it says, `held` or an error's code and message, and its end. */
  async function container(): Promise<{ readonly said: string; readonly child: ChildProcess }> {
    const script = `
      import { takeLock } from ${JSON.stringify(pathToFileURL(join(compiled.folder, "src/world/real/lock.js")).href)};
      await takeLock(${JSON.stringify(path)}).then(
        () => { console.log("held"); setInterval(() => {}, 60_000); },
        ({ code, message }) => console.log(code + " " + message),
      );
    `;
    const command = ["--pid", "--net", "--fork", "--kill-child", "--mount-proc", process.execPath];
    const child = spawn("unshare", [...command, "--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    children.add(child);
    const [said] = (await once(child.stdout, "data")) as [Buffer];
    return { said: said.toString().trim(), child };
  }

  /** At once, without any order: unshare's child is killed with it. */
  async function end(child: ChildProcess): Promise<void> {
    children.delete(child);
    if (child.exitCode !== null || child.signalCode !== null) return;
    const closed = once(child, "close");
    child.kill("SIGKILL");
    await closed;
  }

  it("is held as long as its holder lives, and taken over once it was killed, from wherever", async () => {
    const first = await container();
    expect(first.said).toBe("held");
    await expect(takeLock(path)).rejects.toMatchObject({
      code: "SITTER_ALREADY_RUNNING",
      message: expect.stringContaining("of another container holds") as string,
    });
    expect((await container()).said).toMatch(/^SITTER_ALREADY_RUNNING .* of another container holds/);
    await end(first.child);
    const second = await container();
    expect(second.said, "a container that starts again").toBe("held");
    await end(second.child);
    const held = await takeLock(path);
    expect((await container()).said).toMatch(/^SITTER_ALREADY_RUNNING/);
    held.release();
    expect(await readdir(folder), "nothing is left of those that were killed").toEqual([]);
  });

  it("is held also by one that is frozen, however many ask", async () => {
    const { said, child } = await container();
    expect(said).toBe("held");
    const children = await readFile(`/proc/${child.pid}/task/${child.pid}/children`, "utf8");
    const holder = Number(children.trim());
    process.kill(holder, "SIGSTOP");
    try {
      for (let i = 0; i < 600; i++)
        await expect(takeLock(path)).rejects.toMatchObject({
          message: expect.stringContaining("container holds") as string,
        });
    } finally {
      process.kill(holder, "SIGCONT");
    }
  });

  it("counts as held where there is no socket to ask, and the way out is named; not that of before a reboot", async () => {
    const { child } = await container();
    const [pid, started, namespace] = (await readFile(path, "utf8")).split(" ");
    await end(child);
    await writeFile(path, `${pid} ${started} ${namespace} -\n`);
    await expect(takeLock(path)).rejects.toMatchObject({
      message: expect.stringContaining("may hold") as string,
      hint: expect.stringContaining(`remove ${path}`) as string,
    });
    await writeFile(path, `${pid} another-boot-1 ${namespace} -\n`);
    (await takeLock(path)).release();
  });
});
