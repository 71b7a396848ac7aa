// One process for one data directory. The lock is a file that names its holder by pid *and* start time, so that a pid that was given
// to another process after a crash or a reboot does not hold it.

import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { ManateeError } from "../../base/errors.ts";

/** Two processes can find the same dead holder; each try looks afresh. */
const TRIES_MAX = 5;

export interface HeldLock {
  release(): void;
}

/** @throws `SITTER_ALREADY_RUNNING`, `FILE_UNWRITABLE` */
export function takeLock(path: string): HeldLock {
  const mine = `${process.pid} ${startTime(process.pid) ?? "unknown"}\n`;
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    if (create(path, mine)) return { release: () => release(path, mine) };
    const theirs = contentOf(path);
    if (theirs === undefined) continue;
    const pid = Number(theirs.split(" ")[0]);
    if (isHeld(theirs)) throw alreadyRunning(path, pid);
    moveAway(path, theirs);
  }
  throw alreadyRunning(path, undefined);
}

function create(path: string, content: string): boolean {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    writeFileSync(path, content, { flag: "wx", mode: 0o600 });
    return true;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw new ManateeError({
      code: "FILE_UNWRITABLE",
      message: `cannot write ${path}`,
      remedy: "operator",
      hint: "Give the user that runs the sitter write access to the folder.",
      cause,
    });
  }
}

function contentOf(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

/** Whether the process it names is still that process. */
function isHeld(content: string): boolean {
  const [pid, started] = content.trim().split(" ");
  if (!/^[1-9]\d*$/.test(pid ?? "") || started === undefined) return false;
  return startTime(Number(pid)) === started;
}

/** By renaming, which only one process can do to a file; one that was meanwhile made anew by another is put back. */
function moveAway(path: string, seen: string): void {
  const aside = `${path}.${process.pid}.old`;
  try {
    renameSync(path, aside);
    if (contentOf(aside) !== seen) renameSync(aside, path);
  } catch {
    // Another process was quicker: the next try shows what it left.
  }
  rmSync(aside, { force: true });
}

function release(path: string, mine: string): void {
  if (contentOf(path) === mine) rmSync(path, { force: true });
}

/** Boot and clock ticks since it at which the process began; undefined: there is none (a zombie is none), or /proc is not there. */
function startTime(pid: number): string | undefined {
  const stat = contentOf(`/proc/${pid}/stat`);
  const boot = contentOf("/proc/sys/kernel/random/boot_id")?.trim();
  if (stat === undefined) return undefined;
  // Behind the command's name, which is in parentheses and may hold anything: state is the 1st field, starttime the 20th.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" ? undefined : `${boot ?? "unknown"}-${fields[19]}`;
}

function alreadyRunning(path: string, pid: number | undefined): ManateeError {
  return new ManateeError({
    code: "SITTER_ALREADY_RUNNING",
    message: `${pid === undefined ? "another sitter" : `a sitter with pid ${pid}`} holds ${path}`,
    remedy: "operator",
    hint: "Stop the other sitter of this data directory, or give this one a data directory and a stateDir of its own.",
  });
}
