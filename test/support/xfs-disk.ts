// A real XFS with reflinks for one test file: in a file behind a loop device of its own, mounted in a temporary folder. Needs root.

import { type LoopDisk, openLoopDisk, whyNoLoopDisk } from "./loop-disk.ts";

/** Why there is none here, so that a suite can be left out, and say so. */
export const noXfs: string | undefined = whyNoLoopDisk("an XFS", ["mkfs.xfs"]);

/** 300 is what mkfs.xfs asks for at least. */
export function openXfsDisk({ megabytes }: { megabytes: number }): Promise<LoopDisk> {
  if (noXfs !== undefined) throw new Error(noXfs);
  return openLoopDisk({ type: "xfs", megabytes, make: ["mkfs.xfs", "-q", "-m", "reflink=1"] });
}
