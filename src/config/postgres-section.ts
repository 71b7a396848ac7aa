// The section `postgres` (the original's `postgresMgrCfg`) as a PostgresConfig.

import type { PeerAddress } from "../cluster/state.ts";
import { DEFAULTS } from "./defaults.ts";
import { parsePgUrl } from "./pg-url.ts";
import type { ConfigProblem } from "./problems.ts";
import type { NamedSection, PostgresSection } from "./schema.ts";
import type { PostgresConfig } from "./types.ts";

/** Something that was accepted and should be looked at. */
export interface ConfigWarning {
  readonly key: string;
  readonly message: string;
}

const OLDEST_VERSION = 14;
const NEWEST_VERSION = 18;

/** Settings that the sitter sets by itself: an operator's value would be overridden, or break a promise. Prefixes end with `*`. */
const OURS = [
  "synchronous_standby_names",
  "synchronous_commit",
  "primary_conninfo",
  "primary_slot_name",
  "recovery_target*",
  "recovery_min_apply_delay",
  "restore_command",
  "hba_file",
  "data_directory",
  "config_file",
  "external_pid_file",
  "port",
  "listen_addresses",
  "unix_socket_directories",
  "restart_after_crash",
  "fsync",
  "full_page_writes",
  "allow_alter_system",
  "hot_standby",
  "wal_level",
  "promote_trigger_file",
  "include*",
];

export function postgresConfig(given: {
  section: NamedSection;
  self: PeerAddress;
  stateDir: string;
  problems: ConfigProblem[];
  warnings: ConfigWarning[];
}): PostgresConfig {
  const { section: named, self, stateDir, problems } = given;
  const { key, value: section } = named;
  const D = DEFAULTS.postgres;
  const url = parsePgUrl(self.pgUrl);
  const port = "port" in url ? url.port : DEFAULTS.postgresPort;
  const socketDir = section.socketDir ?? `${stateDir}/socket`;
  checkSocket(socketDir, port, problems);
  if (section.startLimitMs !== undefined && section.opsTimeout !== undefined)
    problems.push({ key: `${key}.opsTimeout`, message: "stands beside startLimitMs", hint: "keep startLimitMs" });
  const config: PostgresConfig = {
    dataDir: section.dataDir,
    host: section.listenAddress ?? self.ip,
    port,
    binDir: binDirOf(section, key, problems),
    version: versionOf(named, problems, given.warnings),
    socketDir,
    superuser: section.dbUser ?? D.superuser,
    replicationUser: section.replicationUser ?? D.replicationUser,
    replicationPasswordFile: section.replicationPasswordFile ?? `${stateDir}/replication-password`,
    superuserPasswordFile: section.superuserPasswordFile ?? `${stateDir}/superuser-password`,
    operatorConfigFile: section.postgresConf,
    operatorHbaFile: section.hbaConfFile,
    parameters: parametersOf(section, key, problems),
    walKeepBytes: section.walKeepBytes ?? D.walKeepBytes,
    walSenderTimeoutMs: section.walSenderTimeoutMs ?? D.walSenderTimeoutMs,
    probeLimitMs: section.healthChkTimeout ?? D.probeLimitMs,
    startLimitMs: section.startLimitMs ?? section.opsTimeout ?? D.startLimitMs,
    stopLimitMs: section.stopLimitMs ?? D.stopLimitMs,
    forksDir: section.forksDir ?? `${section.dataDir}.forks`,
    freeBytesMin: section.freeBytesMin ?? D.freeBytesMin,
  };
  checkOutside(config, stateDir, key, problems);
  if (config.superuser === config.replicationUser)
    problems.push({
      key: `${key}.replicationUser`,
      message: `is the superuser, ${config.superuser}`,
      hint: "choose another role for replication",
    });
  return config;
}

/** The kernel's limit for a socket's path is 107 bytes. */
function checkSocket(socketDir: string, port: number, problems: ConfigProblem[]): void {
  const length = new TextEncoder().encode(`${socketDir}/.s.PGSQL.${port}`).length;
  if (length > 107)
    problems.push({
      key: "postgres.socketDir",
      message: `makes a socket's path of ${length} bytes, of which 107 are possible`,
      hint: "set postgres.socketDir to a shorter folder",
    });
}

/** initdb, a rewind and a copy own all that is in the data directory. */
function checkOutside(config: PostgresConfig, stateDir: string, key: string, problems: ConfigProblem[]): void {
  const places: readonly (readonly [string, string | undefined])[] = [
    ["stateDir", stateDir],
    [`${key}.forksDir`, config.forksDir],
    [`${key}.socketDir`, config.socketDir],
    [`${key}.replicationPasswordFile`, config.replicationPasswordFile],
    [`${key}.superuserPasswordFile`, config.superuserPasswordFile],
  ];
  for (const [name, path] of places)
    if (path === config.dataDir || path?.startsWith(`${config.dataDir}/`) === true)
      problems.push({
        key: name,
        message: "lies inside the data directory, which copies and rewinds replace",
        hint: `move it out of ${config.dataDir}`,
      });
}

function binDirOf(section: PostgresSection, key: string, problems: ConfigProblem[]): string | undefined {
  const folders = [section.binDir, folderOf(section.postgresPath), folderOf(section.pgInitDbPath)].filter(
    (folder) => folder !== undefined,
  );
  const different = folders.find((folder) => folder !== folders[0]);
  if (different !== undefined)
    problems.push({
      key: `${key}.binDir`,
      message: `names two folders of programs: ${folders[0]} and ${different}`,
      hint: "give binDir alone",
    });
  return folders[0];
}

function folderOf(path: string | undefined): string | undefined {
  return path?.slice(0, Math.max(1, path.lastIndexOf("/")));
}

function versionOf(
  { key, value: section }: NamedSection,
  problems: ConfigProblem[],
  warnings: ConfigWarning[],
): string | undefined {
  const major = (text: string) => Number(/^\d+/.exec(text)?.[0] ?? Number.NaN);
  const supported = (text: string) => major(text) >= OLDEST_VERSION;
  if (section.version !== undefined) {
    if (!supported(section.version))
      problems.push({
        key: `${key}.version`,
        message: `is ${section.version}; PostgreSQL ${OLDEST_VERSION} to ${NEWEST_VERSION} are supported`,
        hint: "upgrade the data with pg_upgrade first",
      });
    if (major(section.version) > NEWEST_VERSION)
      warnings.push({
        key: `${key}.version`,
        message: `is newer than what was tested (${OLDEST_VERSION} to ${NEWEST_VERSION})`,
      });
    return String(major(section.version));
  }
  if (section.defaultVersion === undefined) return undefined;
  if (supported(section.defaultVersion)) return String(major(section.defaultVersion));
  warnings.push({
    key: `${key}.defaultVersion`,
    message: `is passed over: PostgreSQL ${section.defaultVersion} is not supported (${OLDEST_VERSION} to ${NEWEST_VERSION} are)`,
  });
  return undefined;
}

function parametersOf(
  section: PostgresSection,
  key: string,
  problems: ConfigProblem[],
): Readonly<Record<string, string>> {
  const result: Record<string, string> = {};
  for (const [name, value] of Object.entries(section.parameters ?? {})) {
    const at = `${key}.parameters.${name}`;
    const plain = name.toLowerCase();
    if (!/^[a-z_][a-z0-9_$]*(\.[a-z_][a-z0-9_$]*)?$/.test(plain))
      problems.push({ key: at, message: "is not the name of a setting", hint: "correct the name" });
    else if (OURS.some((ours) => (ours.endsWith("*") ? plain.startsWith(ours.slice(0, -1)) : plain === ours)))
      problems.push({ key: at, message: "is set by Manatee itself", hint: "remove it" });
    else result[plain] = value === true ? "on" : value === false ? "off" : String(value);
  }
  return result;
}
