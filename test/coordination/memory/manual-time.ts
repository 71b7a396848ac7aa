// Time that stands still until it is moved: for the store in memory and whatever runs on its clock.

import type { Ms } from "../../../src/base/units.ts";
import type { Clock, Log, Random, Timers } from "../../../src/world/port.ts";

export interface ManualTime {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  /** Moves time, and runs what becomes due, with all that follows from it at each instant. */
  advance(byMs: Ms): Promise<void>;
}

export function manualTime(): ManualTime {
  let now = 0;
  let order = 0;
  let seed = 1;
  const due = new Map<number, { at: Ms; callback: () => void }>();
  const number = () => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed / 2_147_483_647;
  };
  const log: Log = { trace() {}, debug() {}, info() {}, warn() {}, error() {}, child: () => log };
  return {
    clock: { now: () => now, wall: () => 1_700_000_000_000 + now },
    timers: {
      after(delayMs, callback) {
        const id = order++;
        due.set(id, { at: now + Math.max(0, delayMs), callback });
        return () => due.delete(id);
      },
    },
    random: {
      hex: (bytes) => Array.from({ length: bytes * 2 }, () => Math.floor(number() * 16).toString(16)).join(""),
      number,
    },
    log,
    async advance(byMs) {
      const end = now + byMs;
      for (;;) {
        await settled();
        const next = [...due].filter(([, { at }]) => at <= end).sort((a, b) => a[1].at - b[1].at || a[0] - b[0])[0];
        if (!next) break;
        due.delete(next[0]);
        now = Math.max(now, next[1].at);
        next[1].callback();
      }
      now = end;
      await settled();
    },
  };
}

/** All promises that follow from what has happened, many turns deep. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
}
