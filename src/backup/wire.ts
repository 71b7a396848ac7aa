// What the backup server's routes take and answer, as schemas: the server answers by them, the client believes nothing else, and the OpenAPI document is made of them.

import * as z from "zod";

const bytes = z.number().int().nonnegative();
const bytesOrUnknown = bytes.nullable();

const remedySchema = z.enum(["retry", "reobserve", "operator"]);

/** Every answer that is not a success. */
export const problemSchema = z.object({
  code: z.string(),
  message: z.string(),
  remedy: remedySchema,
  hint: z.string(),
});

export const snapshotSchema = z.object({
  name: z.string(),
  /** The same on every copy of it. */
  guid: z.string(),
  createdWallMs: z.number(),
  /** What is known of it, as it stands in its properties (`manatee:…`). */
  properties: z.record(z.string(), z.string()),
  holds: z.array(z.string()),
  /** null: the storage can't tell. */
  ownBytes: bytesOrUnknown,
  referencedBytes: bytesOrUnknown,
});

export const transferSchema = z.object({
  uuid: z.string(),
  /** `pull`: the receiver asked for the stream. `push`: as the original's, to an address. */
  kind: z.enum(["pull", "push"]),
  /** The receiver's address. */
  client: z.string(),
  snapshot: z.string(),
  /** null: a full stream. */
  from: z.string().nullable(),
  state: z.enum(["queued", "sending", "done", "failed"]),
  /** 0: it is sending. */
  position: z.number().int().nonnegative(),
  sentBytes: bytes,
  expectedBytes: bytesOrUnknown,
  elapsedMs: z.number(),
  /** null: not known. */
  leftMs: z.number().nullable(),
  error: z.string().nullable(),
});

export const listSchema = z.object({
  dataset: z.string(),
  /** Of the storage: a stream is received by a storage of the same format only. */
  format: z.enum(["zfs", "btrfs", "tar"]),
  incremental: z.boolean(),
  resume: z.boolean(),
  /** Whether POST /snapshots can be answered. */
  atomic: z.boolean(),
  /** Of the dataset with its snapshots, and what is free where it lies. */
  space: z.object({ usedBytes: bytes, freeBytes: bytes }),
  /** Oldest first. */
  snapshots: z.array(snapshotSchema),
  queue: z.object({ length: bytes, max: bytes, sending: bytes, sendingMax: bytes }),
  /** Those under way and waiting, then the last ones that ended. */
  transfers: z.array(transferSchema),
});

/** The first frame of a stream. */
export const beginSchema = z.object({
  transfer: z.string(),
  snapshot: z.string(),
  guid: z.string(),
  from: z.string().nullable(),
  fromGuid: z.string().nullable(),
  format: z.enum(["zfs", "btrfs", "tar"]),
  expectedBytes: bytesOrUnknown,
  resumed: z.boolean(),
});

/** A frame while there is nothing to send. Position 0: its turn has come, and the storage is slow. */
export const waitSchema = z.object({ position: z.number().int().nonnegative() });

/** The last frame. */
export const endSchema = z.object({ sentBytes: bytes });

/** The original's. */
export const jobRequestSchema = z.object({
  host: z.string().min(1).max(255),
  port: z.coerce.number().int().min(1).max(65_535),
  dataset: z.string().min(1).max(255),
});
export const jobCreatedSchema = z.object({ jobid: z.string(), jobPath: z.string() });
export const jobSchema = z.object({
  uuid: z.string(),
  host: z.string(),
  port: z.number(),
  dataset: z.string(),
  /** `false`: queued; `0`: sending. */
  done: z.union([z.boolean(), z.literal(0), z.literal("failed")]),
  /** Bytes expected, as decimal digits; absent: not known. */
  size: z.string().optional(),
  completed: z.string(),
  snapshot: z.string(),
  guid: z.string(),
  error: z.string().nullable(),
});

/** In the header `upgrade`: by which a receiver asks to leave HTTP behind the head of the answer. */
export const STREAM_PROTOCOL = "manatee-stream";

export const PATHS = {
  snapshots: "/snapshots",
  stream: (name: string) => `/snapshots/${encodeURIComponent(name)}/stream`,
  job: (uuid: string) => `/backup/${uuid}`,
} as const;

export type SnapshotList = z.output<typeof listSchema>;
export type SnapshotEntry = z.output<typeof snapshotSchema>;
export type TransferView = z.output<typeof transferSchema>;
export type JobView = z.output<typeof jobSchema>;
export type Problem = z.output<typeof problemSchema>;
