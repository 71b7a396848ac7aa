// Whether this process itself stood still (stopped, swapped out, its machine suspended). After that, silence of others proves nothing:
// their answers may lie unread in our own buffers (D2).

import type { Ms } from "../base/units.ts";
import type { Clock, Timers } from "../world/port.ts";

const BEAT_MS = 200;
/** Beyond the beat. Collections of garbage stay below; silence that counts lasts longer (`peers.silenceMinMs`), and is asked about twice. */
const STALL_MS = 400;

export class StallDetector {
  readonly #clock: Clock;
  readonly #timers: Timers;
  readonly #onStall: (stalledMs: Ms) => void;
  #lastBeat: Ms;
  #cancel: () => void = () => {};

  constructor({ clock, timers, onStall }: { clock: Clock; timers: Timers; onStall: (stalledMs: Ms) => void }) {
    this.#clock = clock;
    this.#timers = timers;
    this.#onStall = onStall;
    this.#lastBeat = clock.now();
  }

  start(): void {
    this.check();
    this.#cancel = this.#timers.after(BEAT_MS, () => this.start());
  }

  stop(): void {
    this.#cancel();
  }

  /** To be called before evidence is used or added to: after a stall other callbacks may run before the beat does. */
  check(): void {
    const now = this.#clock.now();
    const late = now - this.#lastBeat - BEAT_MS;
    this.#lastBeat = now;
    if (late > STALL_MS) this.#onStall(late);
  }
}
