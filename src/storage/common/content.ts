// The content of a dataset: mounted and unmounted by a rename that all see at once, and replaced by a dance of renames that whoever comes next ends.

import { readlink, realpath } from "node:fs/promises";
import { dirname, join } from "node:path";
import { storageError } from "../errors.ts";
import { flushFolder, listFolder, lookAt, makeFolder, moveFolder } from "./files.ts";
import { NEXT_MOUNTED, NEXT_UNMOUNTED, PREVIOUS, UNMOUNTED } from "./layout.ts";
import type { Medium } from "./medium.ts";
import type { Workplace } from "./workplace.ts";

/** Both paths of a dataset: where its content is when it is mounted, and the folder of all else of it. */
export interface Place {
  readonly mountPoint: string;
  readonly folder: string;
}

interface Content {
  readonly path: string;
  readonly mounted: boolean;
}

/** Where it is. undefined: there is none. */
export async function findContent(medium: Medium, place: Place): Promise<Content | undefined> {
  const found = await findNow(medium, place);
  if (found) return found;
  await endReplacement(medium, place);
  return findNow(medium, place);
}

async function findNow(medium: Medium, { mountPoint, folder }: Place): Promise<Content | undefined> {
  const unmounted = join(folder, UNMOUNTED);
  // In this order: where both are there, the other one is somebody else's, in the way.
  if (await medium.isContent(unmounted)) return { path: unmounted, mounted: false };
  // What is at the mount point then may be a plain folder, made for a dataset that is mounted below.
  if (await isBetweenRenames(folder)) return undefined;
  return (await medium.isContent(mountPoint)) ? { path: mountPoint, mounted: true } : undefined;
}

/** What was the content has gone, and what takes its place has not come. */
async function isBetweenRenames(folder: string): Promise<boolean> {
  if (!(await lookAt(join(folder, PREVIOUS)))) return false;
  return [await lookAt(join(folder, NEXT_MOUNTED)), await lookAt(join(folder, NEXT_UNMOUNTED))].some(Boolean);
}

/** Of a dataset whose content is nowhere: a replacement was cut short between its two renames, or another process is there just now. */
async function endReplacement(medium: Medium, place: Place): Promise<void> {
  const { mountPoint, folder } = place;
  const [next, unmounted] = [join(folder, NEXT_MOUNTED), join(folder, UNMOUNTED)];
  const outcome = await moveFolder(next, mountPoint);
  if (outcome === "exists") await moveFolder(next, unmounted);
  if (outcome !== "missing") return;
  if ((await moveFolder(join(folder, NEXT_UNMOUNTED), unmounted)) === "moved") return;
  if ((await findNow(medium, place)) === undefined) await moveFolder(join(folder, PREVIOUS), unmounted);
}

/** Errors: `STORAGE_EXISTS`: something else is there. */
export async function mountContent({ mountPoint, folder }: Place): Promise<void> {
  await makeFolder(dirname(mountPoint));
  if ((await moveFolder(join(folder, UNMOUNTED), mountPoint)) === "exists")
    throw storageError("STORAGE_EXISTS", `something is in the way at ${mountPoint}`);
  await flushFolder(dirname(mountPoint));
  await flushFolder(folder);
}

/** Errors: `STORAGE_BUSY`. */
export async function unmountContent({ mountPoint, folder }: Place): Promise<void> {
  await demandUnused(mountPoint);
  await moveFolder(mountPoint, join(folder, UNMOUNTED));
  await flushFolder(folder);
  await flushFolder(dirname(mountPoint));
}

/**
 * The content becomes a writable copy of a snapshot. `between`: what else has to be done when the copy is there, and may fail. Whatever ends in the middle,
 * the content is the one or the other.
 */
export async function replaceContent(
  { medium, work, place, source }: { medium: Medium; work: Workplace; place: Place; source: string },
  between: () => Promise<void> = async () => undefined,
): Promise<void> {
  const { mountPoint, folder } = place;
  const now = await findContent(medium, place);
  const mounted = now?.mounted === true;
  if (mounted) await demandUnused(mountPoint);
  await dropLeftovers(work, folder);
  const spot = await work.begin();
  try {
    const made = join(spot, "next");
    await medium.copy(source, made);
    // A copy can take a while.
    if (mounted) await demandUnused(mountPoint);
    await between();
    const next = join(folder, mounted ? NEXT_MOUNTED : NEXT_UNMOUNTED);
    await moveFolder(made, next);
    if (now) await moveFolder(now.path, join(folder, PREVIOUS));
    // Somebody who looked in between may have ended it for us.
    await moveFolder(next, mounted ? mountPoint : join(folder, UNMOUNTED));
  } finally {
    await work.remove(spot);
  }
  await flushFolder(folder);
  await flushFolder(dirname(mountPoint));
  await dropLeftovers(work, folder);
}

/** Of replacements that were cut short before they began, or after they were over. In this order: the last one alone is taken for the content. */
async function dropLeftovers(work: Workplace, folder: string): Promise<void> {
  const there = (await listFolder(folder)) ?? [];
  for (const name of [NEXT_MOUNTED, NEXT_UNMOUNTED, PREVIOUS])
    if (there.includes(name)) await work.drop(join(folder, name));
}

/** A rename takes a folder away under whoever works in it. A server has its data directory as its working folder: it would go on, in another place. */
async function demandUnused(folder: string): Promise<void> {
  const real = await realpath(folder).catch(() => folder);
  const processes = ((await listFolder("/proc")) ?? []).filter((name) => /^\d+$/.test(name));
  for (const id of processes) {
    const place = await readlink(`/proc/${id}/cwd`).catch(() => "");
    if (place === real || place.startsWith(`${real}/`))
      throw storageError("STORAGE_BUSY", `process ${id} has its working folder in ${place}`);
  }
}
