// What cp, tar and sync say when they refuse, and what that means.

import type { ProgramAnswer } from "../common/program.ts";
import { storageError, type StorageErrorCode } from "../errors.ts";

const MEANINGS: readonly (readonly [RegExp, StorageErrorCode])[] = [
  // The last: tar, where a part of a block still had room.
  [/no space left|quota exceeded|wrote only \d+ of/i, "STORAGE_NO_SPACE"],
  [/operation not permitted|permission denied/i, "STORAGE_NOT_PERMITTED"],
  [/input\/output error|read-only file system|stale file handle/i, "STORAGE_UNAVAILABLE"],
  [/file name too long/i, "STORAGE_BAD_NAME"],
];

/** Run with as much of its output as tells why. `otherwise`: what it means where its words say nothing of the disk. */
export function refusal(what: string, { stderr, status }: ProgramAnswer, otherwise: StorageErrorCode): Error {
  const code = MEANINGS.find(([pattern]) => pattern.test(stderr))?.[1] ?? otherwise;
  const words = stderr.trim().split("\n").slice(-3).join(" | ").slice(0, 400);
  const hint = code === "STORAGE_NOT_PERMITTED" ? { hint: RIGHTS_HINT } : {};
  return storageError(code, `${what}: ${words === "" ? `it ended with status ${status}` : words}`, hint);
}

const RIGHTS_HINT = "Give the root folder, with all that is in it, to the user of this process.";
