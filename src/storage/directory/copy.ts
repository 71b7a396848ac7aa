// Copies a folder with all that is in it, sharing blocks where the file system can. Not at one instant: whoever writes to it meanwhile is copied in the middle.

import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { isFolder, makeFolderLike, pinFolder } from "../common/files.ts";
import { runToEnd } from "../common/program.ts";
import { storageError, type StorageErrorCode } from "../errors.ts";
import { refusal } from "./answers.ts";

/** Names are 255 bytes at most: far below what a command may have. */
const NAMES_A_COMMAND = 200;

interface CopyOptions {
  readonly source: string;
  /** Nothing is there yet. Cut short, or failed, it is there in part. */
  readonly target: string;
  /** Paths within the source that are left out, folders. */
  readonly except?: readonly string[];
  /** What it means where the source is not there, or is moved while it is copied. */
  readonly gone: StorageErrorCode;
}

/** Durable when it resolves. */
export async function copyFolder({ source, target, except = [], gone }: CopyOptions): Promise<void> {
  const pinned = await pinFolder(source);
  if (!pinned) throw storageError(gone, `there is no folder ${source}`);
  try {
    const copied = await settled(
      except.length === 0
        ? copy({ from: source, names: ["."], to: ["--no-target-directory", target] })
        : copyEntries({ source, target, except }),
    );
    // By its working folder cp has gone on in what was moved, and perhaps removed, meanwhile.
    if (!(await pinned.isInPlace())) throw storageError(gone, `${source} was moved while it was copied`);
    if (copied) throw copied.error;
  } finally {
    await pinned.close();
  }
  await flushFileSystem(target);
}

/** undefined: it was done. */
function settled(action: Promise<void>): Promise<{ error: unknown } | undefined> {
  return action.then(
    () => undefined,
    (error: unknown) => ({ error }),
  );
}

async function copyEntries({ source, target, except = [] }: Omit<CopyOptions, "gone">): Promise<void> {
  await makeFolderLike(source, target);
  const within = (name: string) => except.filter((path) => path.startsWith(`${name}/`));
  const names = (await readdir(source)).filter((name) => !except.includes(name));
  const whole = names.filter((name) => within(name).length === 0);
  for (let i = 0; i < whole.length; i += NAMES_A_COMMAND)
    await copy({
      from: source,
      names: whole.slice(i, i + NAMES_A_COMMAND),
      to: [`--target-directory=${target}`],
    });
  for (const name of names) {
    const below = within(name).map((path) => path.slice(name.length + 1));
    if (below.length > 0 && (await isFolder(join(source, name))))
      await copyEntries({ source: join(source, name), target: join(target, name), except: below });
  }
}

async function copy({
  from,
  names,
  to,
}: {
  from: string;
  names: readonly string[];
  to: readonly [option: string, ...target: string[]];
}): Promise<void> {
  const [option, ...destination] = to;
  const command = ["cp", "--archive", "--reflink=auto", option, "--", ...names, ...destination];
  const answer = await runToEnd(command, from);
  if (answer.status === 0) return;
  // A file that went while it was copied: somebody writes there.
  throw refusal(`copying ${from}`, answer, /no such file/i.test(answer.stderr) ? "STORAGE_BUSY" : "STORAGE_FAILED");
}

/** All of it: what cp and tar have written is the disk's only now. */
export async function flushFileSystem(path: string): Promise<void> {
  const answer = await runToEnd(["sync", "--file-system", path]);
  if (answer.status !== 0) throw refusal(`flushing ${path}`, answer, "STORAGE_FAILED");
}
