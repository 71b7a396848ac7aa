// The embedded store's own process: serves one folder until nobody is connected any more. `node server-process.js FOLDER`. Started by
// whoever finds the store without a server (driver.ts); several may be started at once, one of them serves.

import { randomBytes } from "node:crypto";
import { realpathSync } from "node:fs";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { explainError } from "../../base/errors.ts";
import type { Clock, Log, LogFields, LogLevel, Random, Timers } from "../../world/port.ts";
import { serveStore } from "./serve.ts";

/** Exit status of an orderly end; also: another process serves. */
const ENDED = 0;
/** The folder or the file can't be used; the log says why. */
export const FAILED = 1;

/** The program of the process that serves, as `node` is started with it; undefined: this Node can't run it from its sources. */
export function serverProgram(): string | undefined {
  const path = fileURLToPath(import.meta.url);
  const strips = Boolean((process.features as { typescript?: unknown }).typescript);
  return path.endsWith(".ts") && !strips ? undefined : path;
}

async function main(directory: string): Promise<number> {
  const log = lineLog({});
  try {
    // The folder was made by whoever started this; if it is gone by now, it stays gone.
    const serving = await serveStore({ directory, clock, timers, random, log });
    if (!serving) return ENDED;
    log.info("the embedded store serves", { directory, pid: process.pid });
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => void serving.stop());
    // Whoever started it may have ended since, and its terminal with it.
    process.on("SIGHUP", () => {});
    // Everything else here is told not to keep the process alive.
    const alive = setInterval(() => {}, 60_000);
    await serving.stopped;
    clearInterval(alive);
    log.info("the embedded store has stopped", { directory });
    return ENDED;
  } catch (error) {
    log.error("the embedded store can't serve", { directory, error: explainError(error) });
    return FAILED;
  }
}

const clock: Clock = { now: () => performance.now(), wall: () => Date.now() };

const timers: Timers = {
  after(delayMs, callback) {
    const timer = setTimeout(callback, Math.max(0, delayMs));
    return () => clearTimeout(timer);
  },
};

const random: Random = { hex: (bytes) => randomBytes(bytes).toString("hex"), number: () => Math.random() };

/** To the file that its starter gave it as standard output. */
function lineLog(own: LogFields): Log {
  const write = (level: LogLevel) => (message: string, fields?: LogFields) => {
    const line = { time: new Date().toISOString(), level, pid: process.pid, msg: message, ...own, ...fields };
    process.stdout.write(`${JSON.stringify(line)}\n`);
  };
  return {
    trace: () => {},
    debug: () => {},
    info: write("info"),
    warn: write("warn"),
    error: write("error"),
    child: (fields) => lineLog({ ...own, ...fields }),
  };
}

/** Also a module of every other program: those have arguments of their own, which need not name a file. */
function isMain(program: string | undefined): boolean {
  try {
    return program !== undefined && realpathSync(program) === fileURLToPath(import.meta.url);
  } catch {
    return false;
  }
}

const [, program, directory] = process.argv;
if (directory !== undefined && isMain(program)) process.exitCode = await main(directory);
