// One process for one data directory. The lock is a file that names its holder by pid *and* start time, so that a pid that was given
// to another process after a crash or a reboot does not hold it. A holder in another pid namespace (a container that shares the folder) can't be looked at by its pid:
// it listens on a socket beside the file as long as it lives, also when it is frozen, and the kernel refuses a connection once it is dead.

import { randomBytes } from "node:crypto";
import { closeSync, mkdirSync, openSync, readFileSync, readlinkSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { basename, dirname, join } from "node:path";
import { ManateeError } from "../../base/errors.ts";

/** Two processes can find the same dead holder; each try looks afresh. */
const TRIES_MAX = 5;
/** In place of a socket's name: the file system takes none. */
const NO_SOCKET = "-";

export interface HeldLock {
  release(): void;
}

/** `holder`: what is there once only. @throws `SITTER_ALREADY_RUNNING`, `SNAPSHOTTER_ALREADY_RUNNING`, `FILE_UNWRITABLE` */
export async function takeLock(path: string, holder: "sitter" | "snapshotter" = "sitter"): Promise<HeldLock> {
  makeFolder(path);
  // Before the file that names it: whoever reads that finds somebody who listens.
  const sign = await listenBeside(path);
  const mine = `${[process.pid, startTime(process.pid) ?? "unknown", pidNamespace(), sign?.name ?? NO_SOCKET].join(" ")}\n`;
  try {
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      if (create(path, mine))
        return {
          release: () => {
            release(path, mine);
            sign?.end();
          },
        };
      const theirs = contentOf(path);
      if (theirs === undefined) continue;
      const found = parse(theirs);
      const held = found && (await isHeld(path, found));
      if (held) throw alreadyRunning(path, { found, holder, surely: held === "surely" });
      moveAway(path, { seen: theirs, socket: found?.socket });
    }
    throw alreadyRunning(path, { found: undefined, holder, surely: true });
  } catch (error) {
    sign?.end();
    throw error;
  }
}

interface Holder {
  readonly pid: number;
  readonly started: string;
  readonly namespace: string;
  readonly socket: string;
}

/** undefined: nobody of ours has written that. */
function parse(content: string): Holder | undefined {
  const [pid, started, namespace, socket] = content.trim().split(" ");
  if (!/^[1-9]\d*$/.test(pid ?? "") || started === undefined) return undefined;
  // Of a version before, which did not write down the rest.
  return { pid: Number(pid), started, namespace: namespace ?? pidNamespace(), socket: socket ?? NO_SOCKET };
}

/** Whether the process it names is still that process. `perhaps`: it can't be found out. */
async function isHeld(
  path: string,
  { pid, started, namespace, socket }: Holder,
): Promise<false | "surely" | "perhaps"> {
  if (namespace === pidNamespace()) return startTime(pid) === started && "surely";
  // Of before a reboot.
  if (!started.startsWith(`${bootId()}-`)) return false;
  if (basename(socket) !== socket || socket === NO_SOCKET) return "perhaps";
  return inFolder(path, (folder) => answers(join(folder, socket))).catch(() => "perhaps" as const);
}

function answers(socketPath: string): Promise<false | "surely" | "perhaps"> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    socket.once("connect", () => {
      socket.destroy();
      resolve("surely");
    });
    // Its queue is full (EAGAIN): somebody listens, and sleeps.
    socket.once("error", ({ code }: NodeJS.ErrnoException) => {
      resolve(code === "ECONNREFUSED" ? false : code === "EAGAIN" ? "surely" : "perhaps");
    });
  });
}

/** A socket that only has to be there. undefined: none can be made on this file system. */
async function listenBeside(path: string): Promise<{ readonly name: string; end(): void } | undefined> {
  const name = `${basename(path)}.${randomBytes(6).toString("hex")}.socket`;
  const server = createServer((socket) => socket.destroy());
  const listens = await inFolder(
    path,
    (folder) =>
      new Promise<boolean>((resolve) => {
        server.on("error", () => resolve(false));
        server.listen(join(folder, name), () => resolve(true));
      }),
  ).catch(() => false);
  if (!listens) return undefined;
  server.unref();
  return {
    name,
    end: () => {
      // This removes the name, too, in whatever folder has the number by now: the name is nobody else's.
      server.close();
      rmSync(join(dirname(path), name), { force: true });
    },
  };
}

/** A socket's path is 107 bytes at most: by the open folder's it is short, however long the folder's own is. */
async function inFolder<T>(path: string, work: (folder: string) => Promise<T>): Promise<T> {
  const folder = openSync(dirname(path), "r");
  try {
    return await work(`/proc/self/fd/${folder}`);
  } finally {
    closeSync(folder);
  }
}

function makeFolder(path: string): void {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw unwritable(path, cause);
  }
}

function create(path: string, content: string): boolean {
  try {
    writeFileSync(path, content, { flag: "wx", mode: 0o600 });
    return true;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw unwritable(path, cause);
  }
}

function unwritable(path: string, cause: unknown): ManateeError {
  return new ManateeError({
    code: "FILE_UNWRITABLE",
    message: `cannot write ${path}`,
    remedy: "operator",
    hint: "Give the user that runs this process write access to the folder.",
    cause,
  });
}

function contentOf(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

/** By renaming, which only one process can do to a file; one that was meanwhile made anew by another is put back. */
function moveAway(path: string, { seen, socket = NO_SOCKET }: { seen: string; socket: string | undefined }): void {
  // Processes of two containers may have the same pid.
  const aside = `${path}.${randomBytes(6).toString("hex")}.old`;
  try {
    renameSync(path, aside);
    if (contentOf(aside) === seen) {
      if (basename(socket) === socket && socket !== NO_SOCKET) rmSync(join(dirname(path), socket), { force: true });
    } else renameSync(aside, path);
  } catch {
    // Another process was quicker: the next try shows what it left.
  }
  rmSync(aside, { force: true });
}

function release(path: string, mine: string): void {
  if (contentOf(path) === mine) rmSync(path, { force: true });
}

function bootId(): string {
  return contentOf("/proc/sys/kernel/random/boot_id")?.trim() ?? "unknown";
}

/** Its number goes to another one only once all its processes are dead. */
function pidNamespace(): string {
  try {
    return readlinkSync("/proc/self/ns/pid");
  } catch {
    return "unknown";
  }
}

/** Boot and clock ticks since it at which the process began; undefined: there is none (a zombie is none), or /proc is not there. */
function startTime(pid: number): string | undefined {
  const stat = contentOf(`/proc/${pid}/stat`);
  if (stat === undefined) return undefined;
  // Behind the command's name, which is in parentheses and may hold anything: state is the 1st field, starttime the 20th.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" ? undefined : `${bootId()}-${fields[19]}`;
}

function alreadyRunning(
  path: string,
  { found, holder, surely }: { found: Holder | undefined; holder: "sitter" | "snapshotter"; surely: boolean },
): ManateeError {
  const isSitter = holder === "sitter";
  const who = found === undefined ? `another ${holder}` : `a ${holder} with pid ${found.pid}`;
  const where = found === undefined || found.namespace === pidNamespace() ? "" : " of another container";
  const stop = isSitter
    ? "Stop the other sitter of this data directory, or give this one a data directory and a stateDir of its own"
    : "Stop the other snapshotter of this dataset: one is enough";
  return new ManateeError({
    code: isSitter ? "SITTER_ALREADY_RUNNING" : "SNAPSHOTTER_ALREADY_RUNNING",
    message: `${who}${where} ${surely ? "holds" : "may hold"} ${path}`,
    remedy: "operator",
    hint: surely
      ? `${stop}.`
      : `${stop}. If it surely runs no more, remove ${path}: whether it does can't be seen from here.`,
  });
}
