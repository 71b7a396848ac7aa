// A story of a shard as a test, on each pair of PostgreSQL and store for which it is meant.

import { expect, test } from "vitest";
import type { PostgresChoice } from "./postgres-binaries.ts";
import type { TestShard } from "./shard.ts";
import { type ShardOptions, startShard } from "./start-shard.ts";

export interface Pair {
  readonly postgres: PostgresChoice;
  readonly store: "zookeeper" | "local";
}

/** Where every scenario runs. */
export const MAIN_PAIR: Pair = { postgres: "system", store: "zookeeper" };
/** Each of the chosen ones on one of them, on all with MANATEE_TEST_FULL=1. */
const OTHER_PAIRS: readonly Pair[] = [
  { postgres: "embedded-newest", store: "local" },
  { postgres: "embedded-newest", store: "zookeeper" },
  { postgres: "embedded-oldest", store: "local" },
  { postgres: "embedded-oldest", store: "zookeeper" },
];

/** More repetitions, longer outages, all pairs. */
export const FULL = process.env["MANATEE_TEST_FULL"] === "1";
/** Restricts the pairs: `system×zookeeper`. */
const ONLY = process.env["MANATEE_TEST_PAIR"];

export interface ScenarioOptions extends Omit<ShardOptions, "store" | "postgres"> {
  /** `everywhere`: one of the chosen ones, which together run on every pair. */
  readonly on?: "main" | "everywhere" | readonly Pair[];
}

export function scenario(
  title: string,
  options: ScenarioOptions,
  story: (shard: TestShard, pair: Pair) => Promise<void>,
): void {
  const { on = "main", ...shardOptions } = options;
  for (const pair of pairsOf(on, title)) {
    const name = `${pair.postgres}×${pair.store}`;
    if (ONLY !== undefined && ONLY !== name) continue;
    test(`${title} [${name}]`, async () => {
      const shard = await startShard({ ...shardOptions, ...pair });
      let failure: unknown;
      try {
        await story(shard, pair);
      } catch (error) {
        failure = await withStory(error, shard);
      }
      try {
        await shard.stop();
      } catch (error) {
        if (failure === undefined) throw error;
        console.error(error);
      }
      if (failure !== undefined) throw failure;
    });
  }
}

function pairsOf(on: NonNullable<ScenarioOptions["on"]>, title: string): readonly Pair[] {
  if (on === "main") return [MAIN_PAIR];
  if (on !== "everywhere") return on;
  return [MAIN_PAIR, ...(FULL ? OTHER_PAIRS : OTHER_PAIRS.filter((_, i) => i === shareOf(title)))];
}

/** By the title, so that it stays the same in every run; this hash gives each pair two stories at least. */
function shareOf(title: string): number {
  return Buffer.from(title).reduce((hash, byte) => (hash * 32 + byte) % 65_521, 0) % OTHER_PAIRS.length;
}

/** An assertion that failed says what; where the shard stood says why. */
async function withStory(error: unknown, shard: TestShard): Promise<unknown> {
  if (!(error instanceof Error) || error.message.includes("\nhistory:")) return error;
  error.message += `\n${await shard.story().catch((later: unknown) => `(no story: ${String(later)})`)}`;
  return error;
}

/** Longer than any pause of a busy machine, shorter than whatever would make commits wait here (a session, a silent standby): no measure of speed. */
const OUTAGE_MS = 5500;

/** Writes have gone on since then. */
export function expectNoOutage(shard: TestShard, { since }: { since: number }): void {
  const times = shard.history.operations
    .filter(
      (operation) => operation.kind === "insert" && operation.outcome === "ok" && (operation.endedAt ?? 0) >= since,
    )
    .map((operation) => operation.endedAt as number)
    .sort((a, b) => a - b);
  let longest = 0;
  let last = since;
  for (const at of times) {
    longest = Math.max(longest, at - last);
    last = at;
  }
  expect(times.length, "inserts acknowledged in that time").toBeGreaterThan(0);
  expect(longest, "longest time without an acknowledged insert, in ms").toBeLessThan(OUTAGE_MS);
}
