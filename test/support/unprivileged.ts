// PostgreSQL and the sitter refuse root: as root, tests run them as the user `postgres`; as anybody else, as oneself.

import { execFileSync } from "node:child_process";
import { chownSync, statSync } from "node:fs";
import { userInfo } from "node:os";
import { dirname } from "node:path";

export interface RunAs {
  /** Handed to spawn. Empty: as oneself. */
  readonly credentials: { readonly uid?: number; readonly gid?: number };
  readonly userName: string;
}

let found: RunAs | undefined;

export function runAs(): RunAs {
  found ??= findUser();
  return found;
}

function findUser(): RunAs {
  if (process.getuid?.() !== 0) return { credentials: {}, userName: userInfo().username };
  const userName = process.env["MANATEE_TEST_USER"] ?? "postgres";
  const id = (option: string) => Number(execFileSync("id", [option, userName], { encoding: "utf8" }).trim());
  try {
    return { credentials: { uid: id("-u"), gid: id("-g") }, userName };
  } catch (cause) {
    throw new Error(`as root, tests need an unprivileged user ${userName} (or MANATEE_TEST_USER)`, { cause });
  }
}

/** Gives the file or folder to that user. */
export function giveAway(path: string): void {
  const { uid, gid } = runAs().credentials;
  if (uid !== undefined && gid !== undefined) chownSync(path, uid, gid);
}

/** Whether any user may enter the folder (and those above it), and read or run the file at its end. */
export function isReachableByAll(path: string): boolean {
  if (runAs().credentials.uid === undefined) return true;
  if ((statSync(path).mode & 0o005) !== 0o005) return false;
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    if ((statSync(folder).mode & 0o001) === 0) return false;
    if (folder === "/") return true;
  }
}
