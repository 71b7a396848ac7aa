// How far a stream is, for both sides.

import type { Bytes, Ms } from "../base/units.ts";

export interface TransferProgress {
  /** Bytes of the storage's stream, without what frames it. */
  readonly done: Bytes;
  /** The sender's estimate; undefined: it can't tell. */
  readonly expected: Bytes | undefined;
  readonly elapsedMs: Ms;
  /** At the pace so far; undefined: not known, or nothing came yet. */
  readonly leftMs: Ms | undefined;
  /** Place in the sender's queue; 0: it sends. */
  readonly position: number;
}
