// Makes settings hold: files, reload, and a look whether they are in force.

import { readFile } from "node:fs/promises";
import type { PostgresSettings } from "../../cluster/observation.ts";
import { ManateeError } from "../../base/errors.ts";
import type { ReplicationPeer } from "../port.ts";
import {
  cleanAutoConf,
  configFileContent,
  fixedSettings,
  reloadableContent,
  reloadableSettings,
} from "./configuration.ts";
import { type Context, waitUntil } from "./context.ts";
import { makePrivateFolder, writeIfDifferent } from "./durable.ts";
import { hbaContent, operatorHbaFile, operatorsLine } from "./hba.ts";
import { type ConfigMistake, findConfigMistake } from "./operator-settings.ts";
import { demandReplicationPassword, writePassFile } from "./passwords.ts";
import { runProgram } from "./programs.ts";
import { releaseWaiting } from "./session-actions.ts";
import { quoteLiteral, type SqlSession } from "./sql.ts";

/** pg_reload_conf() returns before anything has changed; a busy machine takes its time. */
const RELOAD_LIMIT_MS = 5000;
const RELOAD_POLL_MS = 10;

export const CONF_HINT = "Correct that line, and send the sitter SIGHUP.";
export const HBA_HINT = "Correct the operator's pg_hba.conf, and send the sitter SIGHUP.";

/** Writes all files of ours; says whether one that is loaded by a reload has changed. `inForce`: undefined where that is not known, or no server runs. */
export async function writeSettingsFiles(
  context: Context,
  settings: PostgresSettings,
  { peers, inForce }: { peers: readonly ReplicationPeer[]; inForce: PostgresSettings | undefined },
): Promise<boolean> {
  const { config, places, self, operatorRules } = context;
  await makePrivateFolder(places.own);
  if (settings.upstream !== null) {
    const password = await demandReplicationPassword(config.replicationPasswordFile, settings.upstream.id);
    await writePassFile(places, { user: config.replicationUser, password });
  }
  const { major } = await context.binaries();
  const reloadable = reloadableSettings(config, self, places, settings);
  const ours = [...fixedSettings(config, places, { major, walLevel: "replica" }), ...reloadable].map(
    ({ name }) => name,
  );
  const removed = await cleanAutoConf(config.dataDir, new Set(ours));
  if (removed.length > 0) context.log.warn("settings of ours taken out of postgresql.auto.conf", { names: removed });
  // A server does not start with a mistake in them, and would not close its gate.
  const mayBeWrong = settings.gate === "open" || inForce?.gate === "closed";
  const operator = mayBeWrong ? await operatorRules.read() : operatorRules.withhold();
  const hba = hbaContent(config, { gate: settings.gate, peers, operator });
  // The hba file first: what `manatee.applied` says is in force only once both are loaded.
  const hbaChanged = await writeIfDifferent(places.hbaFile, hba);
  const reloadableChanged = await writeIfDifferent(places.reloadable, reloadableContent(reloadable));
  const configChanged = await writeIfDifferent(
    places.configFile,
    configFileContent(config, places, context.operatorSettings.held),
  );
  return hbaChanged || reloadableChanged || configChanged || removed.length > 0;
}

/** Reloads, and waits until a new session sees every value. Errors: `PG_SETTING_OVERRIDDEN`, `PG_CONF_REJECTED`, `PG_HBA_REJECTED`, `PG_UNRESPONSIVE`. */
export async function reloadSettings(
  context: Context,
  settings: PostgresSettings,
  { requiredChange }: { requiredChange: boolean },
): Promise<void> {
  const { config, self, places, operatorSettings } = context;
  const { before, mistake } = await context.ask(async (session) => ({
    before: await loadedAt(session),
    mistake: await findConfigMistake(session, places),
  }));
  operatorSettings.found(mistake);
  if (mistake?.keepsAll) throw configRejected(mistake);
  context.postmaster.reload();
  const loaded = await waitUntil(
    context,
    { limitMs: RELOAD_LIMIT_MS, everyMs: RELOAD_POLL_MS },
    async () => (await context.ask(loadedAt)) !== before,
  );
  if (!loaded) throw notLoaded();
  // The postmaster makes no new session before it has taken in both, configuration and hba: what differs in one made now, differs for good.
  await context.sql(async (session) => {
    await demandInForce(session, reloadableSettings(config, self, places, settings), places.reloadable);
    await demandRules(session, context);
    if (requiredChange) await releaseWaiting(session);
  });
}

/** The arguments of the server's process. The files must have been written. Errors: `PG_START_FAILED` where its configuration can't be read. */
export async function serverArguments(context: Context, signal: AbortSignal): Promise<string[]> {
  const { config, places } = context;
  const { major, postgres } = await context.binaries();
  const fixed = fixedSettings(config, places, { major, walLevel: "replica" });
  const wanted = await runProgram({
    program: postgres,
    // Without our own wal_level: what the operator's files say shows.
    args: ["-D", config.dataDir, "-C", "wal_level", ...commandLineOf(fixed.filter(({ name }) => name !== "wal_level"))],
    folder: places.own,
    signal,
    failure: {
      code: "PG_START_FAILED",
      what: "reading the server's configuration",
      remedy: "operator",
      hint: "Correct the line of the operator's configuration that PostgreSQL names.",
    },
  });
  const walLevel = wanted.trim().endsWith("logical") ? "logical" : "replica";
  return ["-D", config.dataDir, ...commandLineOf(fixedSettings(config, places, { major, walLevel }))];
}

function commandLineOf(settings: readonly { name: string; value: string }[]): string[] {
  return settings.flatMap(({ name, value }) => ["-c", `${name}=${value}`]);
}

async function loadedAt(session: SqlSession): Promise<string | null> {
  const rows = await session.query("select extract(epoch from pg_conf_load_time())::text as at");
  return rows[0]?.["at"] ?? null;
}

/** In force: the value that a new session has comes from our file (or is ours; a custom setting does not show where it comes from). */
async function demandInForce(
  session: SqlSession,
  wanted: readonly { name: string; value: string }[],
  file: string,
): Promise<void> {
  const names = wanted.map(({ name }) => quoteLiteral(name)).join(", ");
  const rows = await session.query(
    `select name, current_setting(name, true) as value, sourcefile, pending_restart
     from unnest(array[${names}]) as wanted (name) left join pg_settings using (name)`,
  );
  for (const { name, value } of wanted) {
    const row = rows.find((candidate) => candidate["name"] === name);
    const ours = row?.["value"] === value || (row?.["sourcefile"] === file && /^\d+(ms|s|MB)$/.test(value));
    if (!ours) throw overridden(name, value, row);
  }
}

function overridden(
  name: string,
  wanted: string,
  row: Readonly<Record<string, string | null>> | undefined,
): ManateeError {
  return new ManateeError({
    code: "PG_SETTING_OVERRIDDEN",
    message: `${name} is ${JSON.stringify(row?.["value"] ?? null)} after the reload, and should be ${JSON.stringify(wanted)}`,
    remedy: "retry",
    hint: `Take ${name} out of ${row?.["sourcefile"] ?? "the file that sets it"}: Manatee sets it.`,
  });
}

/** A line that was taken in, though it can't match (hostssl without SSL), is one of which the view shows more than the error. */
async function demandRules(session: SqlSession, { config, places }: Context): Promise<void> {
  // Other files than ours, where the operator's rules include some, have a name from PostgreSQL 16 on.
  const [broken] = await session.query(
    "select line_number as line, error, to_jsonb(rules) ->> 'file_name' as file from pg_hba_file_rules rules where error is not null and type is null limit 1",
  );
  if (!broken) return;
  const file = broken["file"] ?? places.hbaFile;
  const line = broken["line"] ?? "?";
  const operators = file === places.hbaFile ? operatorsLine(await readFile(file, "utf8"), Number(line)) : undefined;
  throw new ManateeError({
    code: "PG_HBA_REJECTED",
    message: `PostgreSQL rejects line ${operators ?? line} of ${operators === undefined ? file : operatorHbaFile(config)} (${broken["error"]})`,
    remedy: "operator",
    hint: HBA_HINT,
  });
}

function configRejected({ text }: ConfigMistake): ManateeError {
  return new ManateeError({ code: "PG_CONF_REJECTED", message: text, remedy: "operator", hint: CONF_HINT });
}

function notLoaded(): ManateeError {
  return new ManateeError({
    code: "PG_SETTING_OVERRIDDEN",
    message: `PostgreSQL has not taken in its configuration within ${RELOAD_LIMIT_MS} ms`,
    remedy: "retry",
    hint: "Look at the server's log.",
  });
}
