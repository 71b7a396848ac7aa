// Makes a new database (B1), or takes over one that exists.

import { readdir } from "node:fs/promises";
import { ManateeError } from "../../base/errors.ts";
import type { DataMark } from "../../cluster/observation.ts";
import { configFileContent, reloadableContent, singleUserOptions } from "./configuration.ts";
import type { Context } from "./context.ts";
import { folderIdentity, observeData } from "./data-directory.ts";
import {
  makePrivateFolder,
  readIfThere,
  removeDurably,
  removeTree,
  writeDurably,
  writeIfDifferent,
} from "./durable.ts";
import { endLeftovers } from "./leftovers.ts";
import { makePassword } from "./passwords.ts";
import { runProgram } from "./programs.ts";
import { quoteIdentifier, quoteLiteral } from "./sql.ts";

/** Collation by bytes: the same on every machine, whatever its C library. */
const LOCALE = "C.UTF-8";

/** initdb into an empty directory; when it resolves, the mark is durable. Cut short, the directory counts as empty. */
export async function initialise(context: Context, incarnation: string, signal: AbortSignal): Promise<void> {
  const { config, places, random } = context;
  const { initdb } = await context.binaries();
  await makePrivateFolder(places.own);
  await endLeftovers(places);
  await demandEmpty(context);
  await makePassword(config.superuserPasswordFile, random);
  await makePassword(config.replicationPasswordFile, random);
  await makePrivateFolder(places.dataDir);
  for (const name of await readdir(places.dataDir)) await removeTree(`${places.dataDir}/${name}`);
  await writeDurably(places.initdbJournal, await folderIdentity(places.dataDir));
  await runProgram({
    program: initdb,
    folder: places.own,
    args: [
      "-D",
      places.dataDir,
      "-U",
      config.superuser,
      `--pwfile=${config.superuserPasswordFile}`,
      "--data-checksums",
      "--encoding=UTF8",
      `--locale=${LOCALE}`,
      "--lc-messages=C",
      "--auth-local=scram-sha-256",
      "--auth-host=scram-sha-256",
    ],
    signal,
    failure: {
      code: "PG_INITDB_FAILED",
      what: "initdb",
      remedy: "retry",
      hint: "Look at the reason, at the disk's free space, and at the owner of the folder above the data directory.",
    },
  });
  await createReplicationRole(context, signal);
  await context.mark.change(() => newMark(context, incarnation));
  await removeDurably(places.initdbJournal);
}

/** Marks data that no Manatee has touched; it must have been shut down cleanly. */
export async function adoptData(context: Context, incarnation: string, signal: AbortSignal): Promise<void> {
  const data = await observeData(context.places, (await context.binaries()).major);
  if (
    data.kind !== "present" ||
    data.mark !== undefined ||
    data.controlState !== "shutdown" ||
    context.postmaster.process.kind !== "stopped"
  )
    throw new ManateeError({
      code: "PG_ADOPT_REFUSED",
      message: `the data in ${context.places.dataDir} can't be adopted: it must be an unmarked database that was shut down cleanly as a primary`,
      remedy: "operator",
      hint: "Start that PostgreSQL once by hand, stop it with pg_ctl stop -m fast, and let the sitter look again.",
    });
  await makePassword(context.config.replicationPasswordFile, context.random);
  await createReplicationRole(context, signal);
  await context.mark.change(() => ({ ...newMark(context, incarnation), adopted: true }));
}

/**
 * The role by which peers replicate and copy, with what pg_rewind needs. In single-user mode: the password never crosses a socket, and no server
 * runs yet that others could reach.
 */
async function createReplicationRole(context: Context, signal: AbortSignal): Promise<void> {
  const { config, places } = context;
  const { postgres, major } = await context.binaries();
  const password = (await readIfThere(config.replicationPasswordFile))?.trim() ?? "";
  const role = quoteIdentifier(config.replicationUser);
  const exists = `exists (select from pg_roles where rolname = ${quoteLiteral(config.replicationUser)})`;
  // Single-user mode takes one statement a line.
  const statements = [
    `do $$ begin if not ${exists} then create role ${role}; end if; end $$`,
    `alter role ${role} login replication password ${quoteLiteral(password)}`,
    `grant execute on function pg_catalog.pg_ls_dir(text, boolean, boolean) to ${role}`,
    `grant execute on function pg_catalog.pg_stat_file(text, boolean) to ${role}`,
    `grant execute on function pg_catalog.pg_read_binary_file(text) to ${role}`,
    `grant execute on function pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean) to ${role}`,
    // A rewind against a server that was just promoted needs a checkpoint there first.
    ...(major >= 15 ? [`grant pg_checkpoint to ${role}`] : []),
  ];
  await writeIfDifferent(places.reloadable, reloadableContent([]));
  await writeIfDifferent(places.configFile, configFileContent(config, places));
  const output = await runProgram({
    program: postgres,
    folder: places.own,
    args: ["--single", "-D", places.dataDir, ...singleUserOptions(places), "postgres"],
    input: `${statements.join("\n")}\n`,
    signal,
    failure: {
      code: "PG_ROLE_FAILED",
      what: "creating the replication role",
      remedy: "retry",
      hint: "Look at the reason; the database must belong to a PostgreSQL of the same version.",
    },
  });
  const error = /(?:ERROR|FATAL|PANIC):.*/.exec(output)?.[0];
  if (error !== undefined)
    throw new ManateeError({
      code: "PG_ROLE_FAILED",
      message: `creating the replication role ${config.replicationUser} failed: ${error}`,
      remedy: "operator",
      hint: "Choose a name for the replication role that PostgreSQL accepts and nobody else uses.",
    });
}

async function demandEmpty({ places }: Context): Promise<void> {
  const data = await observeData(places, undefined);
  if (data.kind === "none") return;
  throw new ManateeError({
    code: "PG_DATA_NOT_EMPTY",
    message: `initdb needs an empty directory, and ${places.dataDir} is not`,
    remedy: "operator",
    hint: "Look what is in there; nothing was changed.",
  });
}

function newMark({ shard }: Context, incarnation: string): DataMark {
  return {
    shard,
    incarnation,
    claim: undefined,
    founding: true,
    incomplete: false,
    source: undefined,
    lastDocument: undefined,
  };
}
