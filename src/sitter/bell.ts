// The one "something changed" that the loop waits for. What changed is not told: everything is looked at afresh.

import type { Ms } from "../base/units.ts";
import type { Timers } from "../world/port.ts";

export class Bell {
  readonly #timers: Timers;
  #rung = false;
  #wake: (() => void) | undefined;

  constructor(timers: Timers) {
    this.#timers = timers;
  }

  /** Rings that nobody waits for yet count as one, for the next wait. */
  readonly ring = (): void => {
    this.#rung = true;
    this.#wake?.();
  };

  /** Resolves once it has rung since the last wait ended, at the latest after `limitMs`. One waiter at a time. */
  async wait(limitMs: Ms): Promise<void> {
    if (!this.#rung) {
      await new Promise<void>((resolve) => {
        const cancel = this.#timers.after(limitMs, resolve);
        this.#wake = () => {
          cancel();
          resolve();
        };
      });
      this.#wake = undefined;
    }
    this.#rung = false;
  }
}
