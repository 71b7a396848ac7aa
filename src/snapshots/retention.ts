// Which snapshots stay and which go: by number, by class of age, and by what they are needed for. Decided by their order, never by what time it is: a clock that
// jumps must not cost a snapshot.

import type { WalPoint } from "../base/lineage.ts";
import { isGood } from "./choice.ts";
import { decodeFacts, verdictOf, WHY_PROPERTY } from "./facts.ts";

export interface RetentionPolicy {
  /** Kept of the newest, whatever their age. */
  readonly newest: number;
  /** Hours, days and weeks of which the newest one is kept. */
  readonly hourly: number;
  readonly daily: number;
  readonly weekly: number;
}

export interface Candidate {
  readonly name: string;
  readonly createdWallMs: number;
  readonly properties: Readonly<Record<string, string>>;
  readonly holds: readonly string[];
}

/** Why one stays. Those up to `before the generation` never go by themselves; of the others, the first to go when space runs short comes last. */
export type Reason =
  | "foreign"
  | "held"
  | "failed"
  | "newest good"
  | "newest verified"
  | "before the generation"
  | "weekly"
  | "daily"
  | "hourly"
  | "newest";

/** What stays, with why, and what may go. */
export interface Retention<T> {
  readonly kept: readonly { readonly snapshot: T; readonly reason: Reason }[];
  readonly superfluous: readonly T[];
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const WEEK_MS = 7 * DAY_MS;
/** The epoch was a Thursday. */
const MONDAY_MS = 4 * DAY_MS;

/** Made by a snapshotter (or on demand): its name is a time, and it says why. Whatever else is there is somebody else's. */
export function isOurs({ name, properties }: Pick<Candidate, "name" | "properties">): boolean {
  return /^\d{13,15}$/.test(name) && properties[WHY_PROPERTY] !== undefined;
}

/**
 * `snapshots`: oldest first. `generation`: where the shard's present generation begins: the newest snapshot that ends before it is what a peer that forked there
 * goes back to.
 */
export function judgeRetention<T extends Candidate>(
  snapshots: readonly T[],
  policy: RetentionPolicy,
  generation: WalPoint | undefined,
): Retention<T> {
  const reasons = new Map<T, Reason>();
  const keep = (snapshot: T | undefined, reason: Reason) => {
    if (snapshot && !reasons.has(snapshot)) reasons.set(snapshot, reason);
  };
  for (const snapshot of snapshots) if (!isOurs(snapshot)) keep(snapshot, "foreign");
  const ours = snapshots.filter(isOurs);
  for (const snapshot of ours) if (snapshot.holds.length > 0) keep(snapshot, "held");
  for (const snapshot of ours) if (verdictOf(snapshot.properties)?.passed === false) keep(snapshot, "failed");
  keep(ours.findLast(isGood), "newest good");
  keep(
    ours.findLast(({ properties }) => verdictOf(properties)?.passed === true),
    "newest verified",
  );
  if (generation) keep(newestBefore(ours, generation), "before the generation");
  for (const snapshot of newestOfEach(ours, policy.weekly, weekOf)) keep(snapshot, "weekly");
  for (const snapshot of newestOfEach(ours, policy.daily, dayOf)) keep(snapshot, "daily");
  for (const snapshot of newestOfEach(ours, policy.hourly, hourOf)) keep(snapshot, "hourly");
  for (const snapshot of ours.slice(-policy.newest)) keep(snapshot, "newest");
  return {
    kept: snapshots.flatMap((snapshot) => {
      const reason = reasons.get(snapshot);
      return reason ? [{ snapshot, reason }] : [];
    }),
    superfluous: snapshots.filter((snapshot) => !reasons.has(snapshot)),
  };
}

const THINNED: readonly Reason[] = ["newest", "hourly", "daily", "weekly"];

/** The next to go where space runs short: the oldest of the densest class; undefined: what is left must stay. */
export function nextToThin<T>(kept: Retention<T>["kept"]): T | undefined {
  for (const reason of THINNED) {
    const oldest = kept.find((entry) => entry.reason === reason);
    if (oldest) return oldest.snapshot;
  }
  return undefined;
}

function newestBefore<T extends Candidate>(ours: readonly T[], { timeline, lsn }: WalPoint): T | undefined {
  return ours.findLast((snapshot) => {
    const facts = decodeFacts(snapshot.properties);
    return facts !== undefined && facts.timeline <= timeline && facts.lsn <= lsn && isGood(snapshot);
  });
}

function newestOfEach<T extends Candidate>(
  ours: readonly T[],
  count: number,
  periodOf: (wallMs: number) => number,
): T[] {
  const seen = new Set<number>();
  const chosen: T[] = [];
  for (const snapshot of [...ours].reverse()) {
    const period = periodOf(snapshot.createdWallMs);
    if (seen.has(period)) continue;
    if (seen.size >= count) break;
    seen.add(period);
    chosen.push(snapshot);
  }
  return chosen;
}

const hourOf = (wallMs: number): number => Math.floor(wallMs / HOUR_MS);
const dayOf = (wallMs: number): number => Math.floor(wallMs / DAY_MS);
const weekOf = (wallMs: number): number => Math.floor((wallMs - MONDAY_MS) / WEEK_MS);
