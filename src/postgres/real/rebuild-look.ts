// What a rebuild of this host's peer would find, really. Works beside the sitter, and without it.

import { readdir, stat, statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import { explainError } from "../../base/errors.ts";
import type { Bytes } from "../../base/units.ts";
import type { PeerAddress } from "../../cluster/state.ts";
import type { PostgresConfig } from "../../config/types.ts";
import type { Timers } from "../../world/port.ts";
import type { RebuildLook } from "../rebuild-look.ts";
import { type Known, known, type LocalFacts, type StoredFacts, unknown } from "../rebuild-plan.ts";
import { findBinaries } from "./binaries.ts";
import { sourceTarget } from "./copy.ts";
import { dataMajor } from "./data-directory.ts";
import type { PostgresStorage } from "./dataset.ts";
import { isMissing } from "./durable.ts";
import { readLastCopies } from "./last-copies.ts";
import { linksOutside } from "./links-outside.ts";
import { markIn } from "./mark.ts";
import { demandReplicationPassword } from "./passwords.ts";
import { type Places, placesOf } from "./places.ts";
import { withConnection } from "./sql.ts";
import { walSegmentBytes } from "./wal-files.ts";

export interface RebuildLookOptions {
  readonly config: PostgresConfig;
  readonly self: PeerAddress;
  readonly timers: Timers;
  readonly storage: Pick<PostgresStorage, "storage" | "dataset"> | undefined;
}

export function realRebuildLook(options: RebuildLookOptions): RebuildLook {
  const { config, self, timers } = options;
  const places = placesOf(config);
  return {
    local: () => lookHere(options, places),
    sourceBytes: (from) =>
      tried(async () => {
        const password = await demandReplicationPassword(config.replicationPasswordFile, from.id);
        return withConnection(
          sourceTarget({ config, self }, from, password),
          { limitMs: config.probeLimitMs, timers },
          async ({ query }) => {
            const rows = await query("SELECT sum(pg_database_size(oid))::text AS bytes FROM pg_database");
            return Number(rows[0]?.["bytes"]);
          },
        );
      }),
  };
}

async function lookHere({ config, storage }: RebuildLookOptions, places: Places): Promise<LocalFacts> {
  const { dataDir, forksDir } = places;
  const wal = join(dataDir, "pg_wal");
  return {
    dataDir,
    forksDir,
    mark: await tried(() => markIn(dataDir)),
    dataBytes: await tried(() => bytesBelow(dataDir)),
    wal: await tried(async () => ({ names: new Set(await readdir(wal)), segmentBytes: await walSegmentBytes(wal) })),
    hasRewind: await tried(async () => {
      const major = config.version === undefined ? await dataMajor(places) : Number.parseInt(config.version, 10);
      return (await findBinaries({ binDir: config.binDir, major })).rewind !== undefined;
    }),
    room: await tried(async () => {
      const { bavail, bsize } = await statfs(await nearestThere(forksDir));
      return { freeBytes: bavail * bsize, keptFreeBytes: config.freeBytesMin };
    }),
    storage: storage && (await tried(() => lookAtStorage(storage, dataDir))),
    lastCopies: await readLastCopies(places).catch(() => ({})),
  };
}

async function lookAtStorage(
  { storage, dataset }: Pick<PostgresStorage, "storage" | "dataset">,
  dataDir: string,
): Promise<StoredFacts> {
  const placed = await storage.look(dataset);
  const { format } = await storage.capabilities();
  const snapshots = placed === undefined ? [] : await storage.snapshots(dataset);
  const mountedAt = placed?.mounted ? placed.folder : undefined;
  return { dataset, mountedAt, format, outside: await outsideOf(dataDir), snapshots };
}

async function outsideOf(dataDir: string): Promise<string | undefined> {
  try {
    return await linksOutside(dataDir);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

async function tried<T>(ask: () => Promise<T>): Promise<Known<T>> {
  try {
    return known(await ask());
  } catch (error) {
    return unknown(explainError(error));
  }
}

/** As the file system has allocated it, links followed. What goes away meanwhile counts as nothing: the server may run. */
async function bytesBelow(folder: string): Promise<Bytes> {
  let bytes = 0;
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    try {
      const found = await stat(path);
      bytes += found.isDirectory() ? await bytesBelow(path) : found.blocks * 512;
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
  }
  return bytes;
}

/** The folder, or the one that it will be made in. */
async function nearestThere(folder: string): Promise<string> {
  try {
    await stat(folder);
    return folder;
  } catch (error) {
    if (!isMissing(error) || dirname(folder) === folder) throw error;
    return nearestThere(dirname(folder));
  }
}
