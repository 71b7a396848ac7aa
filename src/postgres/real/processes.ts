// What runs on a data directory, read from /proc: the only file that knows how Linux shows processes.

import { readFileSync } from "node:fs";
import { readFile, readdir, readlink } from "node:fs/promises";
import { basename } from "node:path";

/** The letter of /proc/PID/stat (`T`: stopped by a signal); undefined: no such process. */
export async function processState(pid: number): Promise<string | undefined> {
  return (await statFields(pid))?.[0];
}

/** A zombie counts as dead: it holds neither sockets nor shared memory any more. */
export async function isAlive(pid: number): Promise<boolean> {
  const state = await processState(pid);
  return state !== undefined && state !== "Z" && state !== "X";
}

/** {@link isAlive} for a poll: /proc answers from memory, and a synchronous read costs a fiftieth of an awaited one. */
export function isAliveNow(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const state = stat.charAt(stat.lastIndexOf(")") + 2);
    return state !== "Z" && state !== "X";
  } catch {
    return false;
  }
}

/**
 * PostgreSQL processes whose working directory is that data directory: postmaster and backends, orphaned ones too (they are in
 * sessions of their own, so that no process group finds them). `dataDir`: a real path.
 */
export async function postgresProcessesOn(dataDir: string): Promise<number[]> {
  const found: number[] = [];
  for (const pid of await allProcesses()) {
    if ((await workingDirectory(pid)) === dataDir && (await isPostgres(pid)) && (await isAlive(pid))) found.push(pid);
  }
  return found;
}

/** Programs that we run to their end, and that work in that folder of ours (a real path). */
export async function programsIn(folder: string): Promise<number[]> {
  const found: number[] = [];
  for (const pid of await allProcesses()) {
    if ((await workingDirectory(pid)) !== folder) continue;
    const exe = basename((await linkTarget(`/proc/${pid}/exe`)) ?? "");
    if (/^(initdb|pg_rewind|postgres|cp|du|sync)\b/.test(exe) && (await isAlive(pid))) found.push(pid);
  }
  return found;
}

async function allProcesses(): Promise<number[]> {
  const pids = (await readdir("/proc")).map(Number);
  return pids.filter((pid) => Number.isInteger(pid) && pid > 1 && pid !== process.pid);
}

export async function workingDirectory(pid: number): Promise<string | undefined> {
  const cwd = await linkTarget(`/proc/${pid}/cwd`);
  return cwd?.replace(/ \(deleted\)$/, "");
}

/** By its executable: an operator's shell in the data directory is nobody's backend. A replaced binary shows as "(deleted)". */
export async function isPostgres(pid: number): Promise<boolean> {
  const exe = await linkTarget(`/proc/${pid}/exe`);
  return exe !== undefined && basename(exe).startsWith("postgres");
}

/**
 * Backends of clients from the network that are not let in yet: pg_stat_activity does not show them. By what PostgreSQL writes over its arguments: `postgres: USER
 * DATABASE HOST(PORT) authentication`; the first words are whatever `cluster_name` says.
 */
export async function backendsNotLetIn(postmaster: number): Promise<number[]> {
  const children = await readFile(`/proc/${postmaster}/task/${postmaster}/children`, "utf8").catch(() => "");
  const found: number[] = [];
  for (const pid of children.trim().split(" ").filter(Boolean).map(Number)) {
    const [title = ""] = await commandLine(pid);
    if (/\(\d+\) (initializing|authentication|startup)\s*$/.test(title) && !/ walsender /.test(title)) found.push(pid);
  }
  return found;
}

export async function commandLine(pid: number): Promise<string[]> {
  try {
    return (await readFile(`/proc/${pid}/cmdline`, "utf8")).split("\0");
  } catch {
    return [];
  }
}

/** false: there is no such process any more. */
export function signalProcess(pid: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch {
    return false;
  }
}

/** The fields behind the command name, which may itself contain blanks and brackets. */
async function statFields(pid: number): Promise<string[] | undefined> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, "utf8");
    return text.slice(text.lastIndexOf(")") + 2).split(" ");
  } catch {
    return undefined;
  }
}

async function linkTarget(path: string): Promise<string | undefined> {
  try {
    return await readlink(path);
  } catch {
    return undefined;
  }
}
