// How long a call to PostgreSQL that failed is left alone. Keyed by the kind of action, so that one that fails holds back no other. Of a long
// action, which fails after its call, the decision knows by the observation, and waits by itself (`attempt` in cluster/step.ts).

import type { Ms } from "../base/units.ts";

const FIRST_MS = 100;
/** Settings that could not be applied for an hour are tried every five seconds, and hold five seconds after the cause is gone. */
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
