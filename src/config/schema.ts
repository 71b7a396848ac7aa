// The sitter's file as it is written: keys of the original, and ours beside them. What each means stands with it; docs/configuration.md is
// made from here (a test compares). read-sitter.ts makes a SitterConfig of it.

import * as z from "zod";
import { storageSection } from "./storage-section.ts";
import { DEFAULTS } from "./defaults.ts";
import { absolutePath, bytes, flag, ipv4, ms, port, postgresPort, roleName, seconds, text, whole } from "./values.ts";

const D = DEFAULTS;

/** `obsolete`: a key of the original's that means nothing here; accepted with a warning. */
export interface KeyNote {
  readonly description: string;
  readonly fallback?: string;
  readonly obsolete?: boolean;
}

function key<T extends z.ZodType>(type: T, description: string, fallback?: string | number | boolean) {
  return type.optional().meta({ description, ...(fallback === undefined ? {} : { fallback: String(fallback) }) });
}

function required<T extends z.ZodType>(type: T, description: string): T {
  return type.meta({ description });
}

function obsolete(description: string) {
  return z.unknown().optional().meta({ description, obsolete: true });
}

const sessionTimeout = ms(200, 600_000);

const tls = z
  .strictObject({
    caFile: required(
      absolutePath,
      "Certificates (PEM) of the authorities that the store's certificate must come from.",
    ),
    certFile: key(absolutePath, "This client's certificate (PEM), where the store demands one.", "none"),
    keyFile: key(absolutePath, "The private key to it (PEM), readable by its owner only.", "none"),
  })
  .refine(({ certFile, keyFile }) => (certFile === undefined) === (keyFile === undefined), {
    error: "must have certFile and keyFile both, or neither",
  });

const userAndPassword = text.regex(/^[^:]+:.+$/, { error: "must be USER:PASSWORD" });

const zkCfg = z.strictObject({
  connStr: key(text, "`host:port,host:port`, with an optional `/chroot` at the end.", "from `ZK_IPS`"),
  opts: key(
    z.strictObject({
      sessionTimeout: key(
        sessionTimeout,
        "Milliseconds after which ZooKeeper counts a silent peer as gone.",
        D.sessionTimeoutMs,
      ),
      spinDelay: obsolete("Reconnecting is paced by the driver."),
      retries: obsolete("The driver reconnects for as long as it takes."),
    }),
    "Options of the connection.",
  ),
  digest: key(
    userAndPassword,
    "`user:password` for digest authentication; nodes made are then that user's alone. The environment's `MANATEE_ZK_DIGEST` keeps it out of the file.",
    "open to all",
  ),
  saslDigest: key(
    userAndPassword,
    "`user:password` for SASL (DIGEST-MD5), where the servers demand it; nodes made are then that user's alone. The environment's `MANATEE_ZK_SASL` keeps it out of the file.",
    "none",
  ),
  tls: key(tls, "Connect by TLS.", "plain TCP"),
});

const store = z.discriminatedUnion(
  "kind",
  [
    z.strictObject({
      kind: required(
        z.literal("local"),
        "`local`: the embedded store for one machine, for demonstrations and development only.",
      ),
      directory: required(absolutePath, "Folder of the embedded store: its socket and its file."),
      sessionTimeoutMs: key(
        sessionTimeout,
        "Milliseconds after which a silent peer counts as gone.",
        D.sessionTimeoutMs,
      ),
    }),
    z.strictObject({
      kind: required(z.literal("zookeeper"), "`zookeeper`: the same as `zkCfg`, in our words."),
      connectString: required(text, "`host:port,host:port`, with an optional `/chroot` at the end."),
      sessionTimeoutMs: key(
        sessionTimeout,
        "Milliseconds after which ZooKeeper counts a silent peer as gone.",
        D.sessionTimeoutMs,
      ),
      digest: key(userAndPassword, "As `zkCfg.digest`.", "open to all"),
      saslDigest: key(userAndPassword, "As `zkCfg.saslDigest`.", "none"),
      tls: key(tls, "As `zkCfg.tls`.", "plain TCP"),
    }),
  ],
  { error: 'must be { "kind": "zookeeper", "connectString": … } or { "kind": "local", "directory": … }' },
);

/** `postgres` in our words, `postgresMgrCfg` in the original's: the same keys. */
const postgres = z.strictObject({
  dataDir: required(
    absolutePath,
    "PostgreSQL's data directory. Folders beside it (`DATADIR.manatee`, `DATADIR.forks`) are the sitter's.",
  ),
  url: key(
    text,
    "`tcp://USER@IPV4:PORT/DATABASE`, 63 bytes at most: what clients get, and the name under which the peer replicates.",
    "`tcp://postgres@IP:POSTGRESPORT/postgres`",
  ),
  dbUser: key(roleName, "The superuser, by whom the sitter connects.", D.postgres.superuser),
  listenAddress: key(text, "Address that PostgreSQL listens on; `*` is all.", "`ip`"),
  binDir: key(absolutePath, "Folder with `postgres` and `initdb`.", "searched for: PATH, the distribution's places"),
  version: key(
    text.regex(/^\d+(\.\d+)*$/, { error: 'must be a PostgreSQL version such as "17"' }),
    "Major version wanted.",
    "the data directory's, else the newest found",
  ),
  socketDir: key(absolutePath, "Folder (0700) of the socket by which the sitter connects.", "`STATEDIR/socket`"),
  replicationUser: key(roleName, "Role by which peers replicate, copy and rewind.", D.postgres.replicationUser),
  replicationPasswordFile: key(
    absolutePath,
    "Its password, mode 0600, the same on every peer; made at bootstrap where it is missing.",
    "`STATEDIR/replication-password`",
  ),
  superuserPasswordFile: key(
    absolutePath,
    "The superuser's password; made at bootstrap where it is missing.",
    "`STATEDIR/superuser-password`",
  ),
  postgresConf: key(
    absolutePath,
    "The operator's own settings, included with lower rank than ours.",
    "what initdb made",
  ),
  hbaConfFile: key(absolutePath, "The operator's own pg_hba lines, put behind ours.", "what initdb made"),
  parameters: key(
    z.record(
      z.string(),
      z.union([z.string(), z.number(), z.boolean()], { error: "must be a text, a number, true or false" }),
    ),
    "PostgreSQL settings, of lower rank than ours.",
    "{}",
  ),
  walKeepBytes: key(bytes, "WAL kept on every peer for those that fall behind; past it, they copy anew.", "1GiB"),
  walSenderTimeoutMs: key(ms(1_000, 600_000), "`wal_sender_timeout`.", D.postgres.walSenderTimeoutMs),
  startLimitMs: key(
    ms(1_000, 86_400_000),
    "Bound of a start, crash recovery included.",
    `\`opsTimeout\`, else ${D.postgres.startLimitMs}`,
  ),
  stopLimitMs: key(ms(100, 600_000), "Bound of a fast stop; after it, the stop is immediate.", D.postgres.stopLimitMs),
  forksDir: key(
    absolutePath,
    "Folder in which forks are kept; on the same file system as `dataDir`.",
    "`DATADIR.forks`",
  ),
  freeBytesMin: key(bytes, "Kept free at least when a fork is kept or a copy is made.", "1GiB"),
  healthChkInterval: key(
    ms(100, 60_000),
    "Milliseconds between looks at PostgreSQL where no event calls for one.",
    D.healthCheckIntervalMs,
  ),
  healthChkTimeout: key(
    ms(100, 60_000),
    "Bound of one look at PostgreSQL, opening a connection included.",
    D.postgres.probeLimitMs,
  ),
  opsTimeout: key(ms(1_000, 86_400_000), "The original's name of `startLimitMs`.", D.postgres.startLimitMs),
  oneNodeWriteMode: key(
    flag,
    "A shard of one peer, without a sync (O1). Frozen by definition.",
    D.policy.oneNodeWriteMode,
  ),
  postgresPath: key(absolutePath, "The `postgres` program; its folder is `binDir`.", "`binDir`"),
  pgInitDbPath: key(absolutePath, "The `initdb` program, in the same folder.", "`binDir`"),
  defaultVersion: key(
    text,
    "The original's name of `version`; one that is not supported is passed over with a warning.",
  ),
  postgresConfDir: obsolete("One file of settings serves: `postgresConf`."),
  postgresConfFile: obsolete("One file of settings serves: `postgresConf`."),
  recoveryConf: obsolete("PostgreSQL has no recovery.conf since 12; the sitter writes what a standby needs."),
  recoveryConfFile: obsolete("PostgreSQL has no recovery.conf since 12; the sitter writes what a standby needs."),
  dataConfig: obsolete("The data directory tells its version."),
  versions: obsolete("Programs are searched for by version."),
  pgBaseDir: obsolete("Programs are searched for by version; `binDir` names a folder."),
  pgConnectTimeout: obsolete("`healthChkTimeout` bounds opening a connection."),
  replicationTimeout: obsolete("`policy.opsTimeoutMs` bounds the waits inside a change."),
  snapShotterCfg: obsolete("`storage` names the dataset; the snapshotter has a file of its own."),
  zfsClientCfg: obsolete("`storage` names the dataset; snapshots come from the peers' backup servers."),
});

const policy = z.strictObject({
  takeoverAlone: key(
    flag,
    "A sync that is left alone takes over without an heir, in one-node-write mode (T1). One more failure then loses data.",
    D.policy.takeoverAlone,
  ),
  rejoin: key(
    z.enum(["automatic", "manual"], { error: 'must be "automatic" or "manual"' }),
    "`manual`: a peer whose WAL has forked waits for `manatee-adm rebuild` (R1).",
    D.policy.rejoin,
  ),
  adoptData: key(
    flag,
    "Data without a shard's mark becomes the shard's first content (B1). Set it on the one peer that has the data, for the first start.",
    D.policy.adoptData,
  ),
  forksKeptMax: key(
    whole(0, 1_000, "a number"),
    "Forks kept beside the data directory; at the bound the peer waits for an operator (I5).",
    D.policy.forksKeptMax,
  ),
  suspectMs: key(
    ms(100, 60_000),
    "How long silence of a peer lasts before it is evidence (D1) where no stream to it is up, and a standby's before its WAL no longer flows. `peers` has the limits of streams.",
    D.policy.suspectMs,
  ),
  opsTimeoutMs: key(ms(500, 600_000), "Bound of each wait inside a change (S1, T1, T2, T3).", D.policy.opsTimeoutMs),
  isolationMs: key(
    ms(500, 600_000),
    "How long a primary without sync and store keeps its clients (X1).",
    D.policy.isolationMs,
  ),
  takeoversPerHourMax: key(
    whole(0, 1_000, "a number"),
    "Past it, a primary whose PostgreSQL died is restarted in place instead (T2).",
    D.policy.takeoversPerHourMax,
  ),
  syncLagBytesMax: key(bytes, "How far behind an async may be to become sync (S1).", "16MiB"),
  bootstrapPeersMin: key(
    whole(1, 100, "a number"),
    "Peers that must be present before the shard is founded (B1).",
    `${D.policy.bootstrapPeersMin}; 1 with \`oneNodeWriteMode\``,
  ),
});

const peers = z.strictObject({
  heartbeatMs: key(
    ms(20, 5_000),
    "Between two beats of the stream to each other sitter. Shorter notices silence sooner and costs more messages; the limits below should be several beats long.",
    D.peers.heartbeatMs,
  ),
  silenceMinMs: key(
    ms(100, 60_000),
    "Floor of the limit past which a peer's silence counts (D2). It bounds how soon a vanished or frozen host is taken over; lower takes shorter stalls of a whole host for its death.",
    D.peers.silenceMinMs,
  ),
  silenceMaxMs: key(
    ms(100, 600_000),
    "Ceiling of that limit, however uneven the link is. Higher spares failovers on bad links, and makes them later there.",
    D.peers.silenceMaxMs,
  ),
  silenceDeviations: key(
    z.number().min(1).max(100),
    "Between floor and ceiling the limit is learned from each link: the usual time between two words, so many standard deviations of it, and two round trips. Fewer is quicker on uneven links, and mistaken more often.",
    D.peers.silenceDeviations,
  ),
  tls: key(
    z.strictObject({
      caFile: required(absolutePath, "Certificates (PEM) of the authority that the peers' certificates come from."),
      certFile: required(absolutePath, "This peer's certificate (PEM)."),
      keyFile: required(absolutePath, "The private key to it (PEM), readable by its owner only."),
    }),
    "Encrypt the streams; the same on all peers. Without it they are authenticated and sealed, but can be read.",
    "plain TCP",
  ),
});

const tags = z.strictObject({
  nofailover: key(
    flag,
    "This peer does not take over by itself, and becomes sync only where nobody else can; `manatee-adm promote` goes before it.",
    D.tags.nofailover,
  ),
  nosync: key(flag, "This peer becomes sync only where nobody else can (S1, T1).", D.tags.nosync),
  priority: key(
    whole(-1000, 1000, "a number"),
    "Of peers that are alike otherwise the one with the higher number is chosen: to found the shard, as sync, as heir of a takeover.",
    D.tags.priority,
  ),
  zone: key(
    text.regex(/^[A-Za-z0-9_.-]{1,64}$/, { error: "must be a name of letters, digits, _ . and - (64 at most)" }),
    "Where this peer stands (a room, a data centre): a sync in another zone than the primary's is preferred.",
    "none",
  ),
});

const registrar = z.strictObject({
  enabled: key(flag, "While primary, keep the node by which DNS servers find it.", true),
});

export const sitterSchema = z.strictObject({
  ip: required(
    ipv4,
    "This peer's IPv4 address: where its replication comes from, and part of its id `ip:postgresPort:backupPort`.",
  ),
  zoneId: required(
    text.regex(/^[A-Za-z0-9_.-]{1,64}$/, { error: "must be a name of letters, digits, _ . and - (64 at most)" }),
    "This peer's name, unique in the shard, also in its first eight characters.",
  ),
  shardPath: key(
    text.regex(/^(\/[^/\s]+)+$/, { error: "must be a path such as /manatee/NAME" }),
    "The shard's place in the store: `/manatee/NAME`. All peers of a shard have the same.",
    "`/manatee/$SHARD`",
  ),
  postgresPort: key(postgresPort, "PostgreSQL's port.", `the port in \`postgres.url\`, else ${D.postgresPort}`),
  backupPort: key(port, "The backup server's port; part of the peer's id.", D.backupPort),
  statusHost: key(text, "The status service's address; `0.0.0.0` is all. Its port is `postgresPort` + 1.", "`ip`"),
  ttl: key(seconds, "Seconds that service discovery may keep the primary's address.", D.ttlSeconds),
  registrar: key(registrar, "Service discovery."),
  zkCfg: key(zkCfg, "ZooKeeper."),
  store: key(store, "The store, in our words; beside it no `zkCfg`.", "`zkCfg`"),
  postgres: key(
    postgres,
    "PostgreSQL. The original's name for this section is `postgresMgrCfg`; both are accepted, one of them must be there.",
  ),
  postgresMgrCfg: key(postgres, "The same section under the original's name."),
  storage: key(
    storageSection,
    "Storage that snapshots, under the data directory: a peer whose WAL has forked rolls back instead of being copied. Without it, forks are kept as copies in a plain folder.",
    "a plain folder",
  ),
  policy: key(policy, "What the sitter may do by itself; the same on all peers of a shard."),
  tags: key(tags, "What sets this peer apart when one of several is chosen; each peer has its own."),
  peers: key(peers, "The streams between the sitters, on the status service's port."),
  healthCheckIntervalMs: key(
    ms(100, 60_000),
    "As `postgres.healthChkInterval`, in our words.",
    D.healthCheckIntervalMs,
  ),
  peerProbeLimitMs: key(ms(100, 60_000), "Bound of one question to a neighbour.", D.peerProbeLimitMs),
  historyKept: key(whole(10, 100_000, "a number"), "Entries of the shard's history kept in the store.", D.historyKept),
  stateDir: key(
    absolutePath,
    "Folder (0700) of the sitter's own files: the session's ticket, the lock, passwords, requests.",
    "`DATADIR.manatee`",
  ),
  logLevel: key(
    z.enum(["trace", "debug", "info", "warn", "error"], { error: "must be trace, debug, info, warn or error" }),
    "Least level logged; `LOG_LEVEL` and `-v` come first.",
    "info",
  ),
});

export type SitterFile = z.output<typeof sitterSchema>;
export type PostgresSection = NonNullable<SitterFile["postgres"]>;

/** The section with the name under which it stands in the file. */
export interface NamedSection {
  readonly key: "postgres" | "postgresMgrCfg";
  readonly value: PostgresSection;
}

export interface DocumentedKey extends KeyNote {
  /** `postgres.dataDir` */
  readonly path: string;
  readonly required: boolean;
}

/** Every key of a schema, in the order of the schema; a section before its keys. */
export function keysOf(schema: z.ZodType, under = ""): DocumentedKey[] {
  const inner = unwrap(schema);
  if (inner instanceof z.ZodDiscriminatedUnion) {
    const seen = new Set<string>();
    return inner.options
      .flatMap((option) => keysOf(option as z.ZodType, under))
      .filter(({ path }) => !seen.has(path) && seen.add(path));
  }
  if (!(inner instanceof z.ZodObject)) return [];
  return Object.entries(inner.shape as Readonly<Record<string, z.ZodType>>).flatMap(([name, type]) => {
    const path = under === "" ? name : `${under}.${name}`;
    const note = type.meta() as KeyNote | undefined;
    return [
      { ...note, description: note?.description ?? "", path, required: !(type instanceof z.ZodOptional) },
      ...keysOf(type, path),
    ];
  });
}

function unwrap(schema: z.ZodType): z.ZodType {
  return schema instanceof z.ZodOptional ? unwrap(schema.unwrap() as z.ZodType) : schema;
}

/** The names that may stand at each path: for suggestions. */
export function namesByPath(keys: readonly DocumentedKey[]): ReadonlyMap<string, readonly string[]> {
  const names = new Map<string, string[]>();
  for (const { path } of keys) {
    const cut = path.lastIndexOf(".");
    const [under, name] = cut < 0 ? ["", path] : [path.slice(0, cut), path.slice(cut + 1)];
    names.set(under, [...(names.get(under) ?? []), name]);
  }
  return names;
}
