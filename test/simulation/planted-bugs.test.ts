// The checkers are checked: with one precaution left out, some story must break an invariant. A checker that sees nothing is worth nothing.

import { readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { runScript } from "../../simulation/script.ts";
import { decide } from "../../src/cluster/decide.ts";
import { arbitraryStory } from "./arbitrary-script.ts";
import { BUGS } from "./planted-bugs.ts";

const FOLDER = new URL("../scenarios/", import.meta.url);
/** Looked at in this order; then random stories. */
const stories = [
  "primary-dies-in-s1-step-1",
  "former-primary-returns",
  "sync-restored-older",
  "promote-async-under-load",
  "crash-in-promotion-while-hung",
  "claim-while-primary-wakes",
  "primary-isolated-and-back",
  "promote-async-with-a-late-walsender",
  "claim-forgotten-while-primary-wakes",
].map((name) => readFileSync(new URL(`${name}.txt`, FOLDER), "utf8"));
const RANDOM_STORIES = 300;

function isViolated(story: string, planted: typeof decide): boolean {
  return /violated/.test(runScript(story, planted).failure ?? "");
}

test.each(Object.entries(BUGS))("an invariant is violated where %s", { timeout: 180_000 }, (_, plant) => {
  if (stories.some((story) => isViolated(story, plant(decide)))) return;
  const found = fc.check(
    fc.property(arbitraryStory({ peersMin: 3, peersMax: 3 }), (lines) => !isViolated(lines.join("\n"), plant(decide))),
    { numRuns: RANDOM_STORIES, seed: 1, endOnFailure: true },
  );
  expect(found.failed).toBe(true);
});
