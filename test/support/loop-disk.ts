// A file system for one test file: in a file behind a loop device of its own, mounted in a temporary folder. Needs root.

import { execFile, execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, open, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { untilDone } from "./zfs-pool.ts";

const run = promisify(execFile);

/** undefined: there can be one. */
export function whyNoLoopDisk(name: string, programs: readonly string[]): string | undefined {
  if (process.getuid?.() !== 0) return `mounting ${name} is root's`;
  if (!existsSync("/dev/loop-control")) return "this machine has no loop devices (/dev/loop-control)";
  for (const program of [...programs, "losetup"])
    try {
      execFileSync("which", [program], { stdio: "ignore", env: environment() });
    } catch {
      return `${program} is not installed`;
    }
  return undefined;
}

function environment(): NodeJS.ProcessEnv {
  return { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` };
}

export interface LoopDisk {
  /** Where it is mounted; readable by everybody. */
  readonly folder: string;
  close(): Promise<void>;
}

/** `make`: what makes the file system, before the file's path; `folder`: at which it is mounted, where not at one of its own. */
export async function openLoopDisk({
  type,
  megabytes,
  make,
  folder: given,
}: {
  type: string;
  megabytes: number;
  make: readonly [string, ...string[]];
  folder?: string | undefined;
}): Promise<LoopDisk> {
  const env = environment();
  const place = await mkdtemp(join(tmpdir(), `manatee-${type}-`));
  await chmod(place, 0o755);
  const undo: (() => Promise<unknown>)[] = [() => rm(place, { recursive: true, force: true })];
  const close = async () => {
    for (let step = undo.pop(); step; step = undo.pop()) await step();
  };
  try {
    const image = join(place, "image");
    const file = await open(image, "w");
    await file.truncate(megabytes * 1024 * 1024);
    await file.close();
    const [program, ...args] = make;
    await run(program, [...args, image], { env });
    const device = (await run("losetup", ["--find", "--show", image], { env })).stdout.trim();
    undo.push(() => untilDone(() => run("losetup", ["--detach", device], { env })));
    const folder = given ?? join(place, "disk");
    await mkdir(folder, { recursive: true });
    await run("mount", ["-t", type, device, folder], { env });
    undo.push(() => untilDone(() => unmountIfThere(folder)));
    return { folder, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function unmountIfThere(folder: string): Promise<void> {
  if ((await readFile("/proc/self/mounts", "utf8")).includes(` ${folder} `)) await run("umount", [folder]);
}
