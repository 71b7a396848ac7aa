// Storage in plain folders, on any file system. Snapshots and clones are copies, which share their blocks where the file system can (XFS, Btrfs), and otherwise cost
// the time and space of all that is copied. They show no one instant: of a server that runs, none may be taken outside of its backup mode.

import { randomBytes, randomUUID } from "node:crypto";
import { constants, copyFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileSystemAt, isFolder, makeFolder, moveFolder, pinFolder } from "../common/files.ts";
import { FolderStorage } from "../common/folder-storage.ts";
import { Layout } from "../common/layout.ts";
import type { Medium, StreamStart } from "../common/medium.ts";
import type { Facts } from "../common/notes.ts";
import { type ProgramAnswer, readFrom, writeTo } from "../common/program.ts";
import { noSnapshot } from "../common/refusals.ts";
import { storageError } from "../errors.ts";
import type { Snapshot, Storage } from "../port.ts";
import { refusal } from "./answers.ts";
import { copyFolder, flushFileSystem } from "./copy.ts";
import { frame, unframe } from "./stream.ts";

export interface DirectoryOptions {
  /** The folder below which datasets lie. It belongs to the user of this process. */
  readonly root: string;
}

export function directoryStorage({ root }: DirectoryOptions): Storage {
  const medium: Medium = {
    description: `plain folders (${root})`,
    capabilities: async () => ({
      atomic: false,
      shared: await sharesBlocks(root),
      incremental: false,
      resume: false,
      format: "tar",
    }),
    space: () => fileSystemAt(root),
    isContent: isFolder,
    make: makeFolder,
    copy: (source, target) => copyFolder({ source, target, gone: "STORAGE_NO_SNAPSHOT" }),

    async take(source, target, surroundings) {
      const [above, except] = [await surroundings.newestGeneration(), await surroundings.mountedWithin()];
      // Somebody mounts or unmounts it, or a server works in it.
      await copyFolder({ source, target, except, gone: "STORAGE_BUSY" });
      return newFacts({ above });
    },

    // Folders are removed as files are.
    removal: { contentsIn: () => Promise.resolve([]), remove: () => Promise.resolve() },

    // Can't be told; nor does a difference ever come.
    changedSince: () => Promise.resolve(true),

    send({ snapshot, source, from, signal }) {
      if (from !== undefined) throw storageError("STORAGE_BAD_STREAM", "plain folders send whole snapshots only");
      return sendFolder({ snapshot, source, signal });
    },

    receive: receiveFolder,
  };
  return new FolderStorage(medium, new Layout(root));
}

const CREATE = ["tar", "--create", "--file=-", "--format=posix", "--numeric-owner", "."];
const EXTRACT = ["tar", "--extract", "--file=-", "--preserve-permissions", "--numeric-owner"];

/** Names of snapshots begin otherwise. */
const INCOMING = ".incoming";

async function* sendFolder({
  snapshot,
  source,
  signal,
}: {
  snapshot: Snapshot;
  source: string;
  signal: AbortSignal;
}): AsyncGenerator<Uint8Array> {
  const pinned = await pinFolder(source);
  if (!pinned) throw noSnapshot(snapshot);
  try {
    const failed = (answer: ProgramAnswer) => refusal(`packing ${source}`, answer, "STORAGE_FAILED");
    yield* frame(snapshot, readFrom(CREATE, { signal, failed, folder: source }), async () => {
      // Destroyed meanwhile: tar tells that only of a file that goes while it is read.
      if (!(await pinned.isInPlace())) throw noSnapshot(snapshot);
    });
  } catch (error) {
    throw signal.aborted || (await pinned.isInPlace()) ? error : noSnapshot(snapshot);
  } finally {
    await pinned.close();
  }
}

async function receiveFolder({ into, stream, onStart, signal }: Parameters<Medium["receive"]>[0]): Promise<Facts> {
  let start: StreamStart | undefined;
  let whole = false;
  const tar = (async function* () {
    yield* unframe(stream, async (found) => {
      await onStart(found);
      start = found;
    });
    whole = true;
  })();
  const content = join(into, INCOMING);
  await makeFolder(content);
  const failed = (answer: ProgramAnswer) => refusal("unpacking", answer, "STORAGE_BAD_STREAM");
  await writeTo(EXTRACT, tar, { signal, failed, folder: content });
  // tar takes what looks like an end for it.
  if (!whole || !start) throw storageError("STORAGE_BAD_STREAM", "what came ends before its end");
  await flushFileSystem(content);
  const { name, guid } = start;
  await moveFolder(content, join(into, name));
  return newFacts({ guid });
}

/** Milliseconds are the order, but where the clock went back. */
function newFacts({ guid, above = 0 }: { guid?: string; above?: number }): Facts {
  const [uuid, createdWallMs] = [randomUUID(), Date.now()];
  return { uuid, guid: guid ?? uuid, createdWallMs, generation: Math.max(createdWallMs, above + 1) };
}

/** Tried with a file of no size, so that a full disk can be asked as well. */
async function sharesBlocks(root: string): Promise<boolean> {
  const probe = join(root, `.manatee-probe-${randomBytes(8).toString("hex")}`);
  const clone = `${probe}-clone`;
  try {
    await writeFile(probe, "", { flag: "wx" });
    await copyFile(probe, clone, constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch {
    return false;
  } finally {
    await rm(probe, { force: true }).catch(() => undefined);
    await rm(clone, { force: true }).catch(() => undefined);
  }
}
