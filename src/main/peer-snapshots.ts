// How snapshots of other peers come into this one's storage: from their backup servers.

import { readFileSync } from "node:fs";
import type { PeerBackups } from "../admin/context.ts";
import { type BackupClient, backupClient } from "../backup/client.ts";
import { receiveSnapshot } from "../backup/receive.ts";
import type { PeerAddress } from "../cluster/state.ts";
import type { SitterConfig } from "../config/types.ts";
import { peerCredential } from "../peers/credential.ts";
import { secretIn } from "../peers/secret-file.ts";
import { canReceive } from "../postgres/copy-way.ts";
import type { PeerSnapshots } from "../postgres/real/dataset.ts";
import type { Storage } from "../storage/port.ts";
import type { World } from "../world/port.ts";
import { realTransport } from "../world/real/transport.ts";

export interface PeerSnapshotsOptions extends BackupServersOptions {
  readonly storage: Storage;
}

interface BackupServersOptions {
  readonly world: World;
  /** With the shard's replication password. */
  readonly secretFile: string;
  readonly caFile: string | undefined;
}

function clients({ world, secretFile, caFile }: BackupServersOptions): (peer: PeerAddress) => BackupClient {
  const { crypto, clock, random, timers, files } = world;
  const credential = peerCredential({ secret: secretIn(files, secretFile), crypto, clock, random });
  return ({ backupUrl }) => {
    const { hostname, port } = new URL(backupUrl);
    const tls = caFile === undefined ? undefined : { authority: readFileSync(caFile, "utf8") };
    return backupClient({
      host: hostname,
      port: Number(port),
      tls,
      credential,
      transport: realTransport,
      crypto,
      clock,
      timers,
    });
  };
}

/** For the tools. */
export function peerBackups({ postgres, storage }: SitterConfig, world: World): PeerBackups {
  const clientOf = clients({
    world,
    secretFile: postgres.replicationPasswordFile,
    caFile: storage?.backupCaFile,
  });
  const { signal } = new AbortController();
  return {
    list: (peer) => clientOf(peer).list({ signal }),
    takeNow: (peer) => clientOf(peer).takeNow({ signal }),
  };
}

/** For the sitter. */
export function peerSnapshots(options: PeerSnapshotsOptions): PeerSnapshots {
  const { storage, world } = options;
  const { timers, log } = world;
  const clientOf = clients(options);
  return {
    async takeNow(from, signal) {
      const client = clientOf(from);
      const { format } = await client.list({ signal });
      const ours = (await storage.capabilities()).format;
      if (!canReceive({ theirs: format, ours })) return undefined;
      return client.takeNow({ signal });
    },
    receive: ({ from, snapshot, dataset, signal, onProgress }) =>
      receiveSnapshot({
        client: clientOf(from),
        storage,
        dataset,
        snapshot,
        signal,
        onProgress,
        timers,
        log,
      }),
  };
}
