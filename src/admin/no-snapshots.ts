// What it means that a backup server does not answer: perhaps nothing is wrong, and there is none.

import type { PeerTarget } from "./peer-target.ts";

/** undefined: this host's peer has storage that snapshots, and so have the others, as far as its file tells. */
export function whyNoSnapshots({ config }: PeerTarget): string | undefined {
  if (config.storage !== undefined) return undefined;
  return "This host's data lie in a plain folder (the sitter's file names no storage): no snapshots are taken of it, and peers are copied by base backup. Where the other peers are like it, nothing is wrong; docs/operating/storage.md says what snapshots need.";
}
