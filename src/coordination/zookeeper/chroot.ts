// Between the caller's paths and the store's. Pure.

import type { NodePath } from "../port.ts";
import { isNodePath } from "./connect-string.ts";

/** Throws TypeError where it is not a path: a mistake of the program, not of the store. */
export function toStorePath(chroot: string, path: NodePath): string {
  if (path === "/") return chroot === "" ? "/" : chroot;
  if (!isNodePath(path)) throw new TypeError(`${JSON.stringify(path)} is not a path of nodes`);
  return chroot + path;
}

/** Of a path that the store made out of one of ours. */
export function toCallersPath(chroot: string, storePath: string): NodePath {
  const path = storePath.startsWith(chroot) ? storePath.slice(chroot.length) : storePath;
  return path === "" ? "/" : path;
}
