// Makes settings hold: files, reload, and a look whether they are in force.

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
import { hbaContent, readOperatorHba } from "./hba.ts";
import { demandReplicationPassword, writePassFile } from "./passwords.ts";
import { runProgram } from "./programs.ts";
import { quoteLiteral, type SqlSession } from "./sql.ts";

/** pg_reload_conf() returns before anything has changed; a busy machine takes its time. */
const RELOAD_LIMIT_MS = 5000;
const RELOAD_POLL_MS = 10;

/** Writes all files of ours; says whether one that is loaded by a reload has changed. */
export async function writeSettingsFiles(
  context: Context,
  settings: PostgresSettings,
  peers: readonly ReplicationPeer[],
): Promise<boolean> {
  const { config, places, self } = context;
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
  const hba = hbaContent(config, { gate: settings.gate, peers, operator: await readOperatorHba(config) });
  // The hba file first: what `manatee.applied` says is in force only once both are loaded.
  const hbaChanged = await writeIfDifferent(places.hbaFile, hba);
  const reloadableChanged = await writeIfDifferent(places.reloadable, reloadableContent(reloadable));
  const configChanged = await writeIfDifferent(places.configFile, configFileContent(config, places));
  return hbaChanged || reloadableChanged || configChanged || removed.length > 0;
}

/** Reloads, and waits until a new session sees every value. Errors: `PG_SETTING_OVERRIDDEN`, `PG_HBA_REJECTED`, `PG_UNRESPONSIVE`. */
export async function reloadSettings(context: Context, settings: PostgresSettings): Promise<void> {
  const { config, self, places } = context;
  const before = await context.sql(loadedAt);
  context.postmaster.reload();
  // A session made after the reload shows a later load time: what differs then, differs for good.
  const loaded = await waitUntil(
    context,
    { limitMs: RELOAD_LIMIT_MS, everyMs: RELOAD_POLL_MS },
    async () => (await context.sql(loadedAt)) !== before,
  );
  if (!loaded) throw await reloadRejected(context);
  await context.sql(async (session) => {
    await demandInForce(session, reloadableSettings(config, self, places, settings), places.reloadable);
    const broken = await session.query(
      "select line_number, error from pg_hba_file_rules where error is not null limit 1",
    );
    if (broken[0]) throw hbaRejected(places.hbaFile, broken[0]["line_number"] ?? "?", broken[0]["error"] ?? "?");
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

function hbaRejected(file: string, line: string, error: string): ManateeError {
  return new ManateeError({
    code: "PG_HBA_REJECTED",
    message: `PostgreSQL rejects line ${line} of ${file} (${error}), and goes on with the rules of before`,
    remedy: "operator",
    hint: "Correct the operator's pg_hba.conf, whose content stands at the end of that file.",
  });
}

/** A file with an error in it is not loaded at all; pg_file_settings names the line. */
async function reloadRejected(context: Context): Promise<ManateeError> {
  const rows = await context.sql((session) =>
    session.query("select sourcefile, sourceline, name, error from pg_file_settings where error is not null limit 1"),
  );
  const row = rows[0];
  return new ManateeError({
    code: "PG_SETTING_OVERRIDDEN",
    message: row
      ? `PostgreSQL rejects its configuration: ${row["error"]} (${row["name"]}, line ${row["sourceline"]} of ${row["sourcefile"]})`
      : `PostgreSQL has not taken in its configuration within ${RELOAD_LIMIT_MS} ms`,
    remedy: "retry",
    hint: row ? "Correct that line of the configuration." : "Look at the server's log.",
  });
}
