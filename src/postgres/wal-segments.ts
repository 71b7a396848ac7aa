// Segments of WAL by their names. Pure.

import type { TimelineSegment } from "../base/lineage.ts";
import type { Lsn, Timeline } from "../base/lsn.ts";

/** `00000001000000000000000A` */
export function segmentName(timeline: Timeline, number: bigint, segmentBytes: bigint): string {
  const perId = 0x1_0000_0000n / segmentBytes;
  return [BigInt(timeline), number / perId, number % perId]
    .map((part) => part.toString(16).toUpperCase().padStart(8, "0"))
    .join("");
}

/** Counted from position 0; undefined: not a segment's name. */
export function segmentNumber(name: string, segmentBytes: bigint): bigint | undefined {
  const match = /^[0-9A-F]{8}([0-9A-F]{8})([0-9A-F]{8})$/.exec(name);
  if (!match) return undefined;
  const [id, rest] = [match[1], match[2]].map((part) => BigInt(`0x${part}`)) as [bigint, bigint];
  return id * (0x1_0000_0000n / segmentBytes) + rest;
}

/** Which segments lead from `start` to the end of the last of `timelines`, of those that are at hand; and the first that is not. */
export function walWanted({
  own,
  present,
  start,
  timelines,
  segmentBytes,
}: {
  own: ReadonlySet<string>;
  /** Already where they are to be. */
  present: readonly string[];
  start: Lsn;
  timelines: readonly TimelineSegment[];
  segmentBytes: bigint;
}): { readonly wanted: ReadonlySet<string>; readonly missing: string | undefined } {
  const fork = timelines.at(-1) as TimelineSegment;
  const wanted = new Set<string>();
  let missing: string | undefined;
  // A segment that ends exactly at the fork is whole; the next one holds nothing of it.
  for (let number = start / segmentBytes; number * segmentBytes < fork.end; number++) {
    let found = false;
    for (const { timeline, end } of timelines) {
      // What bears its name behind its end is a file that waits to be used again.
      if (number * segmentBytes >= end) continue;
      const name = segmentName(timeline, number, segmentBytes);
      if (!own.has(name) && !present.includes(name)) continue;
      wanted.add(name);
      found = true;
    }
    if (!found) missing ??= segmentName(fork.timeline, number, segmentBytes);
  }
  return { wanted, missing };
}
