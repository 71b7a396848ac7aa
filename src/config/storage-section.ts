// The section `storage`, the same in the files of all three processes.

import * as z from "zod";
import { isDatasetName } from "../base/dataset-name.ts";
import type { StorageConfig } from "./types.ts";
import { absolutePath, text } from "./values.ts";

const datasetName = text.refine(isDatasetName, {
  error: "must be a name such as tank/manatee/pg: letters, digits and _ . : - in each part, 200 characters at most",
});

export const sudoPrefix = z
  .array(text, { error: 'must be a list of texts, such as ["sudo", "-n"]' })
  .min(1, { error: "must not be empty" })
  .optional()
  .meta({
    description:
      'What goes before a command that this user may not run itself, such as `["sudo", "-n"]`: mounting on Linux, everything with zfs-fuse.',
    fallback: "nothing: such a command fails",
  });

const ROOT = "the folder below which datasets lie. The dataset `shard/pg` is the folder `ROOT/shard/pg`.";
const onZfs = "the data lies on ZFS";

/** Where the storage of a process beside the sitter lies, if not on ZFS. */
export const serviceRoots = {
  btrfsRoot: absolutePath.optional().meta({ description: `Of Btrfs: ${ROOT}`, fallback: onZfs }),
  directoryRoot: absolutePath
    .optional()
    .meta({ description: `Of plain folders, on any file system: ${ROOT}`, fallback: onZfs }),
};

interface ServiceRoots {
  readonly btrfsRoot?: string | undefined;
  readonly directoryRoot?: string | undefined;
}

export const oneRootAtMost: readonly [(roots: ServiceRoots) => boolean, { path: string[]; error: string }] = [
  ({ btrfsRoot, directoryRoot }) => btrfsRoot === undefined || directoryRoot === undefined,
  { path: ["directoryRoot"], error: "and btrfsRoot exclude each other: the data lies on one storage" },
];

const section = z.strictObject({
  kind: z.enum(["zfs", "btrfs", "directory"], { error: 'must be "zfs", "btrfs" or "directory"' }).meta({
    description:
      "`zfs`, `btrfs` or `directory` (plain folders, on any file system): the data directory lies on a dataset of it.",
  }),
  root: absolutePath.optional().meta({ description: `Of Btrfs and plain folders: ${ROOT}`, fallback: onZfs }),
  dataset: datasetName.meta({
    description: "The dataset. It has a parent, in which forks stand beside it, and its folder is the data directory.",
  }),
  program: absolutePath.optional().meta({ description: "The `zfs` or `btrfs` program.", fallback: "found by PATH" }),
  sudo: sudoPrefix,
  backupCaFile: absolutePath.optional().meta({
    description:
      "Certificates (PEM) of the authorities that the peers' backup servers' certificates come from: peers are asked by TLS.",
    fallback: "plain TCP",
  }),
});

export const storageSection = section
  .refine(({ kind, root }) => (kind === "zfs") === (root === undefined), {
    path: ["root"],
    error: 'belongs to the kinds "btrfs" and "directory", and only to them: the folder below which datasets lie',
  })
  .refine(({ kind, program }) => kind !== "directory" || program === undefined, {
    path: ["program"],
    error: 'belongs to the kinds "zfs" and "btrfs": plain folders need none',
  });

export function storageOf({ root = "", ...section }: z.output<typeof storageSection>): StorageConfig {
  const { kind, dataset, program, sudo, backupCaFile } = section;
  return { kind, root, dataset, program, sudo, backupCaFile };
}
