// What the tests of the ZooKeeper driver share: a real machine's clock and timers, a log that is kept, and how to wait.

import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Session, SessionStatus, WriteOutcome } from "../../../src/coordination/port.ts";
import { zookeeper, type ZooKeeperOptions } from "../../../src/coordination/zookeeper/driver.ts";
import type { Clock, Log, LogLevel, Random, Timers } from "../../../src/world/port.ts";

export const clock: Clock = { now: () => performance.now(), wall: () => Date.now() };

/** How many timers wait: a leak shows here. */
export const countedTimers = (): Timers & { readonly waiting: number } => {
  let waiting = 0;
  return {
    get waiting() {
      return waiting;
    },
    after(delayMs, callback) {
      waiting++;
      let over = false;
      const end = (): void => {
        if (!over) waiting--;
        over = true;
      };
      const timer = setTimeout(() => {
        end();
        callback();
      }, delayMs);
      return () => {
        end();
        clearTimeout(timer);
      };
    },
  };
};

export const random: Random = { hex: (bytes) => randomBytes(bytes).toString("hex"), number: () => Math.random() };

export interface KeptLog extends Log {
  readonly lines: { readonly level: LogLevel; readonly message: string }[];
}

export function keptLog(): KeptLog {
  const lines: { level: LogLevel; message: string }[] = [];
  const at = (level: LogLevel) => (message: string) => void lines.push({ level, message });
  const log: KeptLog = {
    lines,
    trace: at("trace"),
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    child: () => log,
  };
  return log;
}

/** For a server that is to be restarted: on a busy machine that takes longer than sessions last by default. */
export const LONG_SESSIONS = { maxSessionTimeout: "60000" };

const opened = new Set<Session>();

/** Opens a session that {@link closeSessions} closes. */
export function openSession(
  connectString: string,
  {
    sessionTimeoutMs = 6000,
    resume,
    ...options
  }: Partial<ZooKeeperOptions> & { sessionTimeoutMs?: number; resume?: { sessionId: string; secret: string } } = {},
): Session {
  const store = zookeeper({ connectString, log: keptLog(), clock, timers: countedTimers(), random, ...options });
  const session = store.open(resume === undefined ? { sessionTimeoutMs } : { sessionTimeoutMs, resume });
  opened.add(session);
  return session;
}

export async function closeSessions(): Promise<void> {
  await Promise.all([...opened].map((session) => session.close({ limitMs: 300 })));
  opened.clear();
}

export function statusKind(session: Session): SessionStatus["kind"] {
  return session.status.kind;
}

export async function connected(session: Session, limitMs = 20_000): Promise<Session> {
  await until("connected", () => session.status.kind === "connected", limitMs);
  return session;
}

/** Looks every few milliseconds; the limit is only there to end a test that fails. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, limitMs = 20_000): Promise<void> {
  const limit = performance.now() + limitMs;
  while (!(await holds())) {
    if (performance.now() > limit) throw new Error(`not within ${limitMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
export const text = (data: Uint8Array | undefined): string | undefined =>
  data === undefined ? undefined : new TextDecoder().decode(data);

/** `yes`, or the refusal, or the kind: one word for what became of a write. */
export function word(outcome: WriteOutcome): string {
  return outcome.kind === "no" ? `${outcome.refusal} at ${outcome.operation}` : outcome.kind;
}

export async function put(session: Session, path: string, content = ""): Promise<void> {
  const outcome = await session.write([{ kind: "create", path, data: bytes(content) }]);
  if (outcome.kind !== "yes") throw new Error(`${path} was not made: ${word(outcome)}`);
}

export interface Folder {
  readonly path: string;
  remove(): Promise<void>;
}

export async function temporaryFolder(): Promise<Folder> {
  const path = await mkdtemp(join(tmpdir(), "manatee-zookeeper-"));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}
