// Small files that must survive a crash whole: never half a file, never an old one after a successful write.

import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { ManateeError } from "../../base/errors.ts";
import type { Files } from "../port.ts";

const MODE_OWNER_ONLY = 0o600;

export const realFiles: Files = { read, write, remove };

/** @throws `FILE_UNREADABLE` */
async function read(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    if (isMissing(cause)) return undefined;
    throw new ManateeError({
      code: "FILE_UNREADABLE",
      message: `cannot read ${path}`,
      remedy: "operator",
      hint: "Give the user that runs the sitter read access to this file.",
      cause,
    });
  }
}

/** @throws `FILE_UNWRITABLE` */
async function write(path: string, content: string, { mode = MODE_OWNER_ONLY }: { mode?: number } = {}): Promise<void> {
  const folder = dirname(path);
  const temporary = `${path}.${process.pid}.new`;
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await rm(temporary, { force: true });
    const file = await open(temporary, "wx", mode);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    await flushFolder(folder);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw unwritable(path, cause);
  }
}

/** @throws `FILE_UNWRITABLE` */
async function remove(path: string): Promise<void> {
  try {
    await rm(path, { force: true });
  } catch (cause) {
    throw unwritable(path, cause);
  }
}

/** Without it the rename itself can be lost when the machine loses power. */
async function flushFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function unwritable(path: string, cause: unknown): ManateeError {
  return new ManateeError({
    code: "FILE_UNWRITABLE",
    message: `cannot write ${path}`,
    remedy: "operator",
    hint: "Make room on this file system, or give the user that runs the sitter write access to the folder.",
    cause,
  });
}

function isMissing(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  return code === "ENOENT" || code === "ENOTDIR";
}
