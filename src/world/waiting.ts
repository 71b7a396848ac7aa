// Waiting for time, and bounds for what may hang, by timers that are handed in.

import type { Ms } from "../base/units.ts";
import type { Timers } from "./port.ts";

/** Resolves after that time. */
export function pause(timers: Timers, delayMs: Ms): Promise<void> {
  return new Promise((resolve) => timers.after(delayMs, resolve));
}

/**
 * Runs the call with a signal that is aborted after the limit. Settles as the call does, or with `undefined` at the limit: what the
 * call still does then is its own affair, and its rejection is not lost on anybody.
 */
export async function withLimit<T>(
  { limitMs, timers }: { limitMs: Ms; timers: Timers },
  call: (signal: AbortSignal) => Promise<T>,
): Promise<T | undefined> {
  const abort = new AbortController();
  let cancel = () => {};
  const limit = new Promise<undefined>((resolve) => {
    cancel = timers.after(limitMs, () => {
      abort.abort();
      resolve(undefined);
    });
  });
  const running = call(abort.signal);
  running.catch(() => undefined);
  try {
    return await Promise.race([running, limit]);
  } finally {
    cancel();
  }
}

/** Rejects where the promise has not settled in time; what it was about goes on, and is the caller's to end. */
export function demandWithin<T>(timers: Timers, limitMs: Ms, promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const cancel = timers.after(limitMs, () => reject(new Error(`nothing came within ${limitMs} ms`)));
    promise.then(resolve, reject).finally(cancel);
  });
}
