// What manatee-adm and manatee-stat are handed: the real machine, and the drivers of the stores.

import { readFileSync } from "node:fs";
import { hostname, userInfo } from "node:os";
import { createInterface } from "node:readline/promises";
import { isatty } from "node:tty";
import type { AdminContext, Terminal } from "../admin/context.ts";
import { coloursOf } from "../admin/paint.ts";
import { LOG_LEVELS } from "../config/log-level.ts";
import { shardStore } from "../shard/shard-store.ts";
import type { LogLevel, World } from "../world/port.ts";
import { realClock, realRandom, realTimers } from "../world/real/clock.ts";
import { realCrypto } from "../world/real/crypto.ts";
import { realFiles } from "../world/real/files.ts";
import { realLog } from "../world/real/log.ts";
import { realNetwork } from "../world/real/network.ts";

const STANDARD_INPUT = 0;
const STANDARD_OUTPUT = 1;
const STANDARD_ERROR = 2;

export function adminContext(name: string): AdminContext {
  const world: World = {
    clock: realClock,
    timers: realTimers,
    random: realRandom,
    network: realNetwork,
    crypto: realCrypto,
    files: realFiles,
    // The standard output is for what was asked.
    log: realLog({ name, level: levelOf(process.env["LOG_LEVEL"]), descriptor: STANDARD_ERROR }),
  };
  return {
    world,
    terminal: realTerminal(),
    env: process.env,
    version: packageVersion(),
    author: `${name} of ${userName()} on ${hostname()}`,
    coordination: async (store) => (await import("./coordination-of.ts")).coordinationOf(store, world),
    forks: async (config) => (await import("./kept-forks-of.ts")).keptForksOf(config, world),
    rebuildLook: async (config) => (await import("./rebuild-look-of.ts")).rebuildLookOf(config, world),
    restores: async (config) => (await import("./restores-of.ts")).restoresOf(config, world),
    clones: async (config) => (await import("./clones-of.ts")).clonesOf(config, world),
    backups: async (config) => (await import("./peer-snapshots.ts")).peerBackups(config, world),
    shardStore: (session, path) => shardStore({ session, path, clock: world.clock, log: world.log }),
  };
}

/** Runs the tool, and ends the process with its exit status when all is written. */
export async function runTool(run: () => Promise<number>): Promise<void> {
  // Whoever reads our output may have seen enough (`| head`).
  process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));
  // Handed-out timers don't keep a process alive by themselves.
  const alive = setInterval(() => undefined, 60_000);
  const status = await run();
  clearInterval(alive);
  // What was written to a pipe is not out yet; what a driver left open must not keep the process.
  for (const stream of [process.stdout, process.stderr]) await new Promise((resolve) => stream.write("", resolve));
  process.exit(status);
}

function realTerminal(): Terminal {
  return {
    print: (line) => void process.stdout.write(`${line}\n`),
    note: (line) => void process.stderr.write(`${line}\n`),
    interactive: isatty(STANDARD_INPUT) && isatty(STANDARD_ERROR),
    ...coloursOf({ outIsTerminal: isatty(STANDARD_OUTPUT), errIsTerminal: isatty(STANDARD_ERROR) }, process.env),
    async ask(question) {
      const lines = createInterface({ input: process.stdin, output: process.stderr });
      try {
        return await lines.question(question);
      } catch {
        return undefined;
      } finally {
        lines.close();
      }
    },
  };
}

/** Silent unless asked: a tool's own messages say what matters. */
function levelOf(wanted: string | undefined): LogLevel {
  return LOG_LEVELS.find((level) => level === wanted?.toLowerCase()) ?? "error";
}

/** A user without an entry in the user database has no name. */
function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.() ?? "unknown");
  }
}

/** From the package's own package.json: two folders up from dist/src/main, one more than that from the sources. */
function packageVersion(): string {
  for (const up of ["../../../package.json", "../../package.json"]) {
    try {
      const { name, version } = JSON.parse(readFileSync(new URL(up, import.meta.url), "utf8")) as {
        name?: string;
        version?: string;
      };
      if (name === "manatee" && version !== undefined) return version;
    } catch {
      // Not there: the next.
    }
  }
  return "unknown";
}
