// The backup server's file: the original's keys, and ours beside them.

import * as z from "zod";
import { type FileResult, readWith } from "./process-file.ts";
import { oneRootAtMost, serviceRoots, sudoPrefix } from "./storage-section.ts";
import { absolutePath, bytes, flag, ms, port, text, whole } from "./values.ts";

const tls = z.strictObject({
  certFile: absolutePath.meta({
    description: "This server's certificate (PEM); it must name the address by which peers ask.",
  }),
  keyFile: absolutePath.meta({ description: "The private key to it (PEM), readable by its owner only." }),
});

const server = z
  .strictObject({
    port: port.meta({ description: "Port of the backup server: the sitter's `backupPort`." }),
    host: text.optional().meta({ description: "Address that it listens on.", fallback: "0.0.0.0 (all)" }),
    credentialFile: absolutePath.optional().meta({
      description:
        "File with the shard's replication password (the sitter's `postgres.replicationPasswordFile`): who asks must know it. Needed, unless `openToAll`.",
    }),
    sitterHost: text.optional().meta({
      description:
        "Where this machine's sitter tells its status (its `statusHost`): who is a peer, where the WAL ends.",
      fallback: "`host`, else 127.0.0.1",
    }),
    sitterPort: port.optional().meta({ description: "Its port: `postgresPort` + 1.", fallback: "5433" }),
    tls: tls.optional().meta({ description: "Listen by TLS.", fallback: "plain TCP" }),
    rateLimit: bytes.optional().meta({ description: "Bytes a second, all transfers together.", fallback: "none" }),
    transfersMax: whole(1, 100, "a number").optional().meta({ description: "Transfers at once.", fallback: "4" }),
    queueMax: whole(0, 10_000, "a number")
      .optional()
      .meta({ description: "Transfers that wait; who asks for one more is sent away.", fallback: "64" }),
    stallLimitMs: ms(1_000, 3_600_000)
      .optional()
      .meta({ description: "A receiver that takes nothing for so long is given up.", fallback: "60000" }),
    openToAll: flag.optional().meta({
      description:
        "As the original: whoever reaches the port has the newest snapshot sent to any address (`POST /backup/`), without a proof. For peers that still run Manatee 2.",
      fallback: "false",
    }),
  })
  .refine(({ openToAll, credentialFile }) => openToAll === true || credentialFile !== undefined, {
    path: ["credentialFile"],
    error:
      "is missing: without it nobody can be told from a stranger (or set openToAll to true, as the original behaved)",
  })
  .refine(({ rateLimit }) => rateLimit !== 0, {
    path: ["rateLimit"],
    error: "must be more than 0; leave it out for no limit",
  })
  .meta({ description: "Where it listens, and to whom." });

export const backupServerSchema = z.strictObject({
  backupSenderCfg: z
    .strictObject({
      dataset: text.meta({ description: "The dataset that holds PostgreSQL's data." }),
      zfsPath: absolutePath.optional().meta({ description: "The `zfs` program.", fallback: "found by PATH" }),
      ...serviceRoots,
      sudo: sudoPrefix,
    })
    .refine(...oneRootAtMost)
    .meta({ description: "What is sent." }),
  backupServerCfg: server,
});

export interface BackupServerConfig {
  readonly dataset: string;
  readonly zfsPath: string | undefined;
  /** Both undefined: on ZFS. */
  readonly btrfsRoot: string | undefined;
  readonly directoryRoot: string | undefined;
  /** What goes before a command that this user may not run. */
  readonly sudo: readonly string[] | undefined;
  readonly host: string;
  readonly port: number;
  readonly sitter: { readonly host: string; readonly port: number };
  readonly credentialFile: string | undefined;
  readonly tls: { readonly certFile: string; readonly keyFile: string } | undefined;
  readonly bytesPerSecondMax: number | undefined;
  readonly sendingMax: number;
  readonly waitingMax: number;
  readonly stallLimitMs: number;
  readonly openToAll: boolean;
}

export function readBackupServerConfig(given: { json: string; file: string }): FileResult<BackupServerConfig> {
  const read = readWith(backupServerSchema, given);
  if (read.kind === "invalid") return read;
  const { backupSenderCfg: sender, backupServerCfg: server } = read.config;
  const { host = "0.0.0.0" } = server;
  return {
    ...read,
    config: {
      ...sender,
      zfsPath: sender.zfsPath,
      btrfsRoot: sender.btrfsRoot,
      directoryRoot: sender.directoryRoot,
      sudo: sender.sudo,
      host,
      port: server.port,
      sitter: {
        host: server.sitterHost ?? (host === "0.0.0.0" || host === "::" ? "127.0.0.1" : host),
        port: server.sitterPort ?? 5433,
      },
      credentialFile: server.credentialFile,
      tls: server.tls,
      bytesPerSecondMax: server.rateLimit,
      sendingMax: server.transfersMax ?? 4,
      waitingMax: server.queueMax ?? 64,
      stallLimitMs: server.stallLimitMs ?? 60_000,
      openToAll: server.openToAll ?? false,
    },
  };
}
