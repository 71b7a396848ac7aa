// Joins the parts of a backup server and runs it until it is told to stop.

import { localSitter } from "../snapshotter/local-sitter.ts";
import { backupService } from "../backup/service.ts";
import { snapshotTaker } from "../snapshotter/take.ts";
import { newestToSend } from "../snapshots/choice.ts";
import { Transfers } from "../backup/transfers.ts";
import { explainError } from "../base/errors.ts";
import type { BackupServerConfig } from "../config/backup-server.ts";
import { peerCheck } from "../peers/credential.ts";
import { secretIn } from "../peers/secret-file.ts";
import type { Storage } from "../storage/port.ts";
import type { World } from "../world/port.ts";
import { pause } from "../world/waiting.ts";
import { realTransport } from "../world/real/transport.ts";
import { listenBackup } from "./listen-backup.ts";

/** A pool that is not there yet after the machine's start is asked again. */
const RELEASE_AGAIN_MS = 10_000;

export interface RunningBackupServer {
  readonly port: number;
  /** Ends the transfers, releases what they hold, and frees the port. */
  stop(): Promise<void>;
}

/** @throws `BACKUP_PORT_UNUSABLE`, `BACKUP_TLS_FILES` */
export async function runBackupServer(
  config: BackupServerConfig,
  storage: Storage,
  world: World,
): Promise<RunningBackupServer> {
  const { clock, timers, random, log, network, files, crypto } = world;
  const { dataset } = config;
  const sitter = localSitter(network, config.sitter);
  const transfers = new Transfers({
    storage,
    dataset,
    // Of the port: who has the port is the only one that runs, and what bears its tag at the start is left from a former run.
    holdPrefix: `manatee-backup-${config.port}-`,
    bounds: config,
    bytesPerSecondMax: config.bytesPerSecondMax,
    clock,
    timers,
    random,
    log,
  });
  let stopped = false;
  const app = backupService({
    storage,
    dataset,
    transfers,
    check: peerCheck({ secret: secretIn(files, config.credentialFile), crypto, clock }),
    takeNow: snapshotTaker({ storage, dataset, sitter, clock, timers, log }),
    newestOf: newestToSend,
    peers: () => sitter.peerAddresses(),
    openToAll: config.openToAll,
    stallLimitMs: config.stallLimitMs,
    transport: realTransport,
    crypto,
    timers,
    log,
  });
  const listening = await listenBackup(app, config);
  const release = async (): Promise<void> => {
    while (!stopped) {
      try {
        return await transfers.releaseStale();
      } catch (error) {
        log.warn("cannot see yet what a former run holds", { dataset, error: explainError(error) });
        await pause(timers, RELEASE_AGAIN_MS);
      }
    }
  };
  void release();
  log.info("backup server listens", { host: config.host, port: listening.port, dataset, storage: storage.description });
  return {
    port: listening.port,
    async stop() {
      stopped = true;
      await transfers.stop();
      await listening.close();
    },
  };
}
