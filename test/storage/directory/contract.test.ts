// The driver for plain folders: on whatever the temporary folder lies on, as the user of this process; and on a real XFS, where copies share their blocks.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe } from "vitest";
import { directoryStorage } from "../../../src/storage/directory/driver.ts";
import { storageContract } from "../../contracts/storage.ts";
import { noXfs, openXfsDisk } from "../../support/xfs-disk.ts";

storageContract("plain folders in the temporary folder", async () => {
  const root = await mkdtemp(join(tmpdir(), "manatee-directory-"));
  const storage = directoryStorage({ root });
  await storage.create("tank");
  return { storage, root: "tank", bytes: undefined, close: () => rm(root, { recursive: true }) };
});

describe.skipIf(noXfs !== undefined)(noXfs ?? "a real XFS", () => {
  storageContract("plain folders on XFS", async () => {
    const disk = await openXfsDisk({ megabytes: 320 });
    const storage = directoryStorage({ root: disk.folder });
    await storage.create("tank");
    const { free } = await storage.space("tank");
    return { storage, root: "tank", bytes: free, close: () => disk.close() };
  });
});
