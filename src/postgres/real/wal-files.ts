// Segments of WAL as files: their names, and how those up to a fork are carried from one data directory into another.

import { copyFile, constants, lstat, open, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { TimelineSegment, WalPoint } from "../../base/lineage.ts";
import type { Lsn, Timeline } from "../../base/lsn.ts";
import { segmentName, walWanted } from "../wal-segments.ts";
import { flushFolder, isMissing } from "./durable.ts";

const SEGMENT_NAME = /^[0-9A-F]{24}(\.partial)?$/;

/** As initdb chose it: the size of any segment. */
export async function walSegmentBytes(folder: string): Promise<bigint> {
  const name = (await readdir(folder)).find((each) => SEGMENT_NAME.test(each));
  if (name === undefined) throw new Error(`there is no WAL in ${folder}`);
  return BigInt((await lstat(join(folder, name))).size);
}

/**
 * Leaves in `to` the WAL from `start` up to the end of the last of `timelines` (the fork), and none beyond: segments of `from` where it has them, else what is
 * there. The segment that holds the fork is zero behind it, so that recovery ends exactly there. Says whether all of them are there.
 */
export async function carryWal(options: {
  from: string;
  to: string;
  start: Lsn;
  /** What both sides share, oldest first, each with its end; the last one's is the fork. */
  timelines: readonly TimelineSegment[];
  segmentBytes: bigint;
}): Promise<{ missing: string | undefined }> {
  const { from, to, start, timelines, segmentBytes } = options;
  const fork = timelines.at(-1) as TimelineSegment;
  const own = new Set(await readdir(from));
  const present = (await readdir(to)).filter((name) => SEGMENT_NAME.test(name));
  const { wanted, missing } = walWanted({ own, present, start, timelines, segmentBytes });
  for (const name of wanted)
    if (own.has(name)) await copyFile(join(from, name), join(to, name), constants.COPYFILE_FICLONE);
  for (const name of present) if (!wanted.has(name)) await rm(join(to, name));
  const last = segmentName(fork.timeline, fork.end / segmentBytes, segmentBytes);
  if (wanted.has(last)) await zeroFrom(join(to, last), fork.end % segmentBytes, segmentBytes);
  return { missing };
}

/** Takes away what lies behind that point on its timeline, durably: recovery ends there. */
export async function cutWal(folder: string, { timeline, lsn }: WalPoint): Promise<void> {
  const segmentBytes = await walSegmentBytes(folder);
  const last = segmentName(timeline, lsn / segmentBytes, segmentBytes);
  const names = (await readdir(folder)).filter((name) => SEGMENT_NAME.test(name) && name.startsWith(last.slice(0, 8)));
  for (const name of names) if (name.slice(0, last.length) > last) await rm(join(folder, name));
  if (names.includes(last)) await zeroFrom(join(folder, last), lsn % segmentBytes, segmentBytes);
  await flushFolder(folder);
}

/** Takes away the WAL of timelines above that one. */
export async function dropLaterTimelines(folder: string, timeline: Timeline): Promise<void> {
  for (const name of await readdir(folder))
    if (SEGMENT_NAME.test(name) && Number.parseInt(name.slice(0, 8), 16) > timeline) await rm(join(folder, name));
}

/** Adds to the WAL in `to` what `from` has of it from `start` on, on whatever timeline, with the histories. Of one that is used again meanwhile nothing comes: recovery ends before it. */
export async function addWal({ from, to, start }: { from: string; to: string; start: Lsn }): Promise<void> {
  const segmentBytes = await walSegmentBytes(from);
  // Names are in the order of the WAL, behind the timeline.
  const first = segmentName(0, start / segmentBytes, segmentBytes).slice(8);
  for (const name of await readdir(from)) {
    const wanted = name.endsWith(".history") || (SEGMENT_NAME.test(name) && name.slice(8, 24) >= first);
    if (!wanted) continue;
    await copyFile(join(from, name), join(to, name), constants.COPYFILE_FICLONE).catch(async (error: unknown) => {
      if (!isMissing(error)) throw error;
      await rm(join(to, name), { force: true });
    });
  }
}

async function zeroFrom(path: string, offset: bigint, segmentBytes: bigint): Promise<void> {
  const file = await open(path, "r+");
  try {
    const zeros = Buffer.alloc(1 << 20);
    for (let at = offset; at < segmentBytes; ) {
      const length = Math.min(zeros.length, Number(segmentBytes - at));
      await file.write(zeros, 0, length, Number(at));
      at += BigInt(length);
    }
    await file.sync();
  } finally {
    await file.close();
  }
}
