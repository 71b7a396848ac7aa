// The files of the snapshotter and of the backup server, as the original has them.

import * as z from "zod";
import { readConfigJson } from "./json.ts";
import { type ConfigProblem, problemsOf } from "./problems.ts";
import { keysOf, namesByPath } from "./schema.ts";
import { absolutePath, ms, port, text, whole } from "./values.ts";

const dataset = text.meta({ description: "The dataset that holds PostgreSQL's data." });

export const snapshotterSchema = z.strictObject({
  dataset,
  pollInterval: ms(1_000, 604_800_000)
    .default(3_600_000)
    .meta({ description: "Milliseconds between snapshots.", fallback: "3600000" }),
  snapshotNumber: whole(1, 10_000, "a number").default(50).meta({ description: "Snapshots kept.", fallback: "50" }),
});

export const backupServerSchema = z.strictObject({
  backupSenderCfg: z
    .strictObject({
      dataset,
      zfsPath: absolutePath.optional().meta({ description: "The `zfs` program.", fallback: "found by PATH" }),
    })
    .meta({ description: "What is sent." }),
  backupServerCfg: z
    .strictObject({ port: port.meta({ description: "Port of the backup server." }) })
    .meta({ description: "Where it listens." }),
});

export type SnapshotterConfig = z.output<typeof snapshotterSchema>;
export type BackupServerConfig = z.output<typeof backupServerSchema>;

export type FileResult<T> =
  | { readonly kind: "valid"; readonly file: string; readonly config: T }
  | { readonly kind: "invalid"; readonly file: string; readonly problems: readonly ConfigProblem[] };

export function readSnapshotterConfig(given: { json: string; file: string }): FileResult<SnapshotterConfig> {
  return readWith(snapshotterSchema, given);
}

export function readBackupServerConfig(given: { json: string; file: string }): FileResult<BackupServerConfig> {
  return readWith(backupServerSchema, given);
}

function readWith<T extends z.ZodObject>(
  schema: T,
  { json, file }: { json: string; file: string },
): FileResult<z.output<T>> {
  const read = readConfigJson(json);
  if (read.kind === "invalid") return { kind: "invalid", file, problems: read.problems };
  const parsed = schema.safeParse(read.value, { reportInput: true });
  if (parsed.success) return { kind: "valid", file, config: parsed.data };
  return { kind: "invalid", file, problems: problemsOf(parsed.error.issues, namesByPath(keysOf(schema))) };
}
