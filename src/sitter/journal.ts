// The last lines of the sitter's log, kept in memory for whoever asks afterwards why things went as they did (manatee-adm explain-failover).

import type { JournalEntry } from "../status/report.ts";
import type { Clock, Log, LogFields } from "../world/port.ts";

/** Some minutes of a busy failover, hours of a shard at rest. */
const KEPT = 2_000;

export class Journal {
  readonly #clock: Clock;
  readonly #entries: JournalEntry[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** By the wall clock, both ends included; oldest first. */
  entries({ fromWallMs, toWallMs }: { fromWallMs: number; toWallMs: number }): readonly JournalEntry[] {
    return this.#entries.filter(({ wallMs }) => wallMs >= fromWallMs && wallMs <= toWallMs);
  }

  /** A log that is kept here as well, whatever its level: but for what is there for tracing only. */
  keep(log: Log): Log {
    const note = (message: string, fields: LogFields = {}) => {
      this.#entries.push({ wallMs: this.#clock.wall(), message, fields });
      if (this.#entries.length > KEPT) this.#entries.shift();
    };
    return {
      trace: (message, fields) => log.trace(message, fields),
      debug: (message, fields) => {
        note(message, fields);
        log.debug(message, fields);
      },
      info: (message, fields) => {
        note(message, fields);
        log.info(message, fields);
      },
      warn: (message, fields) => {
        note(message, fields);
        log.warn(message, fields);
      },
      error: (message, fields) => {
        note(message, fields);
        log.error(message, fields);
      },
      child: (fields) => this.keep(log.child(fields)),
    };
  }
}
