// Bounds for calls that may hang: at the limit the caller goes on without an answer.

import type { Ms } from "../base/units.ts";
import type { Timers } from "../world/port.ts";

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

export function pause(timers: Timers, delayMs: Ms): Promise<void> {
  return new Promise((resolve) => timers.after(delayMs, resolve));
}
