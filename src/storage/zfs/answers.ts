// What the zfs program says when it refuses, and what that means. The same words on OpenZFS, illumos, FreeBSD and zfs-fuse where not told otherwise.

import type { ProgramAnswer } from "../common/program.ts";
import { storageError, type StorageErrorCode } from "../errors.ts";

/** In this order: a line can match several. */
const MEANINGS: readonly (readonly [RegExp, StorageErrorCode])[] = [
  [
    /permission denied|insufficient privileges|must be superuser|may only be (un)?mounted by root|operation not permitted/i,
    "STORAGE_NOT_PERMITTED",
  ],
  [/a password is required|is not allowed to execute|no tty present/i, "STORAGE_NOT_PERMITTED"],
  [/failed to initialize ZFS|\/dev\/zfs|module.*not loaded|no such pool|suspended|^connect:/im, "STORAGE_UNAVAILABLE"],
  [/out of space|no space left|quota exceeded|disk quota/i, "STORAGE_NO_SPACE"],
  [/more recent snapshots|more recent bookmarks/i, "STORAGE_NEWER_SNAPSHOTS"],
  [/dependent clones|has dependents/i, "STORAGE_HAS_CLONES"],
  [
    /(backup|snapshot|incomplete|corrupted?|new filesystem|incremental)? ?stream.*(checksum|invalid|incomplete)|invalid (backup )?stream|checksum mismatch|bad magic|failed to read from stream|incomplete stream|contains partially|does not match incremental source|kernel modules must be upgraded/i,
    "STORAGE_BAD_STREAM",
  ],
  [/already exists|destination .* exists|tag already/i, "STORAGE_EXISTS"],
  [/does not exist|no such|not found/i, "STORAGE_NO_DATASET"],
  [/busy/i, "STORAGE_BUSY"],
  [/invalid character|invalid dataset name|name is too long|missing dataset name|bad property/i, "STORAGE_BAD_NAME"],
];

export function meaningOf({ stderr }: ProgramAnswer): StorageErrorCode {
  return MEANINGS.find(([pattern]) => pattern.test(stderr))?.[1] ?? "STORAGE_FAILED";
}

/** Whether the caller lacks the right: asked before a command is tried behind the prefix. */
export function isRefused(answer: ProgramAnswer): boolean {
  return answer.status !== 0 && meaningOf(answer) === "STORAGE_NOT_PERMITTED";
}

export function lastWords({ stderr, status }: ProgramAnswer): string {
  const words = stderr.trim().split("\n").slice(0, 3).join(" | ").slice(0, 400);
  return words === "" ? `it ended with status ${status}` : words;
}

/** `what`: the command in words, `snapshot tank/pg@1`. */
export function refusal(
  what: string,
  answer: ProgramAnswer,
  { code = meaningOf(answer), hint }: { code?: StorageErrorCode; hint?: string } = {},
): Error {
  return storageError(code, `zfs: ${what}: ${lastWords(answer)}`, hint === undefined ? {} : { hint });
}
