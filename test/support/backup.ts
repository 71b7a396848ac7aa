// A backup server over real HTTP on loopback, and a client of it.

import { type BackupClient, backupClient, type BackupClientOptions } from "../../src/backup/client.ts";
import { backupService, type BackupServiceOptions } from "../../src/backup/service.ts";
import { Transfers } from "../../src/backup/transfers.ts";
import { type BackupListening, listenBackup } from "../../src/main/listen-backup.ts";
import { peerCheck, type PeerCredential, peerCredential } from "../../src/peers/credential.ts";
import type { Snapshot, Storage } from "../../src/storage/port.ts";
import type { Clock, Log } from "../../src/world/port.ts";
import { realClock, realRandom, realTimers } from "../../src/world/real/clock.ts";
import { realCrypto } from "../../src/world/real/crypto.ts";
import { realTransport } from "../../src/world/real/transport.ts";

export const DATASET = "tank/pg";
export const HOLD_PREFIX = "manatee-backup-1-";
export const PASSWORD = "0123456789abcdef";

export const quietLog: Log = {
  trace() {},
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => quietLog,
};

/** `clock`: what the credential is dated by. */
type RealClientOptions = Partial<BackupClientOptions> & { port: number; password?: string; clock?: Clock };

/** Of the backup server on that port of loopback. */
export function realBackupClient({ password = PASSWORD, clock = realClock, ...more }: RealClientOptions): BackupClient {
  return backupClient({
    host: "127.0.0.1",
    credential: realCredential(password, clock),
    transport: realTransport,
    crypto: realCrypto,
    clock: realClock,
    timers: realTimers,
    ...more,
  });
}

export function realCredential(password = PASSWORD, clock: Clock = realClock): PeerCredential {
  return peerCredential({ secret: () => Promise.resolve(password), crypto: realCrypto, clock, random: realRandom });
}

export interface BackupFixture {
  readonly port: number;
  readonly transfers: Transfers;
  client(options?: Partial<RealClientOptions>): BackupClient;
  close(): Promise<void>;
}

export interface FixtureOptions extends Partial<BackupServiceOptions> {
  readonly storage: Storage;
  readonly sendingMax?: number;
  readonly waitingMax?: number;
  readonly bytesPerSecondMax?: number;
  readonly tls?: { certFile: string; keyFile: string } | undefined;
}

export async function startBackupServer(options: FixtureOptions): Promise<BackupFixture> {
  const { storage, sendingMax = 4, waitingMax = 64, bytesPerSecondMax } = options;
  const transfers = new Transfers({
    storage,
    dataset: DATASET,
    holdPrefix: HOLD_PREFIX,
    bounds: { sendingMax, waitingMax },
    bytesPerSecondMax,
    clock: realClock,
    timers: realTimers,
    random: realRandom,
    log: options.log ?? quietLog,
  });
  const app = backupService({
    dataset: DATASET,
    transfers,
    check: peerCheck({ secret: () => Promise.resolve(PASSWORD), crypto: realCrypto, clock: realClock }),
    takeNow: () =>
      storage.snapshot({ dataset: DATASET, name: String(realClock.wall()), properties: { "manatee:why": "asked" } }),
    newestOf: (snapshots: readonly Snapshot[]) => snapshots.at(-1),
    peers: () => Promise.resolve(new Set(["127.0.0.1"])),
    openToAll: false,
    stallLimitMs: 30_000,
    transport: realTransport,
    crypto: realCrypto,
    timers: realTimers,
    log: quietLog,
    ...options,
  });
  const listening: BackupListening = await listenBackup(app, { host: "127.0.0.1", port: 0, tls: options.tls });
  return {
    port: listening.port,
    transfers,
    client: (options) => realBackupClient({ port: listening.port, ...options }),
    close: async () => {
      await transfers.stop();
      await listening.close();
    },
  };
}
