// How long an action that failed is left alone. Keyed by the kind of action, so that one that fails holds back no other.

import type { Ms } from "../base/units.ts";

const FIRST_MS = 100;
/** A server that fails to start for an hour is tried every five seconds, and is up five seconds after the cause is gone. */
const LONGEST_MS = 5_000;

export class Backoff {
  readonly #failures = new Map<string, { count: number; until: Ms }>();

  failed(kind: string, now: Ms): void {
    const count = (this.#failures.get(kind)?.count ?? 0) + 1;
    this.#failures.set(kind, { count, until: now + Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(count - 1, 16)) });
  }

  succeeded(kind: string): void {
    this.#failures.delete(kind);
  }

  /** How long it must still be left alone; 0: not at all. */
  remainingMs(kind: string, now: Ms): Ms {
    return Math.max(0, (this.#failures.get(kind)?.until ?? now) - now);
  }
}
