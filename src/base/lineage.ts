// What a peer can say of its WAL: the timelines it went through, and where it ends. Contents are never compared; these are.

import { formatLsn, HIGHEST_LSN, type Lsn, parseLsn, type Timeline } from "./lsn.ts";

/** A timeline that was left: it is part of this WAL up to `end`, where the next one began. */
export interface TimelineSegment {
  readonly timeline: Timeline;
  readonly end: Lsn;
}

/** The history of a WAL: the timelines it left, oldest first, then the one that it is on. */
export interface Lineage {
  readonly past: readonly TimelineSegment[];
  readonly timeline: Timeline;
}

/** A place in a WAL. */
export interface WalPoint {
  readonly timeline: Timeline;
  readonly lsn: Lsn;
}

/** A WAL: its lineage and where it ends. */
export interface Wal extends Lineage {
  readonly end: Lsn;
}

/** Where `timeline` ends in this WAL; undefined where it is not part of it. */
export function reach(wal: Wal, timeline: Timeline): Lsn | undefined {
  if (timeline === wal.timeline) return wal.end;
  return wal.past.find((segment) => segment.timeline === timeline)?.end;
}

/** T1: whether the WAL contains that point: its timeline is in the history, and goes at least as far there. */
export function containsPoint(wal: Wal, point: WalPoint): boolean {
  const end = reach(wal, point.timeline);
  return end !== undefined && end >= point.lsn;
}

/**
 * Whether a standby that ends at `point` can follow a server of that lineage: its timeline was left by the server at or
 * behind the standby's end, or is still the server's (what walreceiver and walsender compare). The server's own end
 * does not matter while it serves: it may merely not have sent what it has.
 */
export function canFollow(server: Lineage, point: WalPoint): boolean {
  if (point.timeline === server.timeline) return true;
  const left = server.past.find((segment) => segment.timeline === point.timeline);
  return left !== undefined && left.end >= point.lsn;
}

/** The timelines of a WAL whose end does not matter, the present one last. */
export function segmentsOf({ past, timeline }: Lineage): readonly TimelineSegment[] {
  return [...past, { timeline, end: HIGHEST_LSN }];
}

/** What two WALs have in common, as their timelines show it; the last one's end is where they part. */
export function sharedSegments(
  own: readonly TimelineSegment[],
  theirs: readonly TimelineSegment[],
): readonly TimelineSegment[] {
  const shared: TimelineSegment[] = [];
  for (const [i, segment] of own.entries()) {
    const other = theirs[i];
    if (other?.timeline !== segment.timeline) break;
    shared.push(other.end < segment.end ? other : segment);
    if (other.end !== segment.end) break;
  }
  return shared;
}

/** `1@0/3000060,2@0/5000000,3`: timelines left with their ends, then the present one. */
export function formatLineage(lineage: Lineage): string {
  const past = lineage.past.map(({ timeline, end }) => formatPoint({ timeline, lsn: end }));
  return [...past, String(lineage.timeline)].join(",");
}

/** The inverse of {@link formatLineage}; undefined if it is not one. */
export function parseLineage(text: string): Lineage | undefined {
  const parts = text.split(",");
  const last = parts.pop();
  if (last === undefined || !/^[1-9]\d{0,9}$/.test(last)) return undefined;
  const past: TimelineSegment[] = [];
  for (const part of parts) {
    const point = parsePoint(part);
    if (!point) return undefined;
    past.push({ timeline: point.timeline, end: point.lsn });
  }
  return { past, timeline: Number(last) };
}

/** `1@0/3000060` */
export function formatPoint({ timeline, lsn }: WalPoint): string {
  return `${timeline}@${formatLsn(lsn)}`;
}

/** The inverse of {@link formatPoint}; undefined if it is not one. */
export function parsePoint(text: string): WalPoint | undefined {
  const match = /^([1-9]\d{0,9})@([0-9A-Fa-f/]+)$/.exec(text);
  const lsn = match ? parseLsn(match[2] as string) : undefined;
  return match && lsn !== undefined ? { timeline: Number(match[1]), lsn } : undefined;
}
