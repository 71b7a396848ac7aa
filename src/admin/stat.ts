// manatee-stat, of the first Manatee: the shards as JSON, with the node by which service discovery finds the primary.

import { Command } from "commander";
import type { Session } from "../coordination/port.ts";
import { pictureOf, shardNames } from "./all-shards.ts";
import { withSession } from "./connect.ts";
import type { AdminContext } from "./context.ts";
import { type ExitStatus, explainFailure } from "./explain-failure.ts";
import { registrarPath } from "../shard/registrar-path.ts";
import type { Picture } from "./picture.ts";
import { peersByRole } from "./shard-json.ts";
import { parseSeconds, storeTarget, type StoreTarget, type TargetOptions } from "./target.ts";

interface Options extends TargetOptions {
  readonly verbose?: boolean;
}

export async function runStat(args: readonly string[], context: AdminContext): Promise<ExitStatus> {
  const { terminal } = context;
  let status: ExitStatus = 0;
  const program = new Command("manatee-stat")
    .description("Shards as JSON: peers by role, their replication, and the registrar node.")
    .exitOverride()
    .allowExcessArguments(false)
    .configureOutput({ writeOut: (text) => terminal.print(text.replace(/\n$/, "")), writeErr: () => undefined })
    .argument("[ZOOKEEPER]", "ZooKeeper's servers, IP:PORT[,…] (or ZK_IPS in the environment)")
    .helpOption("-h, --help", "print this")
    .option("-s, --shard <SHARD>", "this shard alone")
    .option("-p, --postgres", "ask PostgreSQL, too (always done)")
    .option("-v, --verbose", "say what is being done")
    .option("--store-dir <DIR>", "folder of the embedded store (or MANATEE_STORE_DIR)")
    .option("-f, --file <CONFIG>", "take the store from a sitter's configuration file")
    .option("--timeout <SECONDS>", "give up after that long", parseSeconds)
    .addHelpText(
      "after",
      "\nExample:\n  manatee-stat -s 1 10.0.0.1:2181\n\nExit status: 0 done; 1 failed; 2 wrong use.",
    )
    .action(async (zookeeper: string | undefined, options: Options) => {
      status = await stat(context, { ...options, ...(zookeeper === undefined ? {} : { zk: zookeeper }) });
    });
  try {
    await program.parseAsync(args, { from: "user" });
    return status;
  } catch (error) {
    return explainFailure(error, terminal, {
      tool: "manatee-stat",
      help: "--help",
      wording: (message) => message.replace("--zk", "ZOOKEEPER"),
    });
  }
}

async function stat(context: AdminContext, options: Options): Promise<ExitStatus> {
  const target = await storeTarget(context, options);
  if (options.verbose === true) context.terminal.note(`asking ${target.place}`);
  return withSession(context, target, async (session): Promise<ExitStatus> => {
    const names = options.shard === undefined ? await shardNames(session) : [options.shard];
    const shards = await Promise.all(
      names.map(async (name) => [name, await shardJson(context, session, target, name)] as const),
    );
    const missing =
      options.shard !== undefined && (await session.read(`/manatee/${options.shard}/state`)) === undefined;
    const [only] = shards;
    context.terminal.print(
      JSON.stringify(options.shard === undefined ? Object.fromEntries(shards) : only?.[1], undefined, 2),
    );
    return missing ? 1 : 0;
  });
}

async function shardJson(context: AdminContext, session: Session, target: StoreTarget, name: string): Promise<object> {
  const [picture, registrar] = await Promise.all([
    pictureOf(context, session, target, name),
    registrarOf(session, name),
  ]);
  return { ...peersOf(picture), ...(registrar === undefined ? {} : { registrar }) };
}

function peersOf({ view, peers, election }: Picture): object {
  if (view.kind === "document") return peersByRole(view.state, { peers, election });
  return { error: view.kind === "absent" ? "no state document" : view.message };
}

async function registrarOf(session: Session, shard: string): Promise<unknown> {
  const node = await session.read(registrarPath(shard));
  if (node === undefined) return undefined;
  try {
    return JSON.parse(new TextDecoder().decode(node.data)) as unknown;
  } catch {
    return { error: "not readable" };
  }
}
