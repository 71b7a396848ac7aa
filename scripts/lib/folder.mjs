// The one folder of a demonstration, below the system's temporary folder: everything that it writes is there, and every process of it can be
// told by it. Whoever ends it, in whatever way, the folder and the processes go: at the end, by the watchdog, or when the next one starts.

import { spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { canReach } from "./user.mjs";

/** In the environment of each process that we start, and of what those start: the folder is their home. */
export const FOLDER_VARIABLE = "HOME";

const prefix = "manatee-demo-";

/** A Unix socket's path holds about 100 bytes: the folder's must leave room. */
const longestBase = 40;

/** Makes the folder, and starts the watchdog that removes it (`keep`: ends its processes only) should this process be killed. */
export function makeFolder(user, { keep = false } = {}) {
  const base = [tmpdir(), "/tmp"].find((path) => path.length <= longestBase && canReach(user, path, { write: true }));
  if (!base) throw new Error(`neither ${tmpdir()} nor /tmp can be written by ${user?.name ?? "you"}`);
  removeLeftovers(base, user);
  const folder = mkdtempSync(join(base, prefix));
  chmodSync(folder, 0o755);
  writeFileSync(join(folder, "owner"), JSON.stringify({ pid: process.pid, started: startOf(process.pid) }));
  const watchdog = spawn(
    process.execPath,
    [fileURLToPath(new URL("../watchdog.mjs", import.meta.url)), folder, ...(keep ? ["--keep"] : [])],
    {
      cwd: "/",
      detached: true,
      stdio: ["pipe", "ignore", "ignore"],
    },
  );
  watchdog.unref();
  watchdog.stdin.unref();
  watchdog.stdin.on("error", () => undefined);
  return folder;
}

/** Ends every process of the folder and removes it. Synchronous, so that it can be the last thing that a process does. */
export function removeFolder(folder, { keep = false } = {}) {
  // First what would start or restart others, at once; then PostgreSQL, in a way that lets it give back its shared memory.
  for (const { pid } of processesOf(folder).filter(({ name }) => name !== "postgres")) signal(pid, "SIGKILL");
  for (const { pid } of processesOf(folder).filter(isPostmaster)) {
    signal(pid, "SIGCONT");
    signal(pid, "SIGQUIT");
  }
  for (let round = 0; round < 400 && processesOf(folder).length > 0; round++) {
    if (round >= 150) for (const { pid } of processesOf(folder)) signal(pid, "SIGKILL");
    sleep(20);
  }
  for (const id of sharedMemoryOf(folder)) spawnSync("ipcrm", ["-m", id], { stdio: "ignore" });
  // Without its owner's file the next one does not take it for a leftover.
  rmSync(keep ? join(folder, "owner") : folder, { recursive: true, force: true, maxRetries: 5 });
}

/** Folders whose owner is gone. */
function removeLeftovers(base, user) {
  for (const name of readdirSync(base).filter((entry) => entry.startsWith(prefix))) {
    const folder = join(base, name);
    try {
      const { uid } = statSync(folder);
      if (uid !== process.getuid() && uid !== user?.uid) continue;
      // Without its owner's file it is being made at this moment, or being removed.
      if (!existsSync(join(folder, "owner"))) continue;
      const { pid, started } = JSON.parse(readFileSync(join(folder, "owner"), "utf8"));
      if (startOf(pid) !== started) removeFolder(folder);
    } catch {
      // Gone meanwhile, or not ours to judge.
    }
  }
}

/** System V segments of servers that were killed hard: their pid files still stand, and name the segment in the seventh line. */
function sharedMemoryOf(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true })
    .map(({ name }) => join(folder, name, "data/postmaster.pid"))
    .filter((file) => existsSync(file))
    .map((file) => readFileSync(file, "utf8").split("\n")[6]?.trim().split(/\s+/)[1])
    .filter((id) => id !== undefined);
}

function processesOf(folder) {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => describe(Number(name)))
    .filter(
      (found) => found !== undefined && found.pid !== process.pid && found.state !== "Z" && belongsTo(found, folder),
    );
}

/** PostgreSQL overwrites its environment, but always works in its data directory; a person's shell in the folder is left alone. */
function belongsTo({ name, cwd, environment }, folder) {
  const marked = environment.split("\0").includes(`${FOLDER_VARIABLE}=${folder}`);
  return marked || (name === "postgres" && cwd.startsWith(`${folder}/`));
}

function isPostmaster({ name, parentName }) {
  return name === "postgres" && parentName !== "postgres";
}

function describe(pid) {
  try {
    const { name, state, parent } = statOf(pid);
    return {
      pid,
      name,
      state,
      cwd: readlinkSync(`/proc/${pid}/cwd`),
      environment: readFileSync(`/proc/${pid}/environ`, "latin1"),
      parentName: nameOf(parent),
    };
  } catch {
    return undefined;
  }
}

function nameOf(pid) {
  try {
    return statOf(pid).name;
  } catch {
    return "";
  }
}

/** When the process started, in the kernel's ticks; undefined: there is none. */
function startOf(pid) {
  try {
    return statOf(pid).started;
  } catch {
    return undefined;
  }
}

function statOf(pid) {
  const text = readFileSync(`/proc/${pid}/stat`, "latin1");
  const end = text.lastIndexOf(")");
  const fields = text.slice(end + 2).split(" ");
  return {
    name: text.slice(text.indexOf("(") + 1, end),
    state: fields[0],
    parent: Number(fields[1]),
    started: fields[19],
  };
}

function signal(pid, name) {
  try {
    process.kill(pid, name);
  } catch {
    // It is gone, which is what was wanted.
  }
}

function sleep(ms) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
