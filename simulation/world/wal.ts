// Simulated WAL: a list of records, all of one size, so that forks collide at the same positions. Records have an identity that
// only the checkers compare; everything else sees what a real server shows: timelines and positions.

import type { Wal as DescribedWal, TimelineSegment } from "../../src/base/lineage.ts";
import type { Lsn, Timeline } from "../../src/base/lsn.ts";

export interface WalRecord {
  /** Unique in the world. For checkers only. */
  readonly id: number;
  readonly timeline: Timeline;
  readonly kind: "init" | "commit" | "marker" | "begin" | "checkpoint" | "shutdown";
  /** Of a commit: the value that it wrote. */
  readonly value: string | undefined;
}

export interface SimWal {
  readonly records: WalRecord[];
  readonly past: TimelineSegment[];
  timeline: Timeline;
  /** Index of the latest record of a checkpoint, a shutdown or a new timeline. */
  checkpoint: number;
  /** The values of all commits in it. */
  readonly values: Set<string>;
}

const FIRST = 0x300_0028n;
const RECORD_BYTES = 0x60n;

export function emptyWal(): SimWal {
  return { records: [], past: [], timeline: 1, checkpoint: 0, values: new Set() };
}

export function lsnAt(index: number): Lsn {
  return (FIRST + RECORD_BYTES * BigInt(index)) as Lsn;
}

export function indexOf(lsn: Lsn): number {
  return Number((lsn - FIRST) / RECORD_BYTES);
}

export function walEnd(wal: SimWal): Lsn {
  return lsnAt(wal.records.length);
}

export function appendRecord(wal: SimWal, record: WalRecord): void {
  if (record.timeline !== wal.timeline) {
    wal.past.push({ timeline: wal.timeline, end: walEnd(wal) });
    wal.timeline = record.timeline;
  }
  if (record.kind !== "commit" && record.kind !== "marker") wal.checkpoint = wal.records.length;
  wal.records.push(record);
  if (record.value !== undefined) wal.values.add(record.value);
}

/** The first `length` records, as a WAL of its own. */
export function cutWal(wal: SimWal, length: number): SimWal {
  const copy = emptyWal();
  for (const record of wal.records.slice(0, length)) appendRecord(copy, record);
  return copy;
}

export function copyWal(wal: SimWal): SimWal {
  return cutWal(wal, wal.records.length);
}

/** As its owner can describe it. */
export function describeWal(wal: SimWal): DescribedWal {
  return { past: [...wal.past], timeline: wal.timeline, end: walEnd(wal) };
}

/** Where the latest checkpoint record begins. */
export function checkpointOf(wal: SimWal): Lsn {
  return lsnAt(wal.checkpoint);
}

/** How many records two WALs share, by what timelines and positions say (pg_rewind's way to find the fork). */
export function shownFork(a: SimWal, b: SimWal): number {
  const left = [...a.past, { timeline: a.timeline, end: walEnd(a) }];
  const right = [...b.past, { timeline: b.timeline, end: walEnd(b) }];
  let fork = lsnAt(0);
  for (const segment of left) {
    const other = right.find(({ timeline }) => timeline === segment.timeline);
    if (other) fork = other.end < segment.end ? other.end : segment.end;
  }
  return indexOf(fork);
}

/** How many records two WALs really share. */
export function realFork(a: SimWal, b: SimWal): number {
  const length = Math.min(a.records.length, b.records.length);
  for (let i = 0; i < length; i++) if (a.records[i]?.id !== b.records[i]?.id) return i;
  return length;
}

/** `init x y .` For people: commits by their value, timelines as `|2`, other records as dots. */
export function showWal(wal: SimWal, last = 12): string {
  const words = wal.records.map((record) =>
    record.kind === "commit"
      ? (record.value ?? "?")
      : record.kind === "begin"
        ? `|${record.timeline}`
        : record.kind === "shutdown"
          ? "!"
          : ".",
  );
  const shown = words.slice(-last).join(" ");
  return words.length > last ? `… ${shown}` : shown;
}
