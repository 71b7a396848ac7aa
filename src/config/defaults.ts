// Every default of the configuration in one place. docs/configuration.md gets its column from here (a test compares).

import { NO_TAGS } from "../cluster/tags.ts";

export const DEFAULTS = {
  postgresPort: 5432,
  backupPort: 12345,
  ttlSeconds: 60,
  zookeeperPort: 2181,
  /** Not less than a garbage collection or a short stall of the store takes; bounds failover where nothing but the session tells. */
  sessionTimeoutMs: 10_000,
  healthCheckIntervalMs: 1_000,
  peerProbeLimitMs: 1_000,
  historyKept: 1_000,
  peers: {
    heartbeatMs: 200,
    silenceMinMs: 800,
    silenceMaxMs: 3_000,
    silenceDeviations: 8,
  },
  postgres: {
    superuser: "postgres",
    replicationUser: "manatee_replication",
    walKeepBytes: 1024 ** 3,
    walSenderTimeoutMs: 10_000,
    probeLimitMs: 3_000,
    /** Crash recovery and the way to consistency are part of a start, and take as long as the WAL since the last checkpoint is long. */
    startLimitMs: 60_000,
    stopLimitMs: 10_000,
    freeBytesMin: 1024 ** 3,
  },
  tags: NO_TAGS,
  policy: {
    oneNodeWriteMode: false,
    takeoverAlone: false,
    rejoin: "automatic",
    adoptData: false,
    forksKeptMax: 2,
    suspectMs: 2_000,
    opsTimeoutMs: 10_000,
    isolationMs: 10_000,
    takeoversPerHourMax: 5,
    syncLagBytesMax: 16 * 1024 ** 2,
    bootstrapPeersMin: 2,
  },
} as const;
