// Keeps a fork: the whole data directory under a name (I5): as a snapshot where that costs nothing and shows all of it, else as a copy aside.

import { readdir, rename, statfs } from "node:fs/promises";
import { join } from "node:path";
import { ManateeError } from "../../base/errors.ts";
import type { Bytes } from "../../base/units.ts";
import type { Context } from "./context.ts";
import { forkSnapshot, HOLD_TAG, keptForkNames, type PostgresStorage } from "./dataset.ts";
import { flushFileSystem, flushFolder, isMissing, makePrivateFolder, removeTree } from "./durable.ts";
import { endLeftovers } from "./leftovers.ts";
import { linksOutside } from "./links-outside.ts";
import type { Places } from "./places.ts";
import { runProgram } from "./programs.ts";

/** Behind the name of a folder that is not, or no longer, complete. */
export const PARTIAL = ".partial";

/** Complete and durable when it resolves. Cut short, nothing bears the name. Errors: `PG_NO_SPACE`, `PG_FORK_FAILED`. */
export async function keepFork(context: Context, name: string, signal: AbortSignal): Promise<void> {
  const { places } = context;
  if (context.postmaster.process.kind !== "stopped") throw forkFailed("the server runs");
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name) || name.endsWith(PARTIAL))
    throw forkFailed(`${JSON.stringify(name)} is no name for a folder`);
  // A snapshot does not show what lies outside of the dataset: WAL, say, without which the rest is no database.
  if (context.storage && (await linksOutside(places.dataDir)) === undefined)
    return snapshotFork(context, context.storage, name);
  await makePrivateFolder(places.forksDir);
  const target = join(places.forksDir, name);
  // Complete under its name: it was kept before, and what lies in the data directory now may be less.
  if ((await keptFolders(places)).includes(name)) return;
  await endLeftovers(places);
  await removeTree(target + PARTIAL);
  await demandSpace(context, places.forksDir, await sizeOf(places, signal));
  await runProgram({
    program: "cp",
    folder: places.own,
    // Links followed: a fork whose pg_wal lies elsewhere would be no copy. Blocks shared where the file system can.
    args: ["-aL", "--reflink=auto", places.dataDir, target + PARTIAL],
    signal,
    failure: {
      code: "PG_FORK_FAILED",
      what: "copying the fork aside",
      remedy: "retry",
      hint: `Look at the space and the rights in ${places.forksDir}.`,
    },
  });
  await flushFileSystem(places.forksDir);
  await rename(target + PARTIAL, target);
  await flushFolder(places.forksDir);
}

/** Held, so that nobody who tidies up takes it away. */
async function snapshotFork(context: Context, kept: PostgresStorage, name: string): Promise<void> {
  const { storage, dataset } = kept;
  if ((await keptForkNames(kept)).includes(name)) return;
  await endLeftovers(context.places);
  await flushFileSystem(context.places.dataDir);
  const snapshot = await storage.snapshot({ dataset, name: forkSnapshot(name), properties: { "manatee:why": "fork" } });
  await storage.hold(snapshot, HOLD_TAG);
}

/** Forks that are kept as folders: names of the complete ones. Those that a storage keeps: {@link keptForkNames}. */
export async function keptFolders(places: Places): Promise<string[]> {
  try {
    const entries = await readdir(places.forksDir, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory() && !entry.name.endsWith(PARTIAL)).map(({ name }) => name);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

/** Errors: `PG_NO_SPACE` where less than the configured rest would stay free. */
export async function demandSpace(context: Context, folder: string, needed: Bytes): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  if (free - needed >= context.config.freeBytesMin) return;
  throw new ManateeError({
    code: "PG_NO_SPACE",
    message: `${folder} has ${free} bytes free, ${needed} are needed, and ${context.config.freeBytesMin} are to stay free`,
    remedy: "operator",
    hint: "Remove forks that nobody needs any more, or give that disk more space.",
  });
}

async function sizeOf(places: Places, signal: AbortSignal): Promise<Bytes> {
  const output = await runProgram({
    program: "du",
    folder: places.own,
    args: ["-sLB1", places.dataDir],
    signal,
    failure: {
      code: "PG_FORK_FAILED",
      what: "measuring the data directory",
      remedy: "retry",
      hint: "Look at the rights in the data directory.",
    },
  });
  return Number.parseInt(output, 10);
}

function forkFailed(what: string): ManateeError {
  return new ManateeError({
    code: "PG_FORK_FAILED",
    message: `the fork can't be kept: ${what}`,
    remedy: "reobserve",
    hint: "Look into the folder of forks; nothing was changed.",
  });
}
