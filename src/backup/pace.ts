// The rate limit: of all transfers together.

import type { Bytes, Ms } from "../base/units.ts";
import type { Clock, Timers } from "../world/port.ts";
import { pause } from "../world/waiting.ts";

/** Waits shorter than this are saved up: a timer is no more exact than that. */
const WAIT_MIN_MS: Ms = 10;

/** Waits before so many bytes more may be sent. */
export type Pace = (bytes: Bytes) => Promise<void>;

/** `bytesPerSecond` undefined: no limit. */
export function paceOf(bytesPerSecond: number | undefined, { clock, timers }: { clock: Clock; timers: Timers }): Pace {
  if (bytesPerSecond === undefined) return () => Promise.resolve();
  /** When what was let through so far will have been sent at this rate. */
  let dueMs = clock.now();
  return async (bytes) => {
    const now = clock.now();
    // Time in which nothing was sent is gone: no burst makes up for it.
    dueMs = Math.max(dueMs, now) + (bytes / bytesPerSecond) * 1000;
    const waitMs = dueMs - now;
    if (waitMs >= WAIT_MIN_MS) await pause(timers, waitMs);
  };
}
