// manatee-sitter: reads the configuration, makes the concrete drivers, hands them to the sitter, and turns signals into its methods.

import { explainError, ManateeError } from "../base/errors.ts";
import { decide } from "../cluster/decide.ts";
import { readSitterConfig } from "../config/read-sitter.ts";
import type { SitterConfig } from "../config/types.ts";
import { realPostgres } from "../postgres/real/server.ts";
import { Sitter } from "../sitter/sitter.ts";
import { type Listening, listen } from "../status/listen.ts";
import { statusService } from "../status/service.ts";
import type { Log, World } from "../world/port.ts";
import type { HeldLock } from "../world/real/lock.ts";
import { networkWith } from "../world/real/network.ts";
import { acceptStreams, type PeerTls } from "../world/real/streams.ts";
import { realWorld } from "../world/real/world.ts";
import { checkMachine } from "./check-machine.ts";
import { peerTls } from "./peer-tls.ts";
import { coordinationOf } from "./coordination-of.ts";
import { type Arguments, crashWithLastWords, levelFor, readArguments, readConfigFile } from "./service-process.ts";
import { takeSitterLocks } from "./sitter-locks.ts";
import { postgresStorage } from "./storage-of.ts";
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
  SIGHUP           read policy, tags and the operator's own PostgreSQL files again; what else changed counts from the next start on
  SIGKILL          is survived: PostgreSQL goes on, and the next sitter adopts it`;

/** Ends with the process's exit status. */
export async function main(argv: readonly string[]): Promise<number> {
  const args = readArguments(argv, {
    name: "manatee-sitter",
    description:
      "Keeps one peer of a PostgreSQL shard: runs its PostgreSQL, and decides with the other peers who is primary.",
    help: HELP,
    file: process.env["MANATEE_SITTER_CONFIG"],
  });
  if (args === undefined) return EXIT_USAGE;
  if (process.getuid?.() === 0 && !args.check) return refuseRoot(args);
  const config = readAtStart(args.file);
  if (!config) return EXIT_FAILED;
  if (args.check) return (await checkMachine(config)) ? 0 : EXIT_FAILED;
  const world = realWorld({ name: "manatee-sitter", level: levelFor(args.verbosity, config.logLevel) });
  crashWithLastWords(world.log, "sitter");
  try {
    const tls = peerTls(config);
    await runSitter(config, args, { ...world, network: networkWith(tls) }, tls);
    return 0;
  } catch (error) {
    const known =
      error instanceof ManateeError ? { code: error.code, hint: error.hint } : { stack: (error as Error).stack };
    world.log.error("sitter ends", { ...known, error: explainError(error) });
    return EXIT_FAILED;
  }
}

async function runSitter(config: SitterConfig, args: Arguments, world: World, tls: PeerTls | undefined): Promise<void> {
  const locks: HeldLock[] = [];
  let listening: Listening | undefined;
  try {
    locks.push(...(await takeSitterLocks(config)));
    const { clock, timers, random, log } = world;
    const { shard, self } = config;
    const secretFile = config.postgres.replicationPasswordFile;
    const storage = config.storage && postgresStorage(config.storage, world, secretFile);
    const postgres = realPostgres({ config: config.postgres, shard, self, log, clock, timers, random, storage });
    const sitter = new Sitter({
      config,
      world,
      coordination: coordinationOf(config.store, world),
      makeShardStore: (session) => shardStore({ session, path: config.shardPath, clock, log }),
      postgres,
      decide,
    });
    listening = await listen(statusService(sitter), {
      host: config.statusHost,
      port: config.statusPort,
      streams: (server) => acceptStreams(server, tls, (stream) => sitter.acceptStream(stream)),
    });
    await untilSignalled(sitter, () => readOnHangup(args.file, log));
  } finally {
    await listening?.close();
    for (const lock of locks) lock.release();
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

function refuseRoot({ file }: Arguments): number {
  process.stderr.write(
    `manatee-sitter: must not run as root: PostgreSQL refuses to, and the files would be root's\n` +
      `run it as the user that owns the data directory: sudo -u postgres manatee-sitter -f ${file}\n`,
  );
  return EXIT_FAILED;
}

/** With its warnings, for whoever starts it. */
function readAtStart(file: string): SitterConfig | undefined {
  const result = readConfigFile(file, (json) => readSitterConfig({ json, env: process.env, file }));
  for (const { key, message } of result?.warnings ?? []) process.stderr.write(`${file}: warning: ${key} ${message}\n`);
  return result?.config;
}

/** On SIGHUP. What is wrong with the file goes into the log, and nothing is taken from it. */
function readOnHangup(file: string, log: Log): SitterConfig | undefined {
  return readConfigFile(
    file,
    (json) => readSitterConfig({ json, env: process.env, file }),
    (line) => log.error("configuration not taken", { error: line }),
  )?.config;
}
