// What a peer's status service answers, for as long as no stream brings its words: asked at intervals, and quickly for a while when there is a reason to.

import type { Ms } from "../base/units.ts";
import type { PeerEvidence } from "../cluster/observation.ts";
import type { PeerAddress } from "../cluster/state.ts";
import type { World } from "../world/port.ts";
import { statusAddress } from "./address.ts";
import { type NeighbourReport, parsePeerReport } from "./peer-report.ts";

/** After a reason to look, so many looks follow quickly: a sitter hears of its server's death some milliseconds later than we do. */
const EAGER_LOOKS = 5;
const EAGER_INTERVAL_MS: Ms = 100;
/** A peer that says it is well is asked so many times less often: whatever changes about it gives a reason to look at once. */
const CALM_FACTOR = 3;

type SitterKind = PeerEvidence["sitter"]["kind"];

export interface StatusWatchOptions {
  readonly world: World;
  readonly address: () => PeerAddress;
  readonly intervalMs: Ms;
  /** Of one question. */
  readonly limitMs: Ms;
  /** Whether there is no need to ask again: its stream brings words. */
  readonly isIdle: () => boolean;
  /** Whether it had a stream: one that answers here only is watched closely, since something is wrong with it or the way there. */
  readonly hadStream: () => boolean;
  /** Before an answer is taken: whether this process stood still while it was on its way. */
  readonly checkStall: () => void;
  readonly onAnswer: () => void;
}

export class StatusWatch {
  readonly #options: StatusWatchOptions;
  #kind: SitterKind = "unknown";
  #since: Ms;
  #askedAt: Ms;
  #answeredAt: Ms | undefined;
  #report: NeighbourReport | undefined;
  #eagerLooks = 0;
  #looking = false;
  #stopped = false;
  /** Grows with each stall of our own: an answer asked for before it is not taken. */
  #stalls = 0;
  #cancelTimer: () => void = () => {};

  constructor(options: StatusWatchOptions) {
    this.#options = options;
    this.#since = this.#askedAt = options.world.clock.now();
  }

  start(): void {
    void this.#look();
  }

  get kind(): SitterKind {
    return this.#kind;
  }

  /** Silence began when it was asked, at the latest; an answer or a refusal is of when it came. */
  get since(): Ms {
    return this.#since;
  }

  /** When it was asked last. */
  get askedAt(): Ms {
    return this.#askedAt;
  }

  /** When it was asked what it answered last. */
  get answeredAt(): Ms | undefined {
    return this.#answeredAt;
  }

  /** Of the last answer, while it answers. */
  get report(): NeighbourReport | undefined {
    return this.#report;
  }

  /** Look now, and again shortly after. */
  lookNow(): void {
    this.#eagerLooks = EAGER_LOOKS;
    if (this.#looking) return;
    this.#cancelTimer();
    void this.#look();
  }

  /** This process stood still: what it asked before proves nothing. */
  startOver(): void {
    this.#stalls++;
    this.#since = this.#options.world.clock.now();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelTimer();
  }

  /** One look, and the timer for the next. Never rejects. */
  async #look(): Promise<void> {
    this.#looking = true;
    const { clock, timers } = this.#options.world;
    const askedAt = clock.now();
    const stalls = this.#stalls;
    const { kind, report } = await this.#ask();
    this.#looking = false;
    if (this.#stopped) return;
    this.#options.checkStall();
    if (stalls === this.#stalls) {
      if (kind !== this.#kind) this.#since = kind === "silent" ? askedAt : clock.now();
      this.#kind = kind;
      this.#askedAt = askedAt;
      this.#report = report;
      if (kind === "answers") this.#answeredAt = askedAt;
    }
    this.#options.onAnswer();
    if (this.#options.isIdle()) return;
    this.#cancelTimer();
    this.#cancelTimer = timers.after(this.#nextDelayMs(), () => void this.#look());
  }

  #nextDelayMs(): Ms {
    const { intervalMs, hadStream } = this.#options;
    if (this.#eagerLooks > 0) {
      this.#eagerLooks--;
      return Math.min(EAGER_INTERVAL_MS, intervalMs);
    }
    const calm = this.#kind === "answers" && this.#report?.postgresHealthy === true && !hadStream();
    return calm ? intervalMs * CALM_FACTOR : intervalMs;
  }

  async #ask(): Promise<{ kind: SitterKind; report: NeighbourReport | undefined }> {
    const { world, limitMs, address } = this.#options;
    const target = statusAddress(address());
    if (!target) return { kind: "unknown", report: undefined };
    const answer = await world.network.httpGet({ ...target, path: "/state", limitMs });
    if (typeof answer === "string") return { kind: answer, report: undefined };
    const report = parsePeerReport(answer.body);
    // Somebody else at its address: that peer itself isn't there.
    if (report && report.id !== address().id) return { kind: "refused", report: undefined };
    return { kind: "answers", report };
  }
}
