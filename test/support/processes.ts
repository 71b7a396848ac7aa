// Processes of a test, found in /proc by their working folder or their arguments; ended by pid, never by name.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export interface ProcessEntry {
  readonly pid: number;
  readonly parent: number;
  /** As in /proc/PID/stat: `R`, `S`, `T` (stopped), `Z` (a zombie: dead) … */
  readonly state: string;
  readonly cwd: string | undefined;
  readonly args: readonly string[];
  readonly startedAt: string;
}

/** All that run, without zombies. */
export function listProcesses(): readonly ProcessEntry[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => readProcess(Number(name)))
    .filter((entry): entry is ProcessEntry => entry !== undefined && entry.state !== "Z" && entry.state !== "X");
}

/** undefined: there is none of that pid. */
export function readProcess(pid: number): ProcessEntry | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name stands in parentheses and may hold any character.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").filter(Boolean);
    return {
      pid,
      parent: Number(fields[1]),
      state: fields[0] ?? "?",
      cwd: readCwd(pid),
      args,
      startedAt: fields[19] ?? "",
    };
  } catch {
    return undefined;
  }
}

function readCwd(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/cwd`).replace(/ \(deleted\)$/, "");
  } catch {
    return undefined;
  }
}

export function isAlive(pid: number): boolean {
  const entry = readProcess(pid);
  return entry !== undefined && entry.state !== "Z" && entry.state !== "X";
}

/** Those whose working folder or arguments lie in the folder. */
export function processesIn(folder: string): readonly ProcessEntry[] {
  const within = (path: string) => path === folder || path.startsWith(`${folder}/`);
  return listProcesses().filter(
    ({ pid, cwd, args }) =>
      pid !== process.pid &&
      ((cwd !== undefined && within(cwd)) || args.some((arg) => arg.includes(`${folder}/`) || arg.endsWith(folder))),
  );
}

/** That process and all that descend from it. */
export function treeOf(pid: number): readonly ProcessEntry[] {
  const all = listProcesses();
  const tree: ProcessEntry[] = all.filter((entry) => entry.pid === pid);
  for (let i = 0; i < tree.length; i++) tree.push(...all.filter(({ parent }) => parent === tree[i]?.pid));
  return tree;
}

/** Sends the signal; false if there was no such process. */
export function signal(pid: number, name: NodeJS.Signals): boolean {
  try {
    process.kill(pid, name);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
    throw error;
  }
}

/** True when it is gone within the limit. */
export async function waitGone(pid: number, limitMs: number): Promise<boolean> {
  const until = performance.now() + limitMs;
  while (isAlive(pid)) {
    if (performance.now() > until) return false;
    await sleep(10);
  }
  return true;
}

/** Ends all of the folder (children that appear meanwhile, too), by SIGKILL. Returns those that were there. */
export async function killAllIn(folder: string, limitMs = 10_000): Promise<readonly ProcessEntry[]> {
  const killed = new Map<number, ProcessEntry>();
  const until = performance.now() + limitMs;
  for (;;) {
    // One that is about to end shows neither folder nor arguments any more, and is there all the same.
    const dying = [...killed.values()].filter(
      ({ pid, startedAt }) => isAlive(pid) && readProcess(pid)?.startedAt === startedAt,
    );
    const present = [...processesIn(folder), ...dying];
    if (present.length === 0) return [...killed.values()];
    if (performance.now() > until)
      throw new Error(`processes of ${folder} survive SIGKILL: ${present.map(describe).join("; ")}`);
    for (const entry of present) {
      killed.set(entry.pid, entry);
      signal(entry.pid, "SIGKILL");
    }
    await sleep(20);
  }
}

export function describe({ pid, state, args, cwd }: ProcessEntry): string {
  return `${pid} (${state}) ${args.join(" ").slice(0, 160)} in ${cwd ?? "?"}`;
}
