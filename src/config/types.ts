// Configuration as the processes use it: validated, every default filled in, every number with its unit. schema.ts says how it is written in JSON.

import type { Bytes, Ms } from "../base/units.ts";
import type { Policy } from "../cluster/observation.ts";
import type { PeerAddress } from "../cluster/state.ts";
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
  readonly certFile: string;
  readonly keyFile: string;
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

export interface SitterConfig {
  /** The shard's name, and its path in the store. */
  readonly shard: string;
  readonly shardPath: string;
  readonly self: PeerAddress;
  readonly store: StoreConfig;
  readonly postgres: PostgresConfig;
  readonly policy: Policy;
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
