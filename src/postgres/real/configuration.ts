// What the server is told, and by which way. Highest rank first: the command line (nothing overrides it), postgresql.auto.conf (ALTER SYSTEM), the
// config_file. So what must hold and never changes stands on the command line; what must hold and is reloaded stands in our file, is taken out
// of postgresql.auto.conf, and is checked after each reload; the operator's own settings stay theirs.

import { join } from "node:path";
import { parsePeerId } from "../../base/peer-id.ts";
import { addressOf, type PeerAddress } from "../../cluster/state.ts";
import type { PostgresSettings } from "../../cluster/observation.ts";
import type { PostgresConfig } from "../../config/types.ts";
import { readIfThere, writeDurably } from "./durable.ts";
import type { Places } from "./places.ts";

/** The same on all peers: a standby with fewer than its primary pauses replay and dies on promotion. */
const MAX_WAL_SENDERS = 20;
/** So that clients that take every connection don't shut the sitter out. */
const SUPERUSER_CONNECTIONS = 5;
/** A query on the sync must not delay a takeover for long; zero once it receives from nobody. */
const STANDBY_DELAY_MS = 1000;

/**
 * A receiver asks for a sign of life after half of this time without one: so an upstream that lives is never silent for longer than that, and silence
 * for the suspect time (2 s by default) means something. After all of it the receiver gives the connection up.
 */
const RECEIVER_TIMEOUT_MS = 2500;

/** A setting of ours with the reason why it must hold. */
interface Setting {
  readonly name: string;
  readonly value: string;
  readonly why: string;
}

export interface FixedOptions {
  readonly major: number;
  /** As the operator's files say; ours is not less. */
  readonly walLevel: "replica" | "logical";
}

/** What a `postgres --single` needs of it: recovery to the end of the WAL, and durability. */
export function singleUserOptions(places: Places): string[] {
  const values = {
    config_file: places.configFile,
    data_directory: places.dataDir,
    external_pid_file: "",
    fsync: "on",
    full_page_writes: "on",
    archive_mode: "off",
    // The checkpoint at its end must not remove WAL that a rewind needs: all since the last checkpoint before the fork.
    wal_keep_size: "1TB",
    password_encryption: "scram-sha-256",
  };
  return Object.entries(values).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
}

export function fixedSettings(config: PostgresConfig, places: Places, { major, walLevel }: FixedOptions): Setting[] {
  const commit = config.parameters["synchronous_commit"] === "remote_apply" ? "remote_apply" : "on";
  const settings: [string, string, string][] = [
    ["config_file", places.configFile, "ours includes the operator's"],
    ["data_directory", config.dataDir, "a distribution's own file names another one"],
    ["external_pid_file", "", "a distribution's own file names a folder that is not ours"],
    ["hba_file", places.hbaFile, "the gate, and who replicates"],
    ["listen_addresses", config.host, "the address that the shard's state names"],
    ["port", String(config.port), "the port that the shard's state names"],
    ["unix_socket_directories", places.socketDir, "the sitter's way in, and nobody else's"],
    ["unix_socket_permissions", "0700", "as the folder's own mode"],
    // A leftover of a restore would end recovery early, and a promotion would lose what was acknowledged after that point.
    ["recovery_target", "", "recovery goes to the end of the WAL"],
    ["recovery_target_lsn", "", "recovery goes to the end of the WAL"],
    ["recovery_target_name", "", "recovery goes to the end of the WAL"],
    ["recovery_target_time", "", "recovery goes to the end of the WAL"],
    ["recovery_target_xid", "", "recovery goes to the end of the WAL"],
    ["recovery_target_timeline", "latest", "a standby follows its upstream's promotion"],
    ["recovery_min_apply_delay", "0", "a takeover would wait for the delay"],
    ["recovery_end_command", "", "a promotion is not held up by it"],
    ["archive_cleanup_command", "", "WAL that a peer may need is not taken away"],
    ["restore_command", "", "an archive could carry the peer into a foreign timeline"],
    ["hot_standby", "on", "the sitter looks at a standby by SQL"],
    ["restart_after_crash", "off", "a crash restart would open to clients without the gate (P1)"],
    ["fsync", "on", "flushed must mean durable"],
    ["full_page_writes", "on", "a torn page would be lost data"],
    ["synchronous_commit", commit, "commits wait for the sync (I1)"],
    ["wal_level", walLevel, "standbys need it"],
    ["wal_log_hints", "on", "pg_rewind needs it where checksums are off"],
    ["max_wal_senders", String(MAX_WAL_SENDERS), "the same on all peers, enough for them"],
    ["superuser_reserved_connections", String(SUPERUSER_CONNECTIONS), "clients can't shut the sitter out"],
    ["logging_collector", "off", "the sitter reads the log"],
    ["log_destination", "stderr", "the sitter reads the log"],
    ["log_min_messages", "warning", "cancelled waits are warnings"],
    ["log_error_verbosity", "default", "the sitter reads the log"],
    ["log_line_prefix", "%m [%p] %b %e ", "the sitter reads the log"],
    ["lc_messages", "C", "the sitter reads the log"],
  ];
  if (major >= 17)
    settings.push(["allow_alter_system", "off", "postgresql.auto.conf would override our reloadable file"]);
  return settings.map(([name, value, why]) => ({ name, value, why }));
}

/** Settings that change while the server runs. All can be reloaded. */
export function reloadableSettings(
  config: PostgresConfig,
  self: PeerAddress,
  places: Places,
  settings: PostgresSettings,
): Setting[] {
  const timeout = `${config.walSenderTimeoutMs}ms`;
  const delay = settings.upstream === null ? "0" : `${STANDBY_DELAY_MS}ms`;
  const walKept = `${Math.max(1, Math.ceil(config.walKeepBytes / 1024 ** 2))}MB`;
  const rows: [string, string, string][] = [
    ["synchronous_standby_names", syncStandbyNames(settings.syncNames), "every commit waits for all of these (I1, S1)"],
    [
      "primary_conninfo",
      settings.upstream ? connInfo(config, self, places, settings.upstream) : "",
      "from whom this peer receives",
    ],
    ["primary_slot_name", "", "WAL for peers is bounded by wal_keep_size, not by slots"],
    ["wal_retrieve_retry_interval", "200ms", "the default of 5 s would be added to every failover"],
    ["wal_receiver_status_interval", "1s", "how far a peer is must be known"],
    [
      "wal_receiver_timeout",
      `${Math.min(RECEIVER_TIMEOUT_MS, config.walSenderTimeoutMs)}ms`,
      "an idle upstream shows that it lives",
    ],
    ["wal_sender_timeout", timeout, "silence is noticed"],
    ["max_standby_streaming_delay", delay, "a query on a standby must not hold up a takeover"],
    ["max_standby_archive_delay", delay, "a query on a standby must not hold up a takeover"],
    ["wal_keep_size", walKept, "WAL kept for peers that fall behind"],
    ["manatee.applied", appliedText(settings), "read back by the sitter: what is in force"],
  ];
  return rows.map(([name, value, why]) => ({ name, value, why }));
}

export function reloadableContent(settings: readonly Setting[]): string {
  const lines = settings.map(({ name, value, why }) => `${name} = ${quoteSetting(value)}  # ${why}`);
  return `# Written by Manatee at each change of role: don't edit.\n${lines.join("\n")}\n`;
}

/** The server's `config_file`. `held`: what stands in it instead of the operator's settings, in which there is a mistake. */
export function configFileContent(
  config: PostgresConfig,
  places: Places,
  held?: Readonly<Record<string, string>>,
): string {
  const operator = config.operatorConfigFile ?? join(config.dataDir, "postgresql.conf");
  const linesOf = (settings: Readonly<Record<string, string>>) =>
    Object.entries(settings).map(([name, value]) => `${name} = ${quoteSetting(value)}`);
  return [
    "# Written by Manatee: don't edit. What must hold stands on the server's command line, or in the last file included.",
    ...(held
      ? ["# As the running server has them: there is a mistake in the operator's own file.", ...linesOf(held)]
      : [
          "# The operator's own file.",
          `include ${quoteSetting(operator)}`,
          "# `parameters` of Manatee's configuration.",
          ...linesOf(config.parameters),
        ]),
    "# What Manatee changes while the server runs.",
    `include ${quoteSetting(places.reloadable)}`,
    "",
  ].join("\n");
}

/** Takes settings of these names out of postgresql.auto.conf, which would win over our file. Returns the names that were there. */
export async function cleanAutoConf(dataDir: string, names: ReadonlySet<string>): Promise<string[]> {
  const path = join(dataDir, "postgresql.auto.conf");
  const content = await readIfThere(path);
  if (content === undefined) return [];
  const removed: string[] = [];
  const kept = content.split("\n").filter((line) => {
    const name = /^\s*([A-Za-z_][A-Za-z0-9_.]*)\s*(=|\s)/.exec(line)?.[1]?.toLowerCase();
    if (name === undefined || !names.has(name)) return true;
    removed.push(name);
    return false;
  });
  if (removed.length > 0) await writeDurably(path, kept.join("\n"));
  return removed;
}

/** Every name is required, in this order. Empty: nothing waits. */
export function syncStandbyNames(names: readonly string[]): string {
  if (names.length === 0) return "";
  return `FIRST ${names.length} (${names.map((name) => `"${name.replaceAll('"', '""')}"`).join(", ")})`;
}

/** The inverse; a list that is not of our form comes back as one name, so that it differs from whatever is wanted. */
export function parseSyncStandbyNames(text: string): readonly string[] {
  if (text.trim() === "") return [];
  const match = /^FIRST (\d+) \((.*)\)$/.exec(text);
  const names = [...(match?.[2] ?? "").matchAll(/"((?:[^"]|"")*)"/g)].map((found) =>
    (found[1] as string).replaceAll('""', '"'),
  );
  return match && names.length === Number(match[1]) ? names : [text];
}

/** What is written down in `manatee.applied`, since a gate and a peer's address can't be read back from PostgreSQL itself. */
export interface Applied {
  readonly gate: "open" | "closed";
  readonly upstream: PeerAddress | null;
}

export function parseApplied(text: string | null): Applied | undefined {
  if (text === null || text === "") return undefined;
  try {
    return JSON.parse(text) as Applied;
  } catch {
    return undefined;
  }
}

function appliedText({ gate, upstream }: PostgresSettings): string {
  return JSON.stringify({ gate, upstream: upstream && addressOf(upstream) } satisfies Applied);
}

/** How this peer connects to another as the replication role; `application_name` is what it counts as there. */
export function connInfo(config: PostgresConfig, self: PeerAddress, places: Places, peer: PeerAddress): string {
  return formatConnInfo({
    ...endpointOf(peer),
    user: config.replicationUser,
    application_name: self.pgUrl,
    passfile: places.passFile,
    connect_timeout: "2",
    // A connection to a machine that vanished must break when silence counts, not after the kernel's quarter of an hour.
    tcp_user_timeout: String(config.walSenderTimeoutMs),
    gssencmode: "disable",
  });
}

export function formatConnInfo(values: Readonly<Record<string, string>>): string {
  return Object.entries(values)
    .map(([name, value]) => `${name}='${value.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`)
    .join(" ");
}

export function endpointOf(peer: PeerAddress): { host: string; port: string } {
  const port = parsePeerId(peer.id)?.pgPort;
  if (port === undefined) throw new RangeError(`not a peer's id: ${peer.id}`);
  return { host: peer.ip, port: String(port) };
}

function quoteSetting(value: string): string {
  return `'${value.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
}
