// Configuration as the processes use it: validated, every default filled in, every number with its unit. schema.ts says how it is written in JSON.

import type { Bytes, Ms } from "../base/units.ts";
import type { Policy } from "../cluster/observation.ts";
import type { PeerAddress } from "../cluster/state.ts";
import type { Tags } from "../cluster/tags.ts";
import type { LogLevel } from "../world/port.ts";

/** Which store, and how it is reached. `local`: the embedded store for one machine, not for production. */
export type StoreConfig =
  | {
      readonly kind: "zookeeper";
      /** `host:port,host:port/chroot` */
      readonly connectString: string;
      readonly sessionTimeoutMs: Ms;
      /** `user:password`: digest authentication, and the ACL of the nodes made (all rights to that user). undefined: open to all. */
      readonly digest: string | undefined;
      /** `user:password`: SASL DIGEST-MD5, for servers that demand it, and the ACL of the nodes made. */
      readonly saslDigest: string | undefined;
      readonly tls: TlsConfig | undefined;
    }
  | {
      readonly kind: "local";
      /** Folder of the embedded store: its socket and its file. */
      readonly directory: string;
      readonly sessionTimeoutMs: Ms;
    };

export interface TlsConfig {
  readonly caFile: string;
  /** Where the server demands a client's certificate; both or neither. */
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
}

/** Where the data directory lies: storage that snapshots. */
export interface StorageConfig {
  readonly kind: "zfs" | "btrfs" | "directory";
  /** Of Btrfs and plain folders: the folder below which datasets lie. Of ZFS: empty. */
  readonly root: string;
  /** Its folder is the data directory. */
  readonly dataset: string;
  /** undefined: `zfs` or `btrfs`, found by PATH. */
  readonly program: string | undefined;
  /** What goes before a command that this user may not run. */
  readonly sudo: readonly string[] | undefined;
  /** Of the authority behind the backup servers' certificates; undefined: plain TCP. */
  readonly backupCaFile: string | undefined;
}

/** How a snapshotter shows that its snapshots can be restored. */
export interface VerificationConfig {
  readonly intervalMs: Ms;
  readonly limitMs: Ms;
  readonly binDir: string | undefined;
  readonly superuser: string;
  readonly sql: readonly string[];
  readonly amcheck: boolean;
  /** `NAME=VALUE` */
  readonly options: readonly string[];
}

export interface PostgresConfig {
  readonly dataDir: string;
  readonly host: string;
  readonly port: number;
  /** Folder with `postgres` and `initdb`; undefined: searched for (PATH, Debian's and Red Hat's places, the embedded package). */
  readonly binDir: string | undefined;
  /** Wanted major version; undefined: of the data directory, else the newest found. */
  readonly version: string | undefined;
  /** Folder (0700) of the Unix socket by which the sitter connects as superuser; undefined: beside the data directory. */
  readonly socketDir: string | undefined;
  /** The superuser (`dbUser`). */
  readonly superuser: string;
  /** The role by which peers replicate, copy and rewind. */
  readonly replicationUser: string;
  /** Holds the replication password, mode 0600, the same content on every peer; made at bootstrap where it is missing. */
  readonly replicationPasswordFile: string;
  /** Holds the superuser's password; made at bootstrap where it is missing. */
  readonly superuserPasswordFile: string;
  /** The operator's own files, included; undefined: what initdb made. */
  readonly operatorConfigFile: string | undefined;
  readonly operatorHbaFile: string | undefined;
  /** Settings of the operator's, lower in rank than ours. */
  readonly parameters: Readonly<Record<string, string>>;
  /** WAL kept on every peer for those that fall behind. */
  readonly walKeepBytes: Bytes;
  readonly walSenderTimeoutMs: Ms;
  /** Of one look at the server (opening a connection and asking). */
  readonly probeLimitMs: Ms;
  readonly startLimitMs: Ms;
  readonly stopLimitMs: Ms;
  /** Folder in which forks are kept; undefined: beside the data directory. */
  readonly forksDir: string;
  /** Kept free at least when a fork is kept or a copy is made. */
  readonly freeBytesMin: Bytes;
}

/** The streams between sitters. */
export interface PeersConfig {
  readonly silence: {
    readonly beatMs: Ms;
    readonly minMs: Ms;
    readonly maxMs: Ms;
    readonly deviations: number;
  };
  /** undefined: plain TCP. */
  readonly tls: { readonly caFile: string; readonly certFile: string; readonly keyFile: string } | undefined;
}

export interface SitterConfig {
  /** The shard's name, and its path in the store. */
  readonly shard: string;
  readonly shardPath: string;
  readonly self: PeerAddress;
  readonly store: StoreConfig;
  readonly postgres: PostgresConfig;
  /** undefined: a plain folder. */
  readonly storage: StorageConfig | undefined;
  readonly policy: Policy;
  readonly tags: Tags;
  readonly peers: PeersConfig;
  /** Of the looks without an event (the original's `healthChkInterval`). */
  readonly healthCheckIntervalMs: Ms;
  /** Of one question to a neighbour. */
  readonly peerProbeLimitMs: Ms;
  /** Address of the status service; its port is the PostgreSQL port + 1, where neighbours and tools ask. */
  readonly statusHost: string;
  readonly statusPort: number;
  /** Writes the registrar node (service discovery) while primary; `ttlSeconds` goes into it. */
  readonly registrar: { readonly enabled: boolean; readonly ttlSeconds: number };
  /** Entries of the history kept in the store. */
  readonly historyKept: number;
  /** Folder for the session's ticket and the lock (one sitter a data directory); default: beside the data directory. */
  readonly stateDir: string;
  /** Least level logged: LOG_LEVEL, else the file's, else `info`. */
  readonly logLevel: LogLevel;
}
