// A wait with an end, at which it fails. What gives up quietly, and tells what it waited for to end, is the sitter's `withLimit`.

import type { Ms } from "../base/units.ts";
import type { Timers } from "../world/port.ts";

/** Rejects where the promise has not settled in time; what it was about goes on, and is the caller's to end. */
export function demandWithin<T>(timers: Timers, limitMs: Ms, promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const cancel = timers.after(limitMs, () => reject(new Error(`nothing came within ${limitMs} ms`)));
    promise.then(resolve, reject).finally(cancel);
  });
}
