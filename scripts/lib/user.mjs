// PostgreSQL refuses to run as root, and so does the sitter: as whom they run when root types the command, and what that user can reach.

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { CannotGoOn } from "./say.mjs";

/** `undefined`: nothing to drop, we are not root. Otherwise an unprivileged user of this machine: `postgres` if there is one, else `nobody`. */
export function unprivilegedUser() {
  if (process.getuid() !== 0) return undefined;
  const users = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .map((line) => line.split(":"))
    .map(([name, , uid, gid]) => ({ name, uid: Number(uid), gid: Number(gid) }));
  const found = ["postgres", "nobody"]
    .map((name) => users.find((user) => user.name === name && user.uid > 0))
    .find(Boolean);
  if (!found)
    throw new CannotGoOn("Running as root, and there is neither a user `postgres` nor `nobody` to run PostgreSQL as.");
  return found;
}

/** Whether that user can read all of the folder's way down to the file, and (as a folder) write there. */
export function canReach(user, path, { write = false } = {}) {
  if (!user) return true;
  const test = spawnSync("test", [write ? "-w" : "-r", path], { uid: user.uid, gid: user.gid, cwd: "/" });
  return test.status === 0;
}

/** Whether that user can run this very Node (it may lie in root's home). */
export function canRunNode(user) {
  if (!user) return true;
  return spawnSync(process.execPath, ["--version"], { uid: user.uid, gid: user.gid, cwd: "/" }).status === 0;
}
