// A real Btrfs for one test file: in a file behind a loop device of its own, mounted in a temporary folder. Needs root.

import { type LoopDisk, openLoopDisk, whyNoLoopDisk } from "./loop-disk.ts";

export type BtrfsDisk = LoopDisk;

/** Why there is none here, so that a suite can be left out, and say so. */
export const noBtrfs: string | undefined = whyNoLoopDisk("a Btrfs", ["mkfs.btrfs", "btrfs"]);

/** `megabytes`: of the disk, at least 128; `folder`: at which it is mounted, where not at one of its own. */
export function openBtrfsDisk({
  megabytes = 512,
  folder,
}: {
  megabytes?: number;
  folder?: string;
} = {}): Promise<BtrfsDisk> {
  if (noBtrfs !== undefined) throw new Error(noBtrfs);
  // Mixed: on a small disk that was full once, all else leaves too little room for metadata for good.
  return openLoopDisk({ type: "btrfs", megabytes, make: ["mkfs.btrfs", "-q", "--mixed"], folder });
}
