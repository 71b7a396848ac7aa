// The machine, as ports: what is not handed in can't be simulated. real/ is the only place with node:* and timers.

import type { Ms } from "../base/units.ts";

export interface Clock {
  /** Monotonic: for all logic. Its zero means nothing. */
  now(): Ms;
  /** Wall clock, milliseconds since the epoch: for people and file names only. */
  wall(): number;
}

export interface Timers {
  /** Calls back once, at the earliest after `delayMs`. Returns how to cancel. Doesn't keep the process alive by itself. */
  after(delayMs: Ms, callback: () => void): () => void;
}

export interface Random {
  /** `bytes` random bytes in hexadecimal, fit for secrets. */
  hex(bytes: number): string;
  /** In [0, 1). */
  number(): number;
}

export type LogLevel = "trace" | "debug" | "info" | "warn" | "error";
export type LogFields = Readonly<Record<string, unknown>>;

/** One JSON line an event: constant message, fields for values, units in field names. `error`: an operator must act. */
export interface Log {
  trace(message: string, fields?: LogFields): void;
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A log whose lines carry these fields as well. */
  child(fields: LogFields): Log;
}

/** What became of asking whether something listens there, by opening a connection. */
export type PortAnswer = "open" | "refused" | "silent";

export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
}

export interface Network {
  /** Opens a TCP connection and closes it. `refused`: a reset or refusal came back; `silent`: nothing in time, or no route. */
  probePort(target: { host: string; port: number; limitMs: Ms }): Promise<PortAnswer>;
  /** One HTTP GET with a limit over all; `refused` and `silent` as above (a connection that breaks after it was open is `silent`). */
  httpGet(target: {
    host: string;
    port: number;
    path: string;
    limitMs: Ms;
  }): Promise<HttpAnswer | "refused" | "silent">;
}

/** Files outside the data directory that services keep (session tickets, lists of forks). Paths are absolute. */
export interface Files {
  /** undefined: there is no such file. */
  read(path: string): Promise<string | undefined>;
  /** Atomic and durable: a new file with that mode is written, flushed, renamed over the old one, and the folder flushed. */
  write(path: string, content: string, options?: { mode?: number }): Promise<void>;
  remove(path: string): Promise<void>;
}

export interface World {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  readonly network: Network;
  readonly files: Files;
}
