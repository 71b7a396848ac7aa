// A copy of what is needed, in a folder that another user can enter: the clone may lie in root's home.

import { chmodSync, copyFileSync, cpSync, existsSync, lchownSync, lstatSync, mkdirSync, readdirSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { productionPackages, root } from "./packages.mjs";
import { canRunNode } from "./user.mjs";

/** The compiled code with its production packages below `target`, owned by the user. Returns the Node to run it with. */
export function stageRuntime(target, user) {
  mkdirSync(target, { recursive: true });
  for (const path of ["package.json", "bin", "etc", "dist", ...productionPackages()]) copy(path, target);
  const node = canRunNode(user) ? process.execPath : copyNode(target);
  giveTo(target, user);
  return node;
}

/** Brings a staged copy's compiled code up to date. */
export function restageCode(target, user) {
  copy("dist", target);
  giveTo(join(target, "dist"), user);
}

/** The whole work tree, without what git ignores but for node_modules and dist, readable by everybody. */
export function stageTree(target, from = root) {
  const listed = spawnSync(
    "git",
    ["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
    {
      cwd: from,
      encoding: "utf8",
      maxBuffer: 1 << 26,
    },
  );
  const names =
    listed.status === 0
      ? listed.stdout.split("\0").filter(Boolean)
      : readdirSync(from).filter((name) => name !== ".git");
  for (const path of [...names, "node_modules", "dist"]) copy(path, target, from);
  spawnSync("chmod", ["-R", "a+rX", target]);
}

function copy(path, target, base = root) {
  const from = join(base, path);
  if (!existsSync(from)) return;
  const to = join(target, path);
  mkdirSync(dirname(to), { recursive: true });
  cpSync(from, to, { recursive: true, verbatimSymlinks: true, force: true });
}

function copyNode(target) {
  const to = join(target, "node");
  copyFileSync(process.execPath, to);
  chmodSync(to, 0o755);
  return to;
}

/** chown -R, and nobody else may write. */
export function giveTo(path, user) {
  if (!user) return;
  lchownSync(path, user.uid, user.gid);
  if (!lstatSync(path).isDirectory()) return;
  for (const name of readdirSync(path)) giveTo(join(path, name), user);
}
