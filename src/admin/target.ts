// Which store and which shard is meant: by options, by the environment, or by a sitter's configuration file.

import type { Command } from "commander";
import { ManateeError } from "../base/errors.ts";
import { DEFAULTS } from "../config/defaults.ts";
import { formatProblem } from "../config/problems.ts";
import { readSitterConfig } from "../config/read-sitter.ts";
import { present, storeOf } from "../config/store.ts";
import type { SitterConfig, StoreConfig } from "../config/types.ts";
import type { AdminContext } from "./context.ts";
import { WrongUse } from "./wrong-use.ts";

export interface TargetOptions {
  readonly zk?: string;
  readonly shard?: string;
  readonly file?: string;
  readonly config?: string;
  readonly storeDir?: string;
  readonly timeout?: number;
}

export interface StoreTarget {
  readonly store: StoreConfig;
  /** For people: `10.0.0.1:2181`. */
  readonly place: string;
  readonly timeoutMs: number;
  readonly config: SitterConfig | undefined;
}

export interface ShardTarget extends StoreTarget {
  readonly shard: string;
  readonly path: string;
}

/** Of a look; a change that is waited for gets {@link WAIT_TIMEOUT_MS}. */
const LOOK_TIMEOUT_MS = 15_000;
/** The original's promote waits 30 s; a takeover with a long recovery takes longer. */
export const WAIT_TIMEOUT_MS = 60_000;

/** The options that every command which looks at the store has. */
export function addStoreOptions(command: Command): Command {
  return command
    .option("-z, --zk <ZK_IPS>", "ZooKeeper's servers, IP:PORT[,IP:PORT…] (or ZK_IPS in the environment)")
    .option("--store-dir <DIR>", "folder of the embedded store, instead of ZooKeeper (or MANATEE_STORE_DIR)")
    .option("-f, --file <CONFIG>", "take store and shard from a sitter's configuration file")
    .option("--timeout <SECONDS>", "give up after that long (15; 60 for what a change waits for)", parseSeconds);
}

export function addShardOptions(command: Command): Command {
  return addStoreOptions(command).option("-s, --shard <SHARD>", "the shard's name (or SHARD in the environment)");
}

export function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (!(seconds > 0 && seconds <= 86_400))
    throw new WrongUse(`option --timeout takes a number of seconds, not "${text}"`);
  return seconds;
}

export async function storeTarget(context: AdminContext, options: TargetOptions): Promise<StoreTarget> {
  const config = await configOf(context, options.file ?? options.config);
  const timeoutMs = (options.timeout ?? LOOK_TIMEOUT_MS / 1000) * 1000;
  const store = chosenStore(context, options, config);
  const place = store.kind === "local" ? `embedded store in ${store.directory}` : store.connectString;
  return { store, place, timeoutMs, config };
}

export async function shardTarget(context: AdminContext, options: TargetOptions): Promise<ShardTarget> {
  const target = await storeTarget(context, options);
  const name = options.shard ?? target.config?.shard ?? present(context.env["SHARD"]);
  if (name === undefined) throw new WrongUse("option is required: --shard (or SHARD in the environment, or --file)");
  if (!/^[^/\s]+$/.test(name)) throw new WrongUse(`option --shard takes a name without /, not "${name}"`);
  const path =
    options.shard === undefined && target.config !== undefined ? target.config.shardPath : `/manatee/${name}`;
  return { ...target, shard: name, path };
}

/** An option comes before the file, the file before the environment. */
function chosenStore({ env }: AdminContext, options: TargetOptions, config: SitterConfig | undefined): StoreConfig {
  if (options.zk !== undefined && options.storeDir !== undefined)
    throw new WrongUse("options exclude each other: --zk and --store-dir");
  if (options.storeDir !== undefined) return local(options.storeDir);
  if (options.zk === undefined && config !== undefined) return config.store;
  if (options.zk === undefined && present(env["ZK_IPS"]) === undefined) {
    const directory = present(env["MANATEE_STORE_DIR"]);
    if (directory !== undefined) return local(directory);
    throw new WrongUse("option is required: --zk (or ZK_IPS in the environment, or --file)");
  }
  const configured = config?.store.kind === "zookeeper" ? config.store : undefined;
  const { digest, saslDigest, tls } = configured ?? {};
  const found = storeOf({ zkCfg: { connStr: options.zk, digest, saslDigest, tls } }, env);
  if ("store" in found) return found.store;
  throw new WrongUse(`option --zk ${found.problems.map(({ message, hint }) => `${message} (${hint})`).join("; ")}`);
}

function local(directory: string): StoreConfig {
  if (!directory.startsWith("/")) throw new WrongUse(`option --store-dir takes an absolute path, not "${directory}"`);
  return { kind: "local", directory, sessionTimeoutMs: DEFAULTS.sessionTimeoutMs };
}

async function configOf(
  { world, env, terminal }: AdminContext,
  file: string | undefined,
): Promise<SitterConfig | undefined> {
  if (file === undefined) return undefined;
  const json = await world.files.read(file);
  if (json === undefined) throw new WrongUse(`there is no file ${file}`);
  const read = readSitterConfig({ json, env, file });
  if (read.kind === "valid") return read.config;
  for (const problem of read.problems) terminal.note(formatProblem(file, problem));
  throw new ManateeError({
    code: "CONFIG_INVALID",
    message: `the configuration ${file} has ${read.problems.length} problem${read.problems.length === 1 ? "" : "s"}`,
    remedy: "operator",
    hint: "Correct the file; docs/configuration.md lists every key.",
  });
}
