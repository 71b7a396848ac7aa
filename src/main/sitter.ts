// manatee-sitter: reads the configuration, makes the concrete drivers, hands them to the sitter, and turns signals into its methods.

import { readFileSync } from "node:fs";
import { Command } from "commander";
import { explainError, ManateeError } from "../base/errors.ts";
import { decide } from "../cluster/decide.ts";
import { formatProblem } from "../config/problems.ts";
import { readSitterConfig } from "../config/read-sitter.ts";
import type { SitterConfig } from "../config/types.ts";
import { realPostgres } from "../postgres/real/server.ts";
import { Sitter } from "../sitter/sitter.ts";
import { type Listening, listen } from "../status/listen.ts";
import { statusService } from "../status/service.ts";
import type { Log, LogLevel, World } from "../world/port.ts";
import { takeLock } from "../world/real/lock.ts";
import { realWorld } from "../world/real/world.ts";
import { checkMachine } from "./check-machine.ts";
import { coordinationOf } from "./coordination-of.ts";
import { shardStore } from "../shard/shard-store.ts";

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

const HELP = `
Examples:
  sudo -u postgres manatee-sitter -f /etc/manatee/sitter.json
  sudo -u postgres manatee-sitter -f /etc/manatee/sitter.json --check

Environment:
  MANATEE_SITTER_CONFIG  the configuration file, where -f is not given
  ZK_IPS, SHARD          stand in for zkCfg.connStr and shardPath where the file has none
  LOG_LEVEL              trace, debug, info, warn or error

Signals:
  SIGTERM, SIGINT  leave in order: the election, the session, then stop PostgreSQL
  SIGUSR2          leave PostgreSQL running and the session open, for a sitter that starts again soon
  SIGHUP           read the policy and the operator's own PostgreSQL files again; what else changed counts from the next start on
  SIGKILL          is survived: PostgreSQL goes on, and the next sitter adopts it`;

interface Arguments {
  readonly file: string;
  readonly verbosity: number;
  readonly check: boolean;
}

/** Ends with the process's exit status. */
export async function main(argv: readonly string[]): Promise<number> {
  const args = readArguments(argv);
  if (args === undefined) return EXIT_USAGE;
  if (process.getuid?.() === 0 && !args.check) return refuseRoot(args);
  const config = readConfig(args.file, { explain: true });
  if (!config) return EXIT_FAILED;
  if (args.check) return (await checkMachine(config)) ? 0 : EXIT_FAILED;
  const world = realWorld({ name: "manatee-sitter", level: levelOf(config, args.verbosity) });
  crashWithLastWords(world.log);
  try {
    await runSitter(config, args, world);
    return 0;
  } catch (error) {
    const known =
      error instanceof ManateeError ? { code: error.code, hint: error.hint } : { stack: (error as Error).stack };
    world.log.error("sitter ends", { ...known, error: explainError(error) });
    return EXIT_FAILED;
  }
}

async function runSitter(config: SitterConfig, args: Arguments, world: World): Promise<void> {
  const lock = takeLock(`${config.stateDir}/lock`);
  let listening: Listening | undefined;
  try {
    const { clock, timers, random, log } = world;
    const { shard, self } = config;
    const postgres = realPostgres({ config: config.postgres, shard, self, log, clock, timers, random });
    const sitter = new Sitter({
      config,
      world,
      coordination: coordinationOf(config.store, world),
      makeShardStore: (session) => shardStore({ session, path: config.shardPath, clock, log }),
      postgres,
      decide,
    });
    listening = await listen(statusService(sitter), { host: config.statusHost, port: config.statusPort });
    await untilSignalled(sitter, () => readConfig(args.file, { explain: false, log }));
  } finally {
    await listening?.close();
    lock.release();
  }
}

async function untilSignalled(sitter: Sitter, readAgain: () => SitterConfig | undefined): Promise<void> {
  let stopped: Promise<void> | undefined;
  const stop = (postgres: "leave" | "fast") => () => {
    stopped ??= sitter.stop({ postgres });
  };
  process.on("SIGTERM", stop("fast"));
  process.on("SIGINT", stop("fast"));
  process.on("SIGUSR2", stop("leave"));
  process.on("SIGHUP", () => {
    const config = readAgain();
    if (config) sitter.reload(config);
  });
  // Timers don't keep the process alive (they are handed out by world/real): this one does.
  const alive = setInterval(() => {}, 60_000);
  try {
    await sitter.run();
  } catch (error) {
    stopped ??= sitter.stop({ postgres: "leave" });
    throw error;
  } finally {
    await stopped;
    clearInterval(alive);
  }
}

function readArguments(argv: readonly string[]): Arguments | undefined {
  const command = new Command("manatee-sitter")
    .description(
      "Keeps one peer of a PostgreSQL shard: runs its PostgreSQL, and decides with the other peers who is primary.",
    )
    .option("-f, --file <CONFIG>", "configuration file (JSON)", process.env["MANATEE_SITTER_CONFIG"])
    .option("-v, --verbose", "log more; repeat for still more", (_: string, count: number) => count + 1, 0)
    .option("--check", "say what the configuration means and whether this machine fits it, and end")
    .addHelpText("after", HELP)
    .allowExcessArguments(false)
    .exitOverride();
  try {
    command.parse([...argv], { from: "user" });
  } catch (error) {
    if ((error as { exitCode?: number }).exitCode === 0) process.exit(0);
    return undefined;
  }
  const options = command.opts<{ file?: string; verbose: number; check?: boolean }>();
  if (options.file === undefined) {
    process.stderr.write(`option is required: --file\n\n${command.helpInformation()}`);
    return undefined;
  }
  return { file: options.file, verbosity: options.verbose, check: options.check ?? false };
}

function refuseRoot({ file }: Arguments): number {
  process.stderr.write(
    `manatee-sitter: must not run as root: PostgreSQL refuses to, and the files would be root's\n` +
      `run it as the user that owns the data directory: sudo -u postgres manatee-sitter -f ${file}\n`,
  );
  return EXIT_FAILED;
}

function readConfig(file: string, { explain, log }: { explain: boolean; log?: Log }): SitterConfig | undefined {
  const complain = (line: string) =>
    log ? log.error("configuration not taken", { error: line }) : process.stderr.write(`${line}\n`);
  let json: string;
  try {
    json = readFileSync(file, "utf8");
  } catch (error) {
    complain(`${file}: cannot be read: ${explainError(error)}`);
    return undefined;
  }
  const result = readSitterConfig({ json, env: process.env, file });
  if (result.kind === "invalid") {
    for (const problem of result.problems) complain(formatProblem(file, problem));
    return undefined;
  }
  if (explain)
    for (const { key, message } of result.warnings) process.stderr.write(`${file}: warning: ${key} ${message}\n`);
  return result.config;
}

function levelOf(config: SitterConfig, verbosity: number): LogLevel {
  if (verbosity === 0) return config.logLevel;
  return verbosity === 1 ? "debug" : "trace";
}

/** Programmer errors end the process: PostgreSQL goes on without it, and a sitter that starts afresh is better than a confused one. */
function crashWithLastWords(log: Log): void {
  const crash = (error: unknown) => {
    log.error("sitter crashed", {
      error: explainError(error),
      stack: error instanceof Error ? error.stack : undefined,
    });
    process.exit(EXIT_FAILED);
  };
  process.on("unhandledRejection", crash);
  process.on("uncaughtException", crash);
}
