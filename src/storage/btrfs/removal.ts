// Deletes subvolumes, and waits a moment until their space is free.

import { join } from "node:path";
import type { Timers } from "../../world/port.ts";
import { pause } from "../../world/waiting.ts";
import { isFolder, listFolder } from "../common/files.ts";
import type { Removal } from "../common/medium.ts";
import type { BtrfsCommand } from "./command.ts";
import { isSubvolume } from "./subvolume.ts";

/** Arguments of one command: paths are at most some hundred characters. */
const SUBVOLUMES_A_COMMAND = 100;

/** In all some 5 s: Btrfs frees in the background, gigabytes a second where little is shared. */
const FREED_PAUSES_MS = [10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000, 1000];

/** `place`: the hidden one, in which they are. */
export function subvolumeRemoval({
  btrfs,
  place,
  timers,
}: {
  btrfs: BtrfsCommand;
  place: string;
  timers: Timers;
}): Removal {
  const untilFreed = async () => {
    for (const pauseMs of FREED_PAUSES_MS) {
      if ((await btrfs.run(["subvolume", "list", "-d", place])).trim() === "") break;
      await pause(timers, pauseMs);
    }
    // What was freed can be used from the next commit on.
    await btrfs.run(["filesystem", "sync", place]);
  };
  return {
    contentsIn: subvolumesIn,
    // Whoever removes snapshots to make room looks at once whether it is enough.
    async remove(paths) {
      for (let i = 0; i < paths.length; i += SUBVOLUMES_A_COMMAND) {
        await btrfs.run(["subvolume", "delete", "-c", ...paths.slice(i, i + SUBVOLUMES_A_COMMAND)]);
        // Only a courtesy: the deletion is done. Listing is root's, and may be refused.
        await untilFreed().catch(() => undefined);
      }
    },
  };
}

/** Not those within subvolumes. */
async function subvolumesIn(folder: string): Promise<readonly string[]> {
  const found: string[] = [];
  for (const name of (await listFolder(folder)) ?? []) {
    const path = join(folder, name);
    if (await isSubvolume(path)) found.push(path);
    else if (await isFolder(path)) found.push(...(await subvolumesIn(path)));
  }
  return found;
}
