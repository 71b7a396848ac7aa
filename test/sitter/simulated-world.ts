// A world under a clock of its own: time passes only when a test says so. Timers run in order, and what they set off runs to its end
// before the next one does.

import { realCrypto } from "../../src/world/real/crypto.ts";
import type { ByteStream, HttpAnswer, LogFields, LogLevel, PortAnswer, World } from "../../src/world/port.ts";

export interface LogLine {
  readonly level: LogLevel;
  readonly message: string;
  readonly at: number;
  readonly fields: LogFields;
}

export class SimulatedWorld implements World {
  #now = 1_000;
  #timers = new Map<number, { at: number; callback: () => void }>();
  #nextTimer = 0;
  #nextRandom = 0;
  readonly lines: LogLine[] = [];
  readonly disk = new Map<string, { content: string; mode: number | undefined }>();
  /** Where a read or write of files never ends. */
  diskHangs = false;
  httpAnswer: (target: { host: string; port: number }) => Promise<HttpAnswer | "refused" | "silent"> = async () =>
    "refused";
  portAnswer: (target: { host: string; port: number }) => Promise<PortAnswer> = async () => "refused";
  streamAnswer: (target: { host: string; port: number }) => Promise<ByteStream | "refused" | "silent" | "declined"> =
    async () => "declined";
  readonly asked: { host: string; port: number; at: number }[] = [];

  readonly clock = { now: () => this.#now, wall: () => 1_700_000_000_000 + this.#now };

  readonly timers = {
    after: (delayMs: number, callback: () => void) => {
      const id = this.#nextTimer++;
      this.#timers.set(id, { at: this.#now + Math.max(0, delayMs), callback });
      return () => this.#timers.delete(id);
    },
  };

  readonly random = {
    hex: (bytes: number) => (++this.#nextRandom).toString(16).padStart(bytes * 2, "0"),
    number: () => 0.5,
  };

  readonly log = this.#logWith({});

  readonly files = {
    read: async (path: string) => {
      if (this.diskHangs) await new Promise(() => {});
      return this.disk.get(path)?.content;
    },
    write: async (path: string, content: string, options?: { mode?: number }) => {
      this.disk.set(path, { content, mode: options?.mode });
    },
    remove: async (path: string) => {
      this.disk.delete(path);
    },
  };

  readonly crypto = realCrypto;

  readonly network = {
    openStream: (target: { host: string; port: number; limitMs: number }) => this.streamAnswer(target),
    probePostgres: ({ host, port }: { host: string; port: number; limitMs: number }) => this.portAnswer({ host, port }),
    httpGet: ({ host, port }: { host: string; port: number; path: string; limitMs: number }) => {
      this.asked.push({ host, port, at: this.#now });
      return this.httpAnswer({ host, port });
    },
  };

  /** Lets so much time pass. */
  async advance(ms: number): Promise<void> {
    const until = this.#now + ms;
    await settle();
    for (;;) {
      const next = [...this.#timers]
        .filter(([, { at }]) => at <= until)
        .sort(([i, a], [j, b]) => a.at - b.at || i - j)[0];
      if (!next) break;
      const [id, { at, callback }] = next;
      this.#timers.delete(id);
      this.#now = Math.max(this.#now, at);
      callback();
      await settle();
    }
    this.#now = until;
  }

  /** The process stands still: time passes, and no timer runs meanwhile. */
  stall(ms: number): void {
    this.#now += ms;
  }

  /** Lets time pass until the condition holds; fails after a minute of it. */
  async until(what: string, condition: () => boolean): Promise<void> {
    for (let passed = 0; passed < 60_000; passed += 5) {
      await settle();
      if (condition()) return;
      await this.advance(5);
    }
    throw new Error(
      `did not happen within a minute: ${what}\n${this.lines.map((line) => JSON.stringify(line)).join("\n")}`,
    );
  }

  logged(message: string): readonly LogLine[] {
    return this.lines.filter((line) => line.message === message);
  }

  #logWith(context: LogFields): World["log"] {
    const at = (level: LogLevel) => (message: string, fields?: LogFields) => {
      this.lines.push({ level, message, at: this.#now, fields: { ...context, ...fields } });
    };
    return {
      trace: at("trace"),
      debug: at("debug"),
      info: at("info"),
      warn: at("warn"),
      error: at("error"),
      child: (fields) => this.#logWith({ ...context, ...fields }),
    };
  }
}

/** Until everything that was set off has run as far as it can without time passing. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
}
