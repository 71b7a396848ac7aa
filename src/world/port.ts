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

/** What became of asking whether something listens there. */
export type PortAnswer = "open" | "refused" | "silent";

export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
}

/** How a byte stream ended. `closed`: the other side said so; `reset`: its machine did, or the connection broke; `aborted`: by us. */
export type StreamEnd = "closed" | "reset" | "aborted";

/** A duplex connection, UTF-8 text either way. */
export interface ByteStream {
  /** Queued; what can't be sent is kept until the stream ends, so whoever writes to a silent peer ends it in time. */
  write(text: string): void;
  /** Once; what arrived before is handed over first. `onEnd` comes once, and nothing after it. */
  listen(events: { onText(text: string): void; onEnd(how: StreamEnd): void }): void;
  /** Ends it in order: what was written is sent. */
  close(): void;
  /** Ends it at once. */
  abort(): void;
}

export interface Network {
  /**
   * Opens a stream to the sitter whose status service is there. `refused` and `silent` as for probePostgres; `declined`: somebody answers and has no
   * such stream (a sitter of an older version), or no TLS comes about.
   */
  openStream(target: {
    host: string;
    port: number;
    limitMs: Ms;
  }): Promise<ByteStream | "refused" | "silent" | "declined">;
  /**
   * Opens a connection to a PostgreSQL's port, has it answered and closes it. `refused`: a reset or refusal came back; `silent`: nothing in time, or no
   * route. To be connected is no answer: the kernel of a frozen server does that.
   */
  probePostgres(target: { host: string; port: number; limitMs: Ms }): Promise<PortAnswer>;
  /** One HTTP GET with a limit over all; `refused` and `silent` as above (a connection that breaks after it was open is `silent`). */
  httpGet(target: {
    host: string;
    port: number;
    path: string;
    limitMs: Ms;
  }): Promise<HttpAnswer | "refused" | "silent">;
}

/** How a server is reached that speaks TLS: its certificate must name the address and come from this authority (PEM). */
export interface TlsTrust {
  readonly authority: string;
}

export interface HttpCall {
  readonly host: string;
  readonly port: number;
  /** undefined: plain TCP. */
  readonly tls: TlsTrust | undefined;
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Asks to leave HTTP for that protocol. A server that agrees answers 101, and its body is the bare bytes until the connection ends: HTTP would copy them. */
  readonly upgrade?: string;
  /** Of opening the connection, TLS included. */
  readonly connectLimitMs: Ms;
  /** Ends the call, also while its body is read, which then throws. */
  readonly signal: AbortSignal;
}

export interface HttpStream {
  readonly status: number;
  /** At the pace of whoever reads it; throws where the connection breaks before the body is whole. To leave it half read closes the connection. */
  readonly body: AsyncIterable<Uint8Array>;
}

/** Connections for much data, apart from the Network's small questions. Failures reject with what the machine said. */
export interface Transport {
  /** Resolves with the head of the answer. */
  open(call: HttpCall): Promise<HttpStream>;
  /** Opens a TCP connection, writes the stream at the receiver's pace, and closes: resolves when the receiver's machine has all of it. */
  push(options: {
    host: string;
    port: number;
    stream: AsyncIterable<Uint8Array>;
    connectLimitMs: Ms;
    /** Of a receiver that takes nothing. */
    stallLimitMs: Ms;
    signal: AbortSignal;
  }): Promise<void>;
}

export interface Crypto {
  /** HMAC-SHA-256: 32 bytes. */
  hmac(key: Uint8Array, text: string): Uint8Array;
  /**
   * Of the parts as one text: 16 bytes that only who has the key (32 bytes) can make (AES-256-GMAC; some GB/s). The same number must not serve two texts
   * under one key.
   */
  tag(key: Uint8Array, number: number, parts: readonly Uint8Array[]): Uint8Array;
  /** In a time that does not tell where they differ. */
  equal(a: Uint8Array, b: Uint8Array): boolean;
}

/** Files outside the data directory that services keep (session tickets, requests of operators). Paths are absolute. */
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
  readonly crypto: Crypto;
  readonly files: Files;
}
