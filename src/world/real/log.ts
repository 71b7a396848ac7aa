// The log: one JSON line an event, written before the call returns, so that the last words of a dying process are not lost.

import { writeSync } from "node:fs";
import { type DestinationStream, type Logger, pino } from "pino";
import type { Log, LogFields, LogLevel } from "../port.ts";

export interface RealLogOptions {
  /** Stands in each line. */
  readonly name: string;
  readonly level: LogLevel;
  /** File descriptor; default: standard output. */
  readonly descriptor?: number;
}

/** What can't be written (a full disk, a reader that stands still) is kept up to so many bytes, and written with a later line. */
const KEPT_BYTES_MAX = 1024 * 1024;
const READER_LIMIT_MS = 500;
const READER_PAUSE_MS = 10;

/** A log that can't be written never throws, and holds nothing up for long: what it tells of goes on. */
export function realLog({ name, level, descriptor = 1 }: RealLogOptions): Log {
  const options = {
    level,
    base: { name },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  const destination = new Destination(descriptor);
  const logger = pino(options, destination);
  destination.onGap = (lines) => logger.error({ lines }, "lines of the log are missing: it could not be written");
  return wrap(logger);
}

class Destination implements DestinationStream {
  readonly #descriptor: number;
  #kept: Buffer = Buffer.alloc(0);
  #lost = 0;
  /** So many lines could not be kept; now all that was is written. */
  onGap: (lines: number) => void = () => undefined;

  constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  write(line: string): void {
    const added = Buffer.from(line);
    // A reader that stood still is not waited for a second time.
    const patienceMs = this.#kept.length === 0 ? READER_LIMIT_MS : 0;
    if (this.#kept.length + added.length <= KEPT_BYTES_MAX) this.#kept = Buffer.concat([this.#kept, added]);
    else this.#lost++;
    if (!this.#writeKept(patienceMs) || this.#lost === 0) return;
    const lost = this.#lost;
    this.#lost = 0;
    this.onGap(lost);
  }

  /** Says whether all of it is written. */
  #writeKept(patienceMs: number): boolean {
    for (let patience = patienceMs; this.#kept.length > 0; )
      try {
        this.#kept = this.#kept.subarray(writeSync(this.#descriptor, this.#kept));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EAGAIN" || patience <= 0) return false;
        patience -= READER_PAUSE_MS;
        sleep(READER_PAUSE_MS);
      }
    return true;
  }
}

function sleep(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

function wrap(logger: Logger): Log {
  const at = (level: LogLevel) => (message: string, fields?: LogFields) => logger[level](fields ?? {}, message);
  return {
    trace: at("trace"),
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    child: (fields) => wrap(logger.child(fields)),
  };
}
