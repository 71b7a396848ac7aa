// From the sitter's JSON and the environment to a SitterConfig, or to everything that is wrong with it at once. Pure: reading the file is the caller's.

import { formatPeerId } from "../base/peer-id.ts";
import { LOG_LEVELS } from "./log-level.ts";
import { DEFAULTS } from "./defaults.ts";
import { readConfigJson } from "./json.ts";
import { parsePgUrl } from "./pg-url.ts";
import { postgresConfig, type ConfigWarning } from "./postgres-section.ts";
import { type ConfigProblem, problemsOf } from "./problems.ts";
import {
  keysOf,
  type NamedSection,
  namesByPath,
  type PostgresSection,
  type SitterFile,
  sitterSchema,
} from "./schema.ts";
import { type Environment, present, storeOf } from "./store.ts";
import { storageOf } from "./storage-section.ts";
import type { SitterConfig } from "./types.ts";

export type { ConfigWarning } from "./postgres-section.ts";

export type SitterConfigResult =
  | {
      readonly kind: "valid";
      readonly file: string;
      readonly config: SitterConfig;
      readonly warnings: readonly ConfigWarning[];
    }
  | { readonly kind: "invalid"; readonly file: string; readonly problems: readonly ConfigProblem[] };

/** `env`: ZK_IPS, SHARD, LOG_LEVEL, MANATEE_ZK_DIGEST and MANATEE_ZK_SASL are read. `file`: its name, for messages. */
export function readSitterConfig({
  json,
  env,
  file,
}: {
  json: string;
  env: Environment;
  file: string;
}): SitterConfigResult {
  const read = readConfigJson(json);
  if (read.kind === "invalid") return { kind: "invalid", file, problems: read.problems };
  const parsed = sitterSchema.safeParse(read.value, { reportInput: true });
  if (!parsed.success)
    return { kind: "invalid", file, problems: problemsOf(parsed.error.issues, namesByPath(keysOf(sitterSchema))) };
  const problems: ConfigProblem[] = [];
  const warnings: ConfigWarning[] = obsoleteKeys(read.value as object);
  const config = build(parsed.data, env, problems, warnings);
  return config === undefined || problems.length > 0
    ? { kind: "invalid", file, problems }
    : { kind: "valid", file, config, warnings };
}

function build(
  data: SitterFile,
  env: Environment,
  problems: ConfigProblem[],
  warnings: ConfigWarning[],
): SitterConfig | undefined {
  const section = sectionOf(data, problems);
  const shardPath = shardPathOf(data, env, problems);
  const store = storeOf(data, env);
  if ("problems" in store) problems.push(...store.problems);
  const logLevel = logLevelOf(data, env, problems);
  if (section === undefined || shardPath === undefined || "problems" in store) return undefined;
  const address = addressOf(data, section.value, section.key, problems, warnings);
  if (address === undefined) return undefined;
  const stateDir = data.stateDir ?? `${section.value.dataDir}.manatee`;
  const postgres = postgresConfig({ section, self: address, stateDir, problems, warnings });
  if (store.store.sessionTimeoutMs > 30_000)
    warnings.push({
      key: "sessionTimeout",
      message: `is ${store.store.sessionTimeoutMs} ms: where only the session tells that a peer is gone, failover waits that long`,
    });
  const oneNodeWriteMode = section.value.oneNodeWriteMode ?? DEFAULTS.policy.oneNodeWriteMode;
  const healthCheckIntervalMs =
    data.healthCheckIntervalMs ?? section.value.healthChkInterval ?? DEFAULTS.healthCheckIntervalMs;
  return {
    shard: shardPath.slice(shardPath.lastIndexOf("/") + 1),
    shardPath,
    self: address,
    store: store.store,
    postgres,
    storage: data.storage && storageOf(data.storage),
    policy: policyOf(data, oneNodeWriteMode),
    tags: tagsOf(data),
    peers: peersOf(data, problems),
    healthCheckIntervalMs,
    peerProbeLimitMs: data.peerProbeLimitMs ?? DEFAULTS.peerProbeLimitMs,
    statusHost: data.statusHost ?? data.ip,
    statusPort: postgres.port + 1,
    registrar: { enabled: data.registrar?.enabled ?? true, ttlSeconds: data.ttl ?? DEFAULTS.ttlSeconds },
    historyKept: data.historyKept ?? DEFAULTS.historyKept,
    stateDir,
    logLevel,
  };
}

function policyOf(data: SitterFile, oneNodeWriteMode: boolean): SitterConfig["policy"] {
  const given = data.policy ?? {};
  const D = DEFAULTS.policy;
  return {
    oneNodeWriteMode,
    takeoverAlone: given.takeoverAlone ?? D.takeoverAlone,
    rejoin: given.rejoin ?? D.rejoin,
    adoptData: given.adoptData ?? D.adoptData,
    forksKeptMax: given.forksKeptMax ?? D.forksKeptMax,
    suspectMs: given.suspectMs ?? D.suspectMs,
    opsTimeoutMs: given.opsTimeoutMs ?? D.opsTimeoutMs,
    isolationMs: given.isolationMs ?? D.isolationMs,
    takeoversPerHourMax: given.takeoversPerHourMax ?? D.takeoversPerHourMax,
    syncLagBytesMax: given.syncLagBytesMax ?? D.syncLagBytesMax,
    bootstrapPeersMin: given.bootstrapPeersMin ?? (oneNodeWriteMode ? 1 : D.bootstrapPeersMin),
  };
}

function tagsOf({ tags = {} }: SitterFile): SitterConfig["tags"] {
  const D = DEFAULTS.tags;
  return {
    nofailover: tags.nofailover ?? D.nofailover,
    nosync: tags.nosync ?? D.nosync,
    priority: tags.priority ?? D.priority,
    zone: tags.zone ?? D.zone,
  };
}

function peersOf(data: SitterFile, problems: ConfigProblem[]): SitterConfig["peers"] {
  const given = data.peers ?? {};
  const D = DEFAULTS.peers;
  const silence = {
    beatMs: given.heartbeatMs ?? D.heartbeatMs,
    minMs: given.silenceMinMs ?? D.silenceMinMs,
    maxMs: given.silenceMaxMs ?? Math.max(D.silenceMaxMs, given.silenceMinMs ?? 0),
    deviations: given.silenceDeviations ?? D.silenceDeviations,
  };
  if (silence.minMs < 3 * silence.beatMs)
    problems.push({
      key: "peers.silenceMinMs",
      message: `is ${silence.minMs} ms, less than three heartbeats (${silence.beatMs} ms)`,
      hint: "raise it, or lower peers.heartbeatMs: one lost beat must not be silence",
    });
  if (silence.maxMs < silence.minMs)
    problems.push({
      key: "peers.silenceMaxMs",
      message: `is ${silence.maxMs} ms, below peers.silenceMinMs (${silence.minMs} ms)`,
      hint: "raise it, or lower peers.silenceMinMs",
    });
  return { silence, tls: given.tls };
}

function sectionOf(data: SitterFile, problems: ConfigProblem[]): NamedSection | undefined {
  if (data.postgres !== undefined && data.postgresMgrCfg !== undefined) {
    problems.push({
      key: "postgres",
      message: "stands beside postgresMgrCfg",
      hint: "keep one of the two: they are the same section",
    });
    return undefined;
  }
  if (data.postgres !== undefined) return { key: "postgres", value: data.postgres };
  if (data.postgresMgrCfg !== undefined) return { key: "postgresMgrCfg", value: data.postgresMgrCfg };
  problems.push({ key: "postgres", message: "is missing", hint: 'add "postgres": { "dataDir": "/PATH" }' });
  return undefined;
}

function shardPathOf(data: SitterFile, env: Environment, problems: ConfigProblem[]): string | undefined {
  const name = present(env["SHARD"]);
  if (data.shardPath !== undefined) return data.shardPath;
  if (name === undefined)
    problems.push({ key: "shardPath", message: "is missing", hint: 'add "shardPath": "/manatee/NAME" or set SHARD' });
  else if (!/^[^/\s]+$/.test(name))
    problems.push({ key: "SHARD", message: `is not a shard's name: ${name}`, hint: "give the name alone, without /" });
  else return `/manatee/${name}`;
  return undefined;
}

function logLevelOf(data: SitterFile, env: Environment, problems: ConfigProblem[]): SitterConfig["logLevel"] {
  const wanted = present(env["LOG_LEVEL"])?.toLowerCase();
  if (wanted === undefined) return data.logLevel ?? "info";
  const level = LOG_LEVELS.find((known) => known === wanted);
  if (level === undefined)
    problems.push({
      key: "LOG_LEVEL",
      message: `is not a level: ${wanted}`,
      hint: `set one of ${LOG_LEVELS.join(", ")}`,
    });
  return level ?? "info";
}

function addressOf(
  data: SitterFile,
  section: PostgresSection,
  key: string,
  problems: ConfigProblem[],
  warnings: ConfigWarning[],
): SitterConfig["self"] | undefined {
  const backupPort = data.backupPort ?? DEFAULTS.backupPort;
  const pgUrl = section.url ?? `tcp://postgres@${data.ip}:${data.postgresPort ?? DEFAULTS.postgresPort}/postgres`;
  const url = parsePgUrl(pgUrl);
  if ("problem" in url) {
    problems.push({
      key: `${key}.url`,
      message: url.problem,
      hint: `write it like tcp://postgres@${data.ip}:${data.postgresPort ?? DEFAULTS.postgresPort}/postgres`,
    });
    return undefined;
  }
  const pgPort = data.postgresPort ?? url.port;
  if (url.port !== pgPort)
    problems.push({
      key: `${key}.url`,
      message: `names port ${url.port}, postgresPort is ${pgPort}`,
      hint: "make them the same",
    });
  if (url.ip !== data.ip)
    warnings.push({
      key: `${key}.url`,
      message: `names ${url.ip}, ip is ${data.ip}: clients without a state use ${data.ip}`,
    });
  if (backupPort === pgPort)
    problems.push({ key: "backupPort", message: `is PostgreSQL's port, ${pgPort}`, hint: "choose another" });
  if (backupPort === pgPort + 1)
    problems.push({
      key: "backupPort",
      message: `is the status service's port, ${backupPort}`,
      hint: "choose another; the status service stands on postgresPort + 1",
    });
  return {
    id: formatPeerId({ ip: data.ip, pgPort, backupPort }),
    zoneId: data.zoneId,
    ip: data.ip,
    pgUrl,
    backupUrl: `http://${data.ip}:${backupPort}`,
  };
}

/** A warning for each key that is there and means nothing. */
function obsoleteKeys(value: object): ConfigWarning[] {
  return keysOf(sitterSchema).flatMap(({ path, obsolete, description }) =>
    obsolete === true && valueAt(value, path) !== undefined
      ? [{ key: path, message: `means nothing any more. ${description}` }]
      : [],
  );
}

function valueAt(value: unknown, path: string): unknown {
  return path
    .split(".")
    .reduce<unknown>(
      (inner, name) =>
        typeof inner === "object" && inner !== null ? (inner as Readonly<Record<string, unknown>>)[name] : undefined,
      value,
    );
}
