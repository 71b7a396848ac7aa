// The log: one JSON line an event, written before the call returns, so that the last words of a dying process are not lost.

import { type Logger, pino } from "pino";
import type { Log, LogFields, LogLevel } from "../port.ts";

export interface RealLogOptions {
  /** Stands in each line. */
  readonly name: string;
  readonly level: LogLevel;
  /** File descriptor; default: standard output. */
  readonly descriptor?: number;
}

export function realLog({ name, level, descriptor = 1 }: RealLogOptions): Log {
  const logger = pino(
    {
      level,
      base: { name },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    pino.destination({ fd: descriptor, sync: true }),
  );
  return wrap(logger);
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
