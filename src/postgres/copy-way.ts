// Which snapshot a roll-back begins from, and whether a copy can be a snapshot of the source's: asked by the work itself, and by whoever foretells it. Pure.

import { type Lineage, segmentsOf, sharedSegments, type TimelineSegment } from "../base/lineage.ts";
import { HIGHEST_LSN } from "../base/lsn.ts";

export type RollBackChoice<T> =
  | { readonly kind: "from"; readonly snapshot: T; readonly shared: readonly TimelineSegment[] }
  | { readonly kind: "none"; readonly because: string };

/** R1.6: `choose` is the policy's (snapshots/choice.ts); snapshots are oldest first. */
export function chooseRollBack<T>({
  own,
  source,
  snapshots,
  choose,
}: {
  readonly own: Lineage;
  readonly source: Lineage;
  readonly snapshots: readonly T[];
  readonly choose: (snapshots: readonly T[], shared: readonly TimelineSegment[]) => T | undefined;
}): RollBackChoice<T> {
  const shared = sharedSegments(segmentsOf(own), segmentsOf(source));
  const fork = shared.at(-1);
  if (!fork || fork.end === HIGHEST_LSN) return { kind: "none", because: "its timelines show no fork" };
  const snapshot = choose(snapshots, shared);
  return snapshot === undefined
    ? { kind: "none", because: "no snapshot ends before the fork" }
    : { kind: "from", snapshot, shared };
}

/** How the source's storage sends, and how this one receives. */
export interface Formats {
  readonly theirs: string;
  readonly ours: string;
}

/** undefined: a snapshot of the source's can take the dataset's place, as far as is known. */
export function obstacleToSeed({
  dataset,
  mountedAt,
  dataDir,
  formats,
}: {
  readonly dataset: string;
  /** undefined: it is not mounted. */
  readonly mountedAt: string | undefined;
  readonly dataDir: string;
  /** undefined: not asked yet. */
  readonly formats: Formats | undefined;
}): string | undefined {
  if (mountedAt === undefined) return `the dataset ${dataset} is not mounted`;
  if (mountedAt !== dataDir)
    return `the dataset ${dataset} is mounted at ${mountedAt}, and the data directory is ${dataDir}`;
  if (formats && !canReceive(formats))
    return `the source's storage sends ${formats.theirs}, and the one here receives ${formats.ours}`;
  return undefined;
}

export function canReceive({ theirs, ours }: Formats): boolean {
  return theirs === ours;
}
