// The snapshotter's file: the original's three keys, and ours beside them.

import * as z from "zod";
import { isDatasetName } from "../base/dataset-name.ts";
import type { Ms } from "../base/units.ts";
import type { VerificationConfig } from "./types.ts";
import { type FileResult, readWith } from "./process-file.ts";
import { oneRootAtMost, serviceRoots, sudoPrefix } from "./storage-section.ts";
import { absolutePath, flag, ms, port, roleName, text, whole } from "./values.ts";

const DAY_MS = 86_400_000;

const retention = z
  .strictObject({
    hourly: whole(0, 10_000, "a number")
      .optional()
      .meta({ description: "Hours of which the newest snapshot is kept.", fallback: "24" }),
    daily: whole(0, 10_000, "a number")
      .optional()
      .meta({ description: "Days of which the newest snapshot is kept.", fallback: "7" }),
    weekly: whole(0, 10_000, "a number")
      .optional()
      .meta({ description: "Weeks of which the newest snapshot is kept.", fallback: "4" }),
  })
  .optional()
  .meta({ description: "Kept beyond the newest `snapshotNumber`.", fallback: "see below" });

const space = z
  .strictObject({
    thinBelowPercent: whole(0, 100, "a percentage").optional().meta({
      description: "Free space below which snapshots go before their time, the densest first.",
      fallback: "15",
    }),
    stopBelowPercent: whole(0, 100, "a percentage")
      .optional()
      .meta({ description: "Free space below which no more are taken.", fallback: "5" }),
  })
  .refine(({ thinBelowPercent = 15, stopBelowPercent = 5 }) => stopBelowPercent <= thinBelowPercent, {
    path: ["stopBelowPercent"],
    error: "must not be more than thinBelowPercent",
  })
  .optional()
  .meta({
    description: "What is done when space runs short: per cent of what the dataset uses and what is free.",
    fallback: "see below",
  });

const verification = z
  .strictObject({
    enabled: flag.optional().meta({ description: "Whether snapshots are verified.", fallback: "true" }),
    interval: ms(10_000, 30 * DAY_MS)
      .optional()
      .meta({
        description:
          "Milliseconds between two verifications: a clone of the newest snapshot is started, recovers, and is checked.",
        fallback: "86400000 (a day)",
      }),
    limit: ms(10_000, 7 * DAY_MS)
      .optional()
      .meta({ description: "Milliseconds that one may take.", fallback: "14400000 (4 hours)" }),
    binDir: absolutePath.optional().meta({
      description: "Folder with `postgres` and `pg_checksums`.",
      fallback: "searched for: PATH, the distribution's places",
    }),
    dbUser: roleName.optional().meta({ description: "The superuser.", fallback: "postgres" }),
    sql: z.array(text, { error: "must be a list of texts" }).optional().meta({
      description:
        "Statements, each run in the database `postgres` of the clone. One that fails, or whose first row has `false` first, fails the snapshot.",
      fallback: "none",
    }),
    amcheck: flag.optional().meta({
      description: "Check all B-tree indexes of all databases, where the extension amcheck is installed.",
      fallback: "true",
    }),
    options: z
      .array(text.regex(/^[a-z_.]+=/, { error: "must be NAME=VALUE" }), { error: "must be a list of texts" })
      .optional()
      .meta({
        description: 'Settings of the server that is started on the clone, such as `["shared_buffers=1GB"]`.',
        fallback: "none",
      }),
  })
  .optional()
  .meta({ description: "How snapshots are shown to be restorable.", fallback: "see below" });

const file = z.strictObject({
  dataset: text
    .refine(isDatasetName, {
      error: "must be a name such as tank/manatee/pg: letters, digits and _ . : - in each part, 200 characters at most",
    })
    .meta({ description: "The dataset that holds PostgreSQL's data." }),
  pollInterval: ms(1_000, 604_800_000)
    .optional()
    .meta({ description: "Milliseconds between snapshots.", fallback: "3600000 (an hour)" }),
  snapshotNumber: whole(1, 10_000, "a number")
    .optional()
    .meta({ description: "Newest snapshots kept.", fallback: "50" }),
  retention,
  space,
  verification,
  zfsPath: absolutePath.optional().meta({ description: "The `zfs` program.", fallback: "found by PATH" }),
  ...serviceRoots,
  sudo: sudoPrefix,
  stateDir: absolutePath.optional().meta({
    description: "Folder of this process's own: its lock, and what a verification needs. Its path is short.",
    fallback: "`/tmp/manatee-snapshotter-UID-DATASET`",
  }),
  sitterHost: text.optional().meta({
    description: "Where this machine's sitter tells its status (its `statusHost`): its role, where the WAL ends.",
    fallback: "127.0.0.1",
  }),
  sitterPort: port.optional().meta({ description: "Its port: `postgresPort` + 1.", fallback: "5433" }),
});

export const snapshotterSchema = file.refine(...oneRootAtMost);

export interface SnapshotterConfig {
  readonly dataset: string;
  readonly zfsPath: string | undefined;
  /** Both undefined: on ZFS. */
  readonly btrfsRoot: string | undefined;
  readonly directoryRoot: string | undefined;
  /** What goes before a command that this user may not run. */
  readonly sudo: readonly string[] | undefined;
  /** undefined: in the temporary folder. */
  readonly stateDir: string | undefined;
  readonly intervalMs: Ms;
  readonly retention: {
    readonly newest: number;
    readonly hourly: number;
    readonly daily: number;
    readonly weekly: number;
  };
  readonly thinBelowPercent: number;
  readonly stopBelowPercent: number;
  readonly sitter: { readonly host: string; readonly port: number };
  /** undefined: none. */
  readonly verification: VerificationConfig | undefined;
}

export function readSnapshotterConfig(given: { json: string; file: string }): FileResult<SnapshotterConfig> {
  const read = readWith(snapshotterSchema, given);
  if (read.kind === "invalid") return read;
  const {
    dataset,
    zfsPath,
    btrfsRoot,
    directoryRoot,
    sudo,
    retention = {},
    space = {},
    verification = {},
    ...rest
  } = read.config;
  const { hourly = 24, daily = 7, weekly = 4 } = retention;
  return {
    ...read,
    config: {
      dataset,
      zfsPath,
      btrfsRoot,
      directoryRoot,
      sudo,
      stateDir: rest.stateDir,
      intervalMs: rest.pollInterval ?? 3_600_000,
      retention: { newest: rest.snapshotNumber ?? 50, hourly, daily, weekly },
      thinBelowPercent: space.thinBelowPercent ?? 15,
      stopBelowPercent: space.stopBelowPercent ?? 5,
      sitter: { host: rest.sitterHost ?? "127.0.0.1", port: rest.sitterPort ?? 5433 },
      verification:
        verification.enabled === false
          ? undefined
          : {
              intervalMs: verification.interval ?? DAY_MS,
              limitMs: verification.limit ?? DAY_MS / 6,
              binDir: verification.binDir,
              superuser: verification.dbUser ?? "postgres",
              sql: verification.sql ?? [],
              amcheck: verification.amcheck ?? true,
              options: verification.options ?? [],
            },
    },
  };
}
