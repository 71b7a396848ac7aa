// What the btrfs program says when it refuses, and what that means.

import type { ProgramAnswer } from "../common/program.ts";
import type { StorageErrorCode } from "../errors.ts";

/** In this order: a line can match several. */
const MEANINGS: readonly (readonly [RegExp, StorageErrorCode])[] = [
  [/a password is required|is not allowed to execute|no tty present/i, "STORAGE_NOT_PERMITTED"],
  [/operation not permitted|permission denied/i, "STORAGE_NOT_PERMITTED"],
  [/no space left|quota exceeded/i, "STORAGE_NO_SPACE"],
  [
    /crc32 mismatch|unexpected EOF|short read|invalid (tlv|cmd)|unexpected header|magic|stream version|cannot find parent|parent subvol/i,
    "STORAGE_BAD_STREAM",
  ],
  [
    /not (a|on) btrfs|inappropriate ioctl|input\/output error|read-only file system|transport endpoint/i,
    "STORAGE_UNAVAILABLE",
  ],
  [/file exists|already exists/i, "STORAGE_EXISTS"],
  [/no such file|not a subvolume|cannot find/i, "STORAGE_NO_DATASET"],
  [/busy/i, "STORAGE_BUSY"],
  [/name too long/i, "STORAGE_BAD_NAME"],
];

export function meaningOf({ stderr }: ProgramAnswer): StorageErrorCode {
  return MEANINGS.find(([pattern]) => pattern.test(stderr))?.[1] ?? "STORAGE_FAILED";
}

/** Whether the caller lacks the right: asked before a command is tried behind the prefix. */
export function isRefused(answer: ProgramAnswer): boolean {
  return answer.status !== 0 && meaningOf(answer) === "STORAGE_NOT_PERMITTED";
}

/** The same words stand for two causes when a subvolume is not deleted; root lacks no right, so that it is the other one. */
export function mayBeSent({ stderr }: ProgramAnswer): boolean {
  return /send may be in progress/i.test(stderr);
}

/** The last lines: before them it tells what it has begun. */
export function lastWords({ stderr, status }: ProgramAnswer): string {
  const lines = stderr
    .trim()
    .split("\n")
    .filter((line) => !line.startsWith("At su"));
  const words = lines.slice(-3).join(" | ").slice(0, 400);
  return words === "" ? `it ended with status ${status}` : words;
}
