// Folders and small files of storage that lies in folders: durable, and with the errors of storage. What is expected to be missing is no error.

import { randomBytes } from "node:crypto";
import {
  chmod,
  chown,
  type FileHandle,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  statfs,
  unlink,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Bytes } from "../../base/units.ts";
import { storageError, type StorageErrorCode } from "../errors.ts";

const CODES: Readonly<Record<string, StorageErrorCode>> = {
  ENOSPC: "STORAGE_NO_SPACE",
  EDQUOT: "STORAGE_NO_SPACE",
  EACCES: "STORAGE_NOT_PERMITTED",
  EPERM: "STORAGE_NOT_PERMITTED",
  EROFS: "STORAGE_UNAVAILABLE",
  EIO: "STORAGE_UNAVAILABLE",
  EBUSY: "STORAGE_BUSY",
  EEXIST: "STORAGE_EXISTS",
  ENOTEMPTY: "STORAGE_EXISTS",
  ENAMETOOLONG: "STORAGE_BAD_NAME",
};

function codeOf(error: unknown): string {
  return String((error as { code?: unknown }).code);
}

/** undefined: it, or the folder it is in, is not there. */
async function unlessMissing<T>(what: string, action: Promise<T>): Promise<T | undefined> {
  try {
    return await action;
  } catch (error) {
    const code = codeOf(error);
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw storageError(CODES[code] ?? "STORAGE_FAILED", `${what} fails with ${code}`, { cause: error });
  }
}

async function demand<T>(what: string, action: Promise<T>): Promise<T> {
  const result = await unlessMissing(
    what,
    action.then((value) => ({ value })),
  );
  if (result) return result.value;
  throw storageError("STORAGE_FAILED", `${what} fails: there is no such file or folder`);
}

/** Links are not followed. undefined: nothing is there. */
export async function lookAt(path: string): Promise<{ isFolder: boolean; inode: number } | undefined> {
  const found = await unlessMissing(`looking at ${path}`, lstat(path));
  return found && { isFolder: found.isDirectory(), inode: found.ino };
}

export async function isFolder(path: string): Promise<boolean> {
  return (await lookAt(path))?.isFolder === true;
}

/** Names, sorted; undefined: there is no such folder. */
export async function listFolder(folder: string): Promise<readonly string[] | undefined> {
  return (await unlessMissing(`reading ${folder}`, readdir(folder)))?.sort();
}

export async function makeFolder(folder: string): Promise<void> {
  await demand(`making ${folder}`, mkdir(folder, { recursive: true }));
}

/** With the same rights and owner. */
export async function makeFolderLike(model: string, folder: string): Promise<void> {
  await demand(`making ${folder}`, mkdir(folder));
  const { mode, uid, gid } = await demand(`looking at ${model}`, lstat(model));
  if (process.geteuid?.() === 0) await demand(`giving ${folder} to its owner`, chown(folder, uid, gid));
  await demand(`giving rights to ${folder}`, chmod(folder, mode & 0o7777));
}

/** Remembers which folder lies there, until it is closed. undefined: none. */
export async function pinFolder(
  folder: string,
): Promise<{ isInPlace(): Promise<boolean>; close(): Promise<void> } | undefined> {
  const what = `looking at ${folder}`;
  const handle = await unlessMissing(what, open(folder, "r"));
  if (!handle) return undefined;
  return {
    // As long as it is open, nothing else gets its inode.
    async isInPlace() {
      const [then, now] = [await demand(what, handle.stat()), await unlessMissing(what, lstat(folder))];
      return now?.ino === then.ino && now.dev === then.dev;
    },
    close: () => handle.close(),
  };
}

export async function removeAll(path: string): Promise<void> {
  await demand(`removing ${path}`, rm(path, { recursive: true, force: true }));
}

/** A folder with something in it is never replaced. */
export async function moveFolder(from: string, to: string): Promise<"moved" | "missing" | "exists"> {
  try {
    const moved = await unlessMissing(
      `renaming ${from} to ${to}`,
      rename(from, to).then(() => true),
    );
    return moved === true ? "moved" : "missing";
  } catch (error) {
    if ((error as { code?: unknown }).code === "STORAGE_EXISTS") return "exists";
    throw error;
  }
}

/** What was made, renamed and removed in it outlives a power cut. Nothing to do where it has been moved away. */
export async function flushFolder(folder: string): Promise<void> {
  const handle = await unlessMissing(`opening ${folder}`, open(folder, "r"));
  if (!handle) return;
  try {
    await demand(`flushing ${folder}`, handle.sync());
  } finally {
    await handle.close();
  }
}

export async function readText(path: string): Promise<string | undefined> {
  return unlessMissing(`reading ${path}`, readFile(path, "utf8"));
}

/** Atomic and durable. false: its folder is not there. */
export async function writeText(path: string, content: string): Promise<boolean> {
  // A dot before it: it is never taken for a note.
  const temporary = join(dirname(path), `.${randomBytes(8).toString("hex")}`);
  const handle = await unlessMissing(`writing ${path}`, open(temporary, "wx", 0o644));
  if (!handle) return false;
  try {
    await demand(`writing ${path}`, writeAndClose(handle, content));
    const written = await unlessMissing(
      `writing ${path}`,
      rename(temporary, path).then(() => true),
    );
    if (written !== true) return false;
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw error;
  }
  await flushFolder(dirname(path));
  return true;
}

async function writeAndClose(handle: FileHandle, content: string): Promise<void> {
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Durable. Idempotent. */
export async function removeText(path: string): Promise<void> {
  const removed = await unlessMissing(
    `removing ${path}`,
    unlink(path).then(() => true),
  );
  if (removed === true) await flushFolder(dirname(path));
}

/** Errors: `STORAGE_UNAVAILABLE`: there is no such folder (now). */
export async function fileSystemAt(folder: string): Promise<{ type: number; used: Bytes; free: Bytes }> {
  const found = await unlessMissing(`looking at ${folder}`, statfs(folder));
  if (!found) throw storageError("STORAGE_UNAVAILABLE", `there is no folder ${folder}`);
  return { type: found.type, used: (found.blocks - found.bfree) * found.bsize, free: found.bavail * found.bsize };
}
