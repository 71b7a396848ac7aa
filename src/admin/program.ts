// The command line: which verb, its help, its exit status. A command's file is imported only when it is the one that is run.

import { Command } from "commander";
import { nearest } from "../config/suggest.ts";
import type { AdminContext } from "./context.ts";
import { explainFailure, type ExitStatus } from "./explain-failure.ts";
import { WrongUse } from "./wrong-use.ts";

export type { ExitStatus };

/** What a command's file exports. */
export interface CommandModule {
  /** Adds options, help and action. The action sets the status by what `run` returns. */
  define(command: Command, run: Run): void;
}

/** Registers what the command does; `options` holds those given before the command, too. */
export type Run = (
  action: (context: AdminContext, options: never, args: readonly string[]) => Promise<ExitStatus | undefined>,
) => (...given: unknown[]) => Promise<void>;

interface Verb {
  readonly summary: string;
  readonly alias?: string;
  readonly load: () => Promise<CommandModule>;
}

export const VERBS: Readonly<Record<string, Verb>> = {
  show: { summary: "how the shard is", load: () => import("./commands/show.ts") },
  peers: { summary: "the peers and their roles", load: () => import("./commands/peers.ts") },
  "pg-status": { summary: "the peers' PostgreSQL, once or repeatedly", load: () => import("./commands/pg-status.ts") },
  history: { summary: "how the shard came to be as it is", load: () => import("./commands/history.ts") },
  "explain-failover": {
    summary: "why and how the primary changed, and where the time went",
    load: () => import("./commands/explain-failover.ts"),
  },
  verify: { summary: "what is wrong, and what to do about it", load: () => import("./commands/verify.ts") },
  freeze: { summary: "keep the shard from changing by itself", load: () => import("./commands/freeze.ts") },
  unfreeze: { summary: "let the shard change by itself again", load: () => import("./commands/unfreeze.ts") },
  promote: { summary: "let a peer change places with the one before it", load: () => import("./commands/promote.ts") },
  "clear-promote": { summary: "take a request to promote back", load: () => import("./commands/clear-promote.ts") },
  rebuild: { summary: "copy this host's peer anew", load: () => import("./commands/rebuild.ts") },
  reap: { summary: "forget a deposed peer that is gone for good", load: () => import("./commands/reap.ts") },
  takeover: { summary: "force a peer to take over, accepting loss", load: () => import("./commands/takeover.ts") },
  state: {
    summary: "print the document; 'state restore' writes a lost one back",
    alias: "zk-state",
    load: () => import("./commands/state.ts"),
  },
  "zk-active": { summary: "print the election", alias: "active", load: () => import("./commands/zk-active.ts") },
  snapshots: { summary: "the peers' snapshots", load: () => import("./commands/snapshots.ts") },
  snapshot: { summary: "'snapshot now' takes one", load: () => import("./commands/snapshot.ts") },
  clone: {
    summary: "a writable PostgreSQL on a snapshot of this host's peer, for a while",
    load: () => import("./commands/clone.ts"),
  },
  restore: {
    summary: "put the whole shard back to a snapshot of this host's peer",
    load: () => import("./commands/restore.ts"),
  },
  diverged: {
    summary: "the forks that this host's peer keeps, what they hold, and dropping one",
    load: () => import("./commands/diverged.ts"),
  },
  "set-onwm": { summary: "switch one-node-write mode", load: () => import("./commands/set-onwm.ts") },
  "check-lock": {
    summary: "exit with 1 if a node exists in the store",
    load: () => import("./commands/check-lock.ts"),
  },
  status: { summary: "all shards as JSON (deprecated: see manatee-stat)", load: () => import("./commands/status.ts") },
  version: { summary: "print the version", load: () => import("./commands/version.ts") },
};

export async function runAdmin(args: readonly string[], context: AdminContext): Promise<ExitStatus> {
  let status: ExitStatus = 0;
  const run: Run =
    (action) =>
    async (...given) => {
      const command = given.at(-1) as Command;
      status = (await action(context, command.optsWithGlobals<never>(), command.args)) ?? 0;
    };
  const program = root(context);
  const chosen = verbOf(args);
  let failed = chosen;
  let above: Command | undefined;
  for (const [name, verb] of Object.entries(VERBS)) {
    const command = inherit(program.command(name), context).description(verb.summary);
    if (verb.alias !== undefined) command.alias(verb.alias);
    if (chosen === name || chosen === verb.alias) {
      (await verb.load()).define(command, run);
      const below = command.commands.map((each) => each.name()).find((each) => args.includes(each));
      if (below !== undefined) failed = `${chosen} ${below}`;
      else if (command.commands.length > 0) above = command;
    }
  }
  try {
    if (chosen !== undefined && chosen !== "help" && !isVerb(chosen)) throw new WrongUse(unknownVerb(chosen));
    await program.parseAsync(withoutHelpVerb(args), { from: "user" });
    return status;
  } catch (error) {
    return explainFailure(error, context.terminal, {
      tool: "manatee-adm",
      help: failed !== undefined && isVerb(failed.split(" ")[0]) ? `${failed} --help` : "--help",
      wording: (message) => unknownBelow(above, message),
    });
  }
}

function root(context: AdminContext): Command {
  return inherit(new Command("manatee-adm"), context)
    .description("Look at a Manatee shard, and change it.")
    .option("-z, --zk <ZK_IPS>", "ZooKeeper's servers (also after the command)")
    .option("-s, --shard <SHARD>", "the shard's name (also after the command)")
    .version(context.version, "--version", "print the version")
    .enablePositionalOptions()
    .addHelpText(
      "after",
      "\nExample:\n  manatee-adm show -z 10.0.0.1:2181,10.0.0.2:2181 -s 1\n\nExit status: 0 done; 1 failed, refused, or problems found; 2 wrong use.",
    );
}

/** Commander writes and exits by itself unless told otherwise. */
function inherit(command: Command, { terminal }: AdminContext): Command {
  return command
    .exitOverride()
    .allowExcessArguments(false)
    .helpOption("-h, --help", "print this")
    .configureOutput({ writeOut: (text) => terminal.print(text.replace(/\n$/, "")), writeErr: () => undefined });
}

/** The verb: the first argument that is neither an option nor the value of one. */
function verbOf(args: readonly string[]): string | undefined {
  const given = withoutHelpVerb(args);
  for (let at = 0; at < given.length; at++) {
    const arg = given[at] as string;
    if (/^(-z|-s|--zk|--shard)$/.test(arg)) at++;
    else if (!arg.startsWith("-")) return arg;
  }
  return undefined;
}

/** `help VERB`, as in the original, is `VERB --help`. */
function withoutHelpVerb(args: readonly string[]): readonly string[] {
  if (args.length === 0) return ["--help"];
  if (args[0] !== "help") return args;
  return args[1] === undefined ? ["--help"] : [args[1], "--help"];
}

function isVerb(word: string | undefined): boolean {
  return Object.entries(VERBS).some(([name, { alias }]) => word === name || (alias !== undefined && word === alias));
}

function unknownVerb(verb: string): string {
  const meant = nearest(
    verb,
    Object.entries(VERBS).flatMap(([name, { alias }]) => (alias === undefined ? [name] : [name, alias])),
  );
  return `unknown command "${verb}"${meant === undefined ? "" : `, did you mean ${meant}?`}`;
}

/** Of a verb with commands below it, a word that is none of them is no argument too many. */
function unknownBelow(verb: Command | undefined, message: string): string {
  const word = verb?.args[0];
  if (verb === undefined || word === undefined || !message.startsWith("too many arguments")) return message;
  const known = verb.commands.map((each) => `${verb.name()} ${each.name()}`);
  return `unknown command "${verb.name()} ${word}" (there is: ${known.join(", ")})`;
}
