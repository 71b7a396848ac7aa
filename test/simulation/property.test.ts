// Random stories over two to five peers keep the invariants, and come to an end: when the faults are over, clients can commit and
// everybody is back, or every peer that is stuck names the operator's command (I1 to I6). A counter-example is printed as a script.

import fc from "fast-check";
import { expect, test } from "vitest";
import { type Outcome, runScript } from "../../simulation/script.ts";
import { decide } from "../../src/cluster/decide.ts";
import { arbitraryStory } from "./arbitrary-script.ts";

/** Less than half a minute on two idle cores; more in test:full, and by MANATEE_PROPERTY_RUNS. */
const RUNS = Number(process.env["MANATEE_PROPERTY_RUNS"] ?? (process.env["MANATEE_TEST_FULL"] === "1" ? 1_000 : 120));
const SEED = Number(process.env["MANATEE_PROPERTY_SEED"] ?? 20_251_125);
/** A run is well below a second. */
const TIMEOUT_MS = 60_000 + RUNS * 2_000;

function report(lines: readonly string[], { failure }: Outcome): string {
  return `${failure}\n\n--- paste this into test/scenarios/NAME.txt ---\n${lines.join("\n")}\n---`;
}

function keepsAll(lines: readonly string[], coverage: Map<string, number>): void {
  const outcome = runScript(lines.join("\n"), decide);
  for (const [what, count] of outcome.world.coverage) coverage.set(what, (coverage.get(what) ?? 0) + count);
  if (outcome.failure !== undefined) throw new Error(report(lines, outcome));
}

test("I1 to I6 hold in every random story, and each of the dangerous rules was reached", {
  timeout: TIMEOUT_MS,
}, () => {
  const coverage = new Map<string, number>();
  fc.assert(
    fc.property(arbitraryStory(), (lines) => keepsAll(lines, coverage)),
    { numRuns: RUNS, seed: SEED, endOnFailure: false },
  );
  const reached = [
    "S1",
    "A1",
    "T1",
    "T2",
    "T3",
    "P1",
    "X1",
    "R1",
    "FENCE",
    "F1",
    "do promote",
    "do roll-back",
    "do rewind",
    "do keep-fork",
    "do write-marker",
  ];
  expect(reached.filter((what) => !coverage.has(what))).toEqual([]);
});

test("a shard of one goes through everything that can happen to it", { timeout: TIMEOUT_MS }, () => {
  const coverage = new Map<string, number>();
  fc.assert(
    fc.property(arbitraryStory({ peersMin: 1, peersMax: 1 }), (lines) => keepsAll(lines, coverage)),
    { numRuns: Math.ceil(RUNS / 10), seed: SEED },
  );
  expect(coverage.has("B1") && coverage.has("do start")).toBe(true);
});
