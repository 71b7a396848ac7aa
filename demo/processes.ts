// Starting and ending processes of the demonstration, always by pid. Their folder stands in the environment that they inherit, by which
// scripts/lib/folder.mjs finds them should this process be killed.

import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { createServer } from "node:net";

export interface Started {
  readonly process: ChildProcess;
  readonly pid: number;
  readonly exited: Promise<void>;
}

/** In a session of its own, so that a Ctrl-C of the terminal reaches it only through us. Output is appended to the file. */
export function start(command: string, args: readonly string[], { cwd, log }: { cwd: string; log: string }): Started {
  const output = openSync(log, "a");
  try {
    const child = spawn(command, args, { cwd, detached: true, stdio: ["ignore", output, output] });
    if (child.pid === undefined) throw new Error(`${command} could not be started`);
    const exited = new Promise<void>((resolve) => {
      child.on("exit", () => resolve());
      child.on("error", () => resolve());
    });
    return { process: child, pid: child.pid, exited };
  } finally {
    closeSync(output);
  }
}

/** Pids of the processes whose working folder is this one. */
export function workingIn(folder: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => pid !== process.pid && cwdOf(pid) === folder);
}

function cwdOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return undefined;
  }
}

/** SIGKILL; a process that is gone already is what was wanted. */
export function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** The last lines of a log, for a person who has to find out why. */
export function tailOf(log: string, lines: number): string[] {
  try {
    return readFileSync(log, "utf8").trimEnd().split("\n").slice(-lines);
  } catch {
    return [];
  }
}

/** The first of these ports from which on `count` in a row are free; the system's choice where the usual ones are taken. */
export async function freePorts(count: number, from: number): Promise<number> {
  for (let first = from; first < from + 20 * count; first += count)
    if ((await Promise.all(Array.from({ length: count }, (_, i) => isFree(first + i)))).every(Boolean)) return first;
  throw new Error(`no ${count} free ports in a row between ${from} and ${from + 20 * count}`);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host: "127.0.0.1" }, () => server.close(() => resolve(true)));
  });
}
