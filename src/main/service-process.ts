// What the processes of a peer have in common: arguments and last words; and, of those beside the sitter, the file and the signal to end by.

import { readFileSync } from "node:fs";
import { Command } from "commander";
import { explainError, ManateeError } from "../base/errors.ts";
import { LOG_LEVELS } from "../config/log-level.ts";
import { formatProblem } from "../config/problems.ts";
import type { FileResult } from "../config/process-file.ts";
import type { Log, LogLevel, World } from "../world/port.ts";
import { realWorld } from "../world/real/world.ts";

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

export interface ServiceProcess<T> {
  readonly name: string;
  /** Of the log's lines: `the NAME stops`. */
  readonly called: string;
  readonly description: string;
  readonly help: string;
  readonly read: (given: { json: string; file: string }) => FileResult<T>;
  /** Prints what it finds; false: something stands in the way. */
  readonly check: (config: T, world: World) => Promise<boolean>;
  /** Runs until that promise resolves, with the signal that ends it. */
  readonly serve: (config: T, world: World, signalled: Promise<NodeJS.Signals>) => Promise<void>;
}

/** Ends with the process's exit status. */
export async function runService<T>(argv: readonly string[], service: ServiceProcess<T>): Promise<number> {
  const args = readArguments(argv, service);
  if (args === undefined) return EXIT_USAGE;
  const config = readConfigFile(args.file, (json) => service.read({ json, file: args.file }))?.config;
  if (config === undefined) return EXIT_FAILED;
  const world = realWorld({ name: service.name, level: levelFor(args.verbosity, levelOfEnvironment()) });
  if (args.check) return (await service.check(config, world)) ? 0 : EXIT_FAILED;
  crashWithLastWords(world.log, service.called);
  if (process.getuid?.() === 0) world.log.warn("runs as root: run it as the user that owns the data directory");
  try {
    await service.serve(config, world, signal(world.log, service.called));
    return 0;
  } catch (error) {
    const known =
      error instanceof ManateeError ? { code: error.code, hint: error.hint } : { stack: (error as Error).stack };
    world.log.error(`${service.called} ends`, { ...known, error: explainError(error) });
    return EXIT_FAILED;
  }
}

/** Programmer errors end the process: it is started again, and one that starts afresh is better than a confused one. */
export function crashWithLastWords(log: Log, called: string): void {
  const crash = (error: unknown) => {
    log.error(`${called} crashed`, {
      error: explainError(error),
      stack: error instanceof Error ? error.stack : undefined,
    });
    process.exit(EXIT_FAILED);
  };
  process.on("unhandledRejection", crash);
  process.on("uncaughtException", crash);
}

async function signal(log: Log, called: string): Promise<NodeJS.Signals> {
  // Timers don't keep the process alive (they are handed out by world/real): this one does.
  const alive = setInterval(() => {}, 60_000);
  const name = await new Promise<NodeJS.Signals>((resolve) => {
    process.on("SIGTERM", resolve);
    process.on("SIGINT", resolve);
  });
  clearInterval(alive);
  log.info(`${called} stops`, { signal: name });
  return name;
}

export interface Arguments {
  readonly file: string;
  readonly verbosity: number;
  readonly check: boolean;
}

/** `file`: where none is given. undefined: wrong use, which was told; `--help` ends the process. */
export function readArguments(
  argv: readonly string[],
  { name, description, help, file }: { name: string; description: string; help: string; file?: string | undefined },
): Arguments | undefined {
  const command = new Command(name)
    .description(description)
    .option("-f, --file <CONFIG>", "configuration file (JSON)", file)
    .option("-v, --verbose", "log more; repeat for still more", (_: string, count: number) => count + 1, 0)
    .option("--check", "say what the configuration means and whether this machine fits it, and end")
    .addHelpText("after", help)
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

type Invalid = Extract<FileResult<unknown>, { kind: "invalid" }>;

/** undefined: it can't be read, or is not valid, which was told line by line (default: on standard error). */
export function readConfigFile<Valid extends { readonly kind: "valid" }>(
  file: string,
  parse: (json: string) => Valid | Invalid,
  tell: (line: string) => void = tellOnStandardError,
): Valid | undefined {
  let json: string;
  try {
    json = readFileSync(file, "utf8");
  } catch (cause) {
    const error = unreadable(file, cause);
    tell(`${explainError(error)} (${error.hint}; ${error.code})`);
    return undefined;
  }
  const result = parse(json);
  if (result.kind === "valid") return result;
  for (const problem of result.problems) tell(formatProblem(file, problem));
  return undefined;
}

function unreadable(file: string, cause: unknown): ManateeError {
  const isMissing = cause instanceof Error && "code" in cause && cause.code === "ENOENT";
  return new ManateeError({
    code: "CONFIG_UNREADABLE",
    message: `${file} cannot be read`,
    remedy: "operator",
    hint: isMissing
      ? "name the configuration with -f: the samples in etc/ are to be copied and filled in"
      : "give the user that runs this process read access to that file",
    cause,
  });
}

function tellOnStandardError(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** `configured`: where `-v` is not given. */
export function levelFor(verbosity: number, configured: LogLevel): LogLevel {
  if (verbosity === 0) return configured;
  return verbosity === 1 ? "debug" : "trace";
}

function levelOfEnvironment(): LogLevel {
  return LOG_LEVELS.find((level) => level === process.env["LOG_LEVEL"]) ?? "info";
}

/** One line of what `--check` says. */
export function say(what: string, value: string): void {
  process.stdout.write(`${what.padEnd(10)} ${value}\n`);
}

/** false, so that it can be returned. */
export function complain(what: string, hint: string): false {
  process.stderr.write(`${what}\n  ${hint}\n`);
  return false;
}
