// Whether a port answers, asked again and again while there is doubt, without waiting for one question to end before the next is put: a single lost
// packet then decides nothing.

import type { Ms } from "../base/units.ts";
import type { PeerEvidence } from "../cluster/observation.ts";
import type { Clock, PortAnswer, Timers } from "../world/port.ts";

type PortEvidence = PeerEvidence["postgresPort"];

const EAGER_INTERVAL_MS: Ms = 100;
/** A doubt that lasts longer is no news: then it is asked at leisure. */
const EAGER_FOR_MS: Ms = 5_000;
/** So many unanswered intervals make an answer old. */
const ANSWER_INTERVALS = 3;

export interface PortWatchOptions {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly ask: () => Promise<PortAnswer>;
  /** Once the doubt is old. */
  readonly calmIntervalMs: Ms;
  readonly onChange: () => void;
}

export class PortWatch {
  readonly #options: PortWatchOptions;
  /** undefined: nobody asks. */
  #since: Ms | undefined;
  #answer: { readonly kind: "open" | "refused"; readonly since: Ms; readonly at: Ms } | undefined;
  #cancel: () => void = () => {};
  /** Answers to questions of an earlier doubt are not taken. */
  #round = 0;

  constructor(options: PortWatchOptions) {
    this.#options = options;
  }

  begin(): void {
    if (this.#since !== undefined) return;
    this.#since = this.#options.clock.now();
    this.#answer = undefined;
    this.#round++;
    this.#ask();
  }

  end(): void {
    this.#cancel();
    this.#since = undefined;
    this.#answer = undefined;
    this.#round++;
  }

  /** This process stood still: silence counts from now. */
  startOver(): void {
    if (this.#since === undefined) return;
    this.end();
    this.begin();
  }

  evidence(): PortEvidence {
    if (this.#since === undefined) return { kind: "unknown", since: this.#options.clock.now() };
    const answer = this.#answer;
    if (!answer) return { kind: "silent", since: this.#since };
    const old = this.#options.clock.now() - answer.at > ANSWER_INTERVALS * this.#intervalMs();
    return old ? { kind: "silent", since: answer.at } : { kind: answer.kind, since: answer.since };
  }

  #intervalMs(): Ms {
    const { clock, calmIntervalMs } = this.#options;
    const eager = this.#since !== undefined && clock.now() - this.#since < EAGER_FOR_MS;
    return eager ? Math.min(EAGER_INTERVAL_MS, calmIntervalMs) : calmIntervalMs;
  }

  #ask(): void {
    const { ask, clock, timers, onChange } = this.#options;
    const round = this.#round;
    void ask().then((kind) => {
      if (round !== this.#round || kind === "silent") return;
      const now = clock.now();
      const before = this.evidence().kind;
      this.#answer = { kind, since: before === kind ? (this.#answer?.since ?? now) : now, at: now };
      if (before !== kind) onChange();
    });
    this.#cancel = timers.after(this.#intervalMs(), () => this.#ask());
  }
}
