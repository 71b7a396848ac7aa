// The time that something will take, by the time that it has taken.

import type { Bytes, Ms } from "./units.ts";

/** At the pace so far; undefined: not known, or nothing came yet. Estimates are just that: a stream may be longer than expected, and then has no time left. */
export function leftMsOf({
  done,
  expected,
  elapsedMs,
}: {
  readonly done: Bytes;
  readonly expected: Bytes | undefined;
  readonly elapsedMs: Ms;
}): Ms | undefined {
  if (expected === undefined || done === 0) return undefined;
  return (Math.max(0, expected - done) / done) * elapsedMs;
}
