// How long one channel may be silent before that says something (D2). Learned from the channel itself: the usual time between two words of the peer
// plus some deviations of it, plus the way there and back, between a floor and a ceiling that the operator sets.

import type { Ms } from "../base/units.ts";

export interface SilenceOptions {
  /** Between two beats of the peer, as it should be. */
  readonly beatMs: Ms;
  /** Floor: no limit is shorter, however even the channel is. Lower is quicker, and takes a shorter stall of a host for its death. */
  readonly minMs: Ms;
  /** Ceiling: no limit is longer, however uneven the channel is. */
  readonly maxMs: Ms;
  /** Of the time between two words. */
  readonly deviations: number;
}

/** Weight of the newest word: at five beats a second it remembers some twelve seconds. */
const WEIGHT = 1 / 64;
/** A round trip that was slow once is forgotten by half in so many words. */
const ROUND_TRIP_HALF_LIFE = 64;

export class SilenceLimit {
  readonly #options: SilenceOptions;
  #meanMs: Ms;
  #variance = 0;
  #roundTripMs: Ms = 0;

  constructor(options: SilenceOptions) {
    this.#options = options;
    this.#meanMs = options.beatMs;
  }

  /** A word came so long after the one before it; `roundTripMs`: since the beat was sent that it answers. */
  heard(gapMs: Ms, roundTripMs: Ms): void {
    // An outage that ended must not make the next one last long.
    const { limitMs } = this;
    const gap = Math.min(gapMs, limitMs);
    const off = gap - this.#meanMs;
    this.#meanMs += off * WEIGHT;
    this.#variance = (1 - WEIGHT) * (this.#variance + off * off * WEIGHT);
    this.#roundTripMs = Math.max(
      Math.min(roundTripMs, limitMs / 2),
      this.#roundTripMs * 0.5 ** (1 / ROUND_TRIP_HALF_LIFE),
    );
  }

  get limitMs(): Ms {
    const { minMs, maxMs, deviations } = this.#options;
    const learned = this.#meanMs + deviations * Math.sqrt(this.#variance) + 2 * this.#roundTripMs;
    return Math.round(Math.min(maxMs, Math.max(minMs, learned)));
  }
}
