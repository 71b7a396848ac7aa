// A real ZFS for one test file: a zfs-fuse of its own, with a pool in a file. Needs root. Sitters that run as another user reach it through sudo, and see
// its mounts like everybody. The daemon answers at one place on a machine: one file at a time has it.

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtemp, open, readFile, rm } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Why there is none here, so that a suite can be left out; undefined: as root there must be one, and a test fails without. */
export const noZfs: string | undefined = process.getuid?.() !== 0 ? "zfs-fuse runs as root only" : undefined;

export interface ZfsPool {
  /** Its root dataset. */
  readonly name: string;
  /** Where it is mounted; readable by everybody. */
  readonly folder: string;
  readonly program: string;
  close(): Promise<void>;
}

const START_LIMIT_MS = 60_000;
const END_LIMIT_MS = 20_000;

/**
 * Ends with the process that started it, however that ends: one that hangs, and is left, would hang whoever comes next. First in the queue for a processor: a
 * command passes through dozens of its threads one after the other, and beside other tests each would wait its turn (measured: ten times as long).
 */
const DAEMON = "setpriv --pdeathsig KILL nice -n -20 zfs-fuse --no-daemon --no-kstat-mount -a 1 -e 1".split(" ");

/** `megabytes`: of the pool, at least 64. */
export async function openZfsPool({ megabytes = 256 } = {}): Promise<ZfsPool> {
  if (noZfs !== undefined) throw new Error(noZfs);
  const alone = await onlyOne();
  const place = await mkdtemp(join(tmpdir(), "manatee-zfs-"));
  const daemon = await startDaemon(place);
  const name = `manatee${process.pid}x${Math.floor(Math.random() * 1e9).toString(36)}`;
  const device = join(place, "device");
  const file = await open(device, "w");
  await file.truncate(megabytes * 1024 * 1024);
  await file.close();
  await run("chmod", ["755", place]);
  const folder = join(place, "pool");
  // Not in the machine's cache of pools: the next daemon would look for it. Where its file can't be written, calls fail instead of waiting.
  await run("zpool", ["create", "-o", "cachefile=none", "-o", "failmode=continue", "-m", folder, name, device]);
  return {
    name,
    folder,
    program: "/usr/sbin/zfs",
    async close() {
      try {
        await untilDone(() => run("zpool", ["destroy", "-f", name], { timeout: END_LIMIT_MS }));
      } finally {
        await endDaemon(daemon);
        alone.close();
        await unmountAll(name);
        await rm(place, { recursive: true, force: true });
      }
    },
  };
}

/** An address without a file: it is free again when its process ends. */
async function onlyOne(): Promise<Server> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", () => reject(new Error("another test has zfs-fuse: run one after the other")));
    server.listen("\0manatee-test-zfs", resolve);
  });
  server.unref();
  return server;
}

async function answers(): Promise<boolean> {
  return run("zpool", ["list", "-H"], { timeout: 5000 }).then(
    () => true,
    () => false,
  );
}

/** One that is just ending keeps a new one from starting. */
async function startDaemon(place: string): Promise<ChildProcess> {
  if (await answers()) throw new Error("a zfs-fuse that is not of these tests runs already: end it first");
  const until = performance.now() + START_LIMIT_MS;
  while (performance.now() < until) {
    const log = await open(join(place, "daemon.log"), "a");
    const [program = "", ...args] = DAEMON;
    const daemon = spawn(program, args, { stdio: ["ignore", log.fd, log.fd] });
    await log.close();
    while (daemon.exitCode === null && performance.now() < until) {
      if (await answers()) return daemon;
      await sleep(50);
    }
    daemon.kill("SIGKILL");
    await sleep(200);
  }
  throw new Error(`zfs-fuse does not start: ${await readFile(join(place, "daemon.log"), "utf8")}`);
}

/** By force where it doesn't end: whoever waits for a file of it waits for ever otherwise. */
async function endDaemon(daemon: ChildProcess): Promise<void> {
  const gone = new Promise<void>((resolve) => daemon.once("exit", () => resolve()));
  if (daemon.exitCode !== null || daemon.signalCode !== null) return;
  daemon.kill("SIGTERM");
  const force = setTimeout(() => daemon.kill("SIGKILL"), END_LIMIT_MS);
  await gone;
  clearTimeout(force);
}

/** What a daemon that was ended by force leaves. */
async function unmountAll(pool: string): Promise<void> {
  const mounts = (await readFile("/proc/mounts", "utf8")).split("\n").map((line) => line.split(" "));
  for (const [dataset = "", folder = ""] of mounts.toReversed())
    if (dataset === pool || dataset.startsWith(`${pool}/`)) await run("umount", ["-l", folder]);
}

/** What a process that is just ending may still be in the way of. */
export async function untilDone(action: () => Promise<unknown>): Promise<void> {
  const until = performance.now() + START_LIMIT_MS;
  for (;;) {
    try {
      await action();
      return;
    } catch (error) {
      if (performance.now() > until) throw error;
      await sleep(100);
    }
  }
}
