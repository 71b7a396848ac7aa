// Storage on Btrfs: datasets are subvolumes below one folder, snapshots read-only ones beside them.

import { join } from "node:path";
import type { Bytes } from "../../base/units.ts";
import type { Timers } from "../../world/port.ts";
import { fileSystemAt } from "../common/files.ts";
import { FolderStorage } from "../common/folder-storage.ts";
import { Layout } from "../common/layout.ts";
import type { Medium } from "../common/medium.ts";
import { readFrom, writeTo } from "../common/program.ts";
import { storageError } from "../errors.ts";
import type { Storage } from "../port.ts";
import { BtrfsCommand, type Rewording } from "./command.ts";
import { subvolumeRemoval } from "./removal.ts";
import { watchStream } from "./stream.ts";
import { factsOf, isSubvolume, showSubvolume } from "./subvolume.ts";

export interface BtrfsOptions {
  /** The folder below which datasets lie; on a mounted Btrfs. */
  readonly root: string;
  /** `btrfs`, or where it lies. */
  readonly program?: string | undefined;
  /** What goes before a command that this user may not run: `["sudo", "-n"]`. */
  readonly sudo?: readonly string[] | undefined;
  readonly timers: Timers;
}

/** Whatever else the program says of a stream that broke in the middle, it is the stream: what it goes into was made a moment ago. */
const STREAM: Rewording = {
  STORAGE_NO_DATASET: "STORAGE_BAD_STREAM",
  STORAGE_EXISTS: "STORAGE_BAD_STREAM",
  STORAGE_BAD_NAME: "STORAGE_BAD_STREAM",
  STORAGE_FAILED: "STORAGE_BAD_STREAM",
};
const SNAPSHOT: Rewording = { STORAGE_NO_DATASET: "STORAGE_NO_SNAPSHOT" };

export function btrfsStorage({ root, program = "btrfs", sudo, timers }: BtrfsOptions): Storage {
  const layout = new Layout(root);
  const btrfs = new BtrfsCommand({ program, sudo, timers });
  const medium: Medium = {
    description: `Btrfs (${root})`,
    capabilities: () =>
      Promise.resolve({ atomic: true, shared: true, incremental: true, resume: false, format: "btrfs" }),
    space: () => spaceAt(root),
    isContent: isSubvolume,
    removal: subvolumeRemoval({ btrfs, place: layout.work, timers }),

    async make(path) {
      await btrfs.run(["subvolume", "create", path]);
    },

    async copy(source, target) {
      await btrfs.run(["subvolume", "snapshot", source, target], SNAPSHOT);
    },

    /** Taking one flushes and commits. Other subvolumes don't come along, and generations are the file system's. */
    async take(source, target) {
      // Not where it was a moment ago: somebody mounts or unmounts it.
      await btrfs.run(["subvolume", "snapshot", "-r", source, target], { STORAGE_NO_DATASET: "STORAGE_BUSY" });
      return factsOf(await showSubvolume(btrfs, target));
    },

    /** Reading changes a dataset too, where the file system keeps times of access. */
    async changedSince({ content, snapshot }) {
      await btrfs.run(["filesystem", "sync", content]);
      const [now, then] = [await showSubvolume(btrfs, content), await showSubvolume(btrfs, snapshot)];
      return now.changedGeneration > Math.max(now.createdGeneration, then.createdGeneration);
    },

    send({ source, from, signal }) {
      const args = ["send", "-q", ...(from === undefined ? [] : ["-p", from]), source];
      return readFrom(btrfs.stream(args), { signal, failed: (answer) => btrfs.refusal(args, answer, SNAPSHOT) });
    },

    async receive({ into, stream, onStart, signal }) {
      let taken: { name: string; guid: string } | undefined;
      const watched = watchStream(stream, async (start) => {
        await onStart(start);
        taken = start;
      });
      const args = ["receive", into];
      await writeTo(btrfs.stream(args), watched, {
        signal,
        failed: (answer) => btrfs.refusal(args, answer, STREAM),
      });
      if (!taken) throw storageError("STORAGE_BAD_STREAM", "nothing came");
      // The program has written it, the disk has it only now.
      await btrfs.run(["filesystem", "sync", into]);
      const found = await showSubvolume(btrfs, join(into, taken.name), STREAM);
      if (found.readonly && found.receivedUuid === taken.guid) return factsOf(found);
      throw storageError("STORAGE_BAD_STREAM", `what came is not the whole of the snapshot ${taken.guid}`);
    },
  };
  return new FolderStorage(medium, layout);
}

const BTRFS_MAGIC = 0x9123683e;

/** Of the whole file system: what one dataset takes of it can't be told without reading all its metadata. */
async function spaceAt(root: string): Promise<{ used: Bytes; free: Bytes }> {
  const { type, used, free } = await fileSystemAt(root);
  if (type === BTRFS_MAGIC) return { used, free };
  throw storageError("STORAGE_UNAVAILABLE", `${root} does not lie on Btrfs`);
}
