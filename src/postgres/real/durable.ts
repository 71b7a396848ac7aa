// Files of ours: written beside and renamed; those that must survive a power cut are flushed, and the folder too.

import { spawn } from "node:child_process";
import { mkdir, open, readFile, rename, rm, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { ManateeError } from "../../base/errors.ts";

/** Atomic and durable: whoever reads sees the old content or all of the new. */
export async function writeDurably(path: string, content: string, mode = 0o600): Promise<void> {
  await replace(path, content, { mode, flush: true });
  await flushFolder(dirname(path));
}

/**
 * Writes only where the content differs, and says whether it wrote. Atomic, not durable: for what is compared and written again before each
 * start of a server. A reload, which clients wait for, would otherwise wait for the disk.
 */
export async function writeIfDifferent(path: string, content: string, mode = 0o600): Promise<boolean> {
  if ((await readIfThere(path)) === content) return false;
  await replace(path, content, { mode, flush: false });
  return true;
}

async function replace(
  path: string,
  content: string,
  { mode, flush }: { mode: number; flush: boolean },
): Promise<void> {
  const temporary = `${path}.new`;
  const handle = await open(temporary, "w", mode);
  try {
    await handle.writeFile(content);
    await handle.chmod(mode);
    if (flush) await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, path);
}

/** undefined: there is no such file. */
export async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/** Says whether there was one. */
export async function removeDurably(path: string): Promise<boolean> {
  try {
    await unlink(path);
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
  await flushFolder(dirname(path));
  return true;
}

export async function flushFolder(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** A folder of our own, closed to others. Errors: `PG_FOLDER`. */
export async function makePrivateFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new ManateeError({
      code: "PG_FOLDER",
      message: `the folder ${path} can't be made`,
      remedy: "operator",
      hint: `Make ${path}, or let the sitter's user write in the folder above it.`,
      cause,
    });
  }
}

/** Flushes the whole file system under `path`: one call in place of one fsync for each of thousands of files. */
export function flushFileSystem(path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn("sync", ["-f", path], { stdio: "ignore" });
    child.once("error", reject);
    child.once("exit", (status) =>
      status === 0 ? resolve() : reject(new Error(`sync -f ${path} ended with ${status}`)),
    );
  });
}

export async function removeTree(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true });
}

export function isMissing(error: unknown): boolean {
  return errorCode(error) === "ENOENT";
}

export function errorCode(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}
