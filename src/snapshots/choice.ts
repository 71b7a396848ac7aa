// Which snapshot serves what, by what stands beside it. One that failed its verification serves nothing. Lists are oldest first.

import type { TimelineSegment } from "../base/lineage.ts";
import { decodeFacts, verdictOf } from "./facts.ts";

interface Known {
  readonly properties: Readonly<Record<string, string>>;
}

/** Its position is known, and nothing bad is. */
export function isGood({ properties }: Known): boolean {
  return decodeFacts(properties) !== undefined && verdictOf(properties)?.passed !== false;
}

/** What is sent to who names none: the newest good one; else the newest of the original's, which say nothing of themselves. */
export function newestToSend<T extends Known & { readonly name: string }>(snapshots: readonly T[]): T | undefined {
  return (
    snapshots.findLast(isGood) ??
    snapshots.findLast(({ name, properties }) => /^\d{13,15}$/.test(name) && verdictOf(properties)?.passed !== false)
  );
}

/**
 * R1: the newest whose content ends, at the latest, within what both sides share (the last one's end is the fork). One without a position says nothing, and a fork that
 * was kept is none of the shard's.
 */
export function newestBeforeFork<T extends Known>(
  snapshots: readonly T[],
  shared: readonly TimelineSegment[],
): T | undefined {
  return snapshots.findLast((snapshot) => {
    const facts = decodeFacts(snapshot.properties);
    const timeline = shared.find((segment) => segment.timeline === facts?.timeline);
    return facts !== undefined && timeline !== undefined && facts.lsn <= timeline.end && isGood(snapshot);
  });
}
