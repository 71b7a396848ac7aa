// Reads the server's log as it grows: what must reach the sitter's log, and what the observation says of it.

import { copyFile, open, stat, truncate } from "node:fs/promises";
import type { Bytes, Ms } from "../../base/units.ts";
import type { Clock, Log } from "../../world/port.ts";
import { isMissing } from "./durable.ts";

/** At this size the log is set aside (one older file is kept) and begins anew. */
const LOG_SIZE_MAX: Bytes = 64 * 1024 ** 2;
/** Read at once at most; of a log that grew by more, the end counts. */
const READ_MAX: Bytes = 1024 ** 2;
/** A wait is told again each minute. */
const REPEAT_MS: Ms = 60_000;
/** Of the last words told in an error. */
const LAST_WORDS = 4;

export interface ServerMessage {
  readonly pid: number;
  readonly backend: string;
  readonly severity: string;
  readonly sqlState: string;
  readonly message: string;
}

/** A line in our log_line_prefix (`%m [%p] %b %e `); undefined: a continuation, or somebody else's. */
export function parseLogLine(line: string): ServerMessage | undefined {
  const match = /^\S+ \S+ \S+ \[(\d+)\] (.+?) ([0-9A-Z]{5}) ([A-Z0-9]+): {2}(.*)$/.exec(line);
  if (!match) return undefined;
  const [, pid, backend, sqlState, severity, message] = match as unknown as [
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  return { pid: Number(pid), backend, severity, sqlState, message };
}

/** Why the server can't go on writing, if this message says so. A query that fills temporary space ends itself, and the server goes on. */
export function reasonNotToGoOn({ severity, sqlState, message }: ServerMessage): string | undefined {
  if (severity === "PANIC") return message;
  // A client can raise any SQLSTATE with any text: what counts is what the server says of its own files.
  const storage = sqlState === "53100" || sqlState === "58030";
  const own =
    /^could not \w+[^"]* "?(base|global|pg_(?!tblspc|stat)\w+)\//.test(message) && !message.includes("pgsql_tmp");
  return storage && own && ["ERROR", "FATAL", "LOG"].includes(severity) ? message : undefined;
}

/**
 * Whether a commit gave up waiting for standbys: cancelled, or ended with its session. Both leave it committed and visible here. It is said before it shows,
 * and after its record was flushed. A client can say the same; that is counted, too.
 */
export function isCancelledWait({ severity, message }: ServerMessage): boolean {
  return severity === "WARNING" && /^canceling (the )?wait for synchronous replication/.test(message);
}

/** Which segment the upstream has removed, as the receiver says each time it asks for it; undefined: it says something else. */
export function removedSegment({ backend, message }: ServerMessage): string | undefined {
  if (backend !== "walreceiver") return undefined;
  return /requested WAL segment ([0-9A-F]{24}) has already been removed/.exec(message)?.[1];
}

/** The segment that was asked for last and is gone, and how often it was said of any since the server started. */
export interface RemovedWal {
  readonly segment: string;
  readonly told: number;
}

export class ServerLog {
  readonly #path: string;
  readonly #log: Log;
  readonly #clock: Clock;
  /** When a message of that kind was last told. */
  readonly #told = new Map<string, Ms>();
  #offset: Bytes = 0;
  #partial = "";
  #recent: string[] = [];
  #cannotGoOn: string | undefined;
  #cancelledWaits = 0;
  #removedWal: RemovedWal | undefined;
  #reading: Promise<void> = Promise.resolve();

  constructor(path: string, { log, clock }: { log: Log; clock: Clock }) {
    this.#path = path;
    this.#log = log;
    this.#clock = clock;
  }

  get cannotGoOn(): string | undefined {
    return this.#cannotGoOn;
  }

  get cancelledWaits(): number {
    return this.#cancelledWaits;
  }

  get removedWal(): RemovedWal | undefined {
    return this.#removedWal;
  }

  /** A new server starts: what was said before is not of it. */
  async begin(): Promise<void> {
    await this.read();
    this.#cannotGoOn = undefined;
    this.#cancelledWaits = 0;
    this.#removedWal = undefined;
    this.#recent = [];
  }

  /** An adopted server: its messages since its start are read, but not told again. */
  async adopt(): Promise<void> {
    const size = await this.#size();
    const text = await this.#text(Math.max(0, size - READ_MAX), size);
    this.#offset = size;
    const lines = text.split("\n");
    for (const line of lines.slice(Math.max(0, lines.findLastIndex(isStart)))) this.#take(line, false);
  }

  /** Takes in what was written since the last time. */
  read(): Promise<void> {
    this.#reading = this.#reading.then(() => this.#readOn());
    return this.#reading;
  }

  /** For an error: the last messages that say something. */
  lastWords(): string {
    return this.#recent.slice(-LAST_WORDS).join(" | ");
  }

  async #readOn(): Promise<void> {
    const size = await this.#size();
    if (size < this.#offset) this.#offset = 0;
    if (size === this.#offset) return;
    const text = this.#partial + (await this.#text(Math.max(this.#offset, size - READ_MAX), size));
    this.#offset = size;
    const lines = text.split("\n");
    this.#partial = lines.pop() ?? "";
    for (const line of lines) this.#take(line, true);
    if (size > LOG_SIZE_MAX) await this.#setAside();
  }

  #take(line: string, tell: boolean): void {
    if (line.trim() === "") return;
    const message = parseLogLine(line);
    if (message === undefined || ["WARNING", "FATAL", "PANIC", "ERROR", "HINT", "DETAIL"].includes(message.severity)) {
      this.#recent.push(message ? `${message.severity}: ${message.message}` : line.trim());
      if (this.#recent.length > 50) this.#recent.shift();
    }
    if (!message) return;
    if (isCancelledWait(message)) {
      this.#cancelledWaits++;
      if (tell)
        this.#log.warn("a commit's wait for the sync was cancelled: it is visible here, and perhaps nowhere else", {
          ...message,
        });
      return;
    }
    const segment = removedSegment(message);
    if (segment !== undefined) this.#removedWal = { segment, told: (this.#removedWal?.told ?? 0) + 1 };
    const reason = reasonNotToGoOn(message);
    if (reason !== undefined) {
      this.#cannotGoOn ??= reason;
      if (tell) this.#log.error("PostgreSQL can't go on", { ...message });
    } else if (tell && message.severity === "FATAL" && !isRefusedClient(message) && this.#isNews(message))
      this.#log.warn("PostgreSQL says", { ...message });
  }

  /** A receiver whose upstream is away says so five times a second. */
  #isNews({ backend, sqlState }: ServerMessage): boolean {
    const kind = `${backend} ${sqlState}`;
    const now = this.#clock.now();
    const before = this.#told.get(kind);
    if (before !== undefined && now - before < REPEAT_MS) return false;
    this.#told.set(kind, now);
    return true;
  }

  /** The server holds it open in append mode: cut to nothing, it goes on at the beginning. */
  async #setAside(): Promise<void> {
    await copyFile(this.#path, `${this.#path}.1`);
    await truncate(this.#path);
    this.#offset = 0;
  }

  async #size(): Promise<Bytes> {
    try {
      return (await stat(this.#path)).size;
    } catch (error) {
      if (isMissing(error)) return 0;
      throw error;
    }
  }

  async #text(from: Bytes, to: Bytes): Promise<string> {
    if (to <= from) return "";
    const handle = await open(this.#path, "r");
    try {
      const buffer = Buffer.alloc(to - from);
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, from);
      return buffer.subarray(0, bytesRead).toString("utf8");
    } finally {
      await handle.close();
    }
  }
}

/** A server's first word; a statement of a client's that holds the same does not pass for it. */
function isStart(line: string): boolean {
  const message = parseLogLine(line);
  return message?.backend === "postmaster" && message.message.startsWith("starting PostgreSQL ");
}

/** Authentication, wrong databases, sessions ended by an administrator: of clients, day by day. */
function isRefusedClient({ sqlState, backend }: ServerMessage): boolean {
  return backend === "client backend" || backend === "not initialized" || /^(28|3D|57P0|53300)/.test(sqlState);
}
