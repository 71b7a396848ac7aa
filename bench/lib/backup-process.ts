// The backup server of the bench, in a process of its own as in life.

import { backupService } from "../../src/backup/service.ts";
import { Transfers } from "../../src/backup/transfers.ts";
import { listenBackup } from "../../src/main/listen-backup.ts";
import { peerCheck } from "../../src/peers/credential.ts";
import { realClock, realRandom, realTimers } from "../../src/world/real/clock.ts";
import { realCrypto } from "../../src/world/real/crypto.ts";
import { realLog } from "../../src/world/real/log.ts";
import { realTransport } from "../../src/world/real/transport.ts";
import { type Commands, pipeStorage } from "./pipe-storage.ts";

export const PASSWORD = "bench";

/** Tells its port to the parent. */
export async function serveBench(commands: Commands): Promise<void> {
  const storage = pipeStorage(commands);
  const log = realLog({ name: "bench", level: "warn", descriptor: 2 });
  const transfers = new Transfers({
    storage,
    dataset: "bench",
    holdPrefix: "bench-",
    bounds: { sendingMax: 1, waitingMax: 1 },
    bytesPerSecondMax: undefined,
    clock: realClock,
    timers: realTimers,
    random: realRandom,
    log,
  });
  const app = backupService({
    storage,
    dataset: "bench",
    transfers,
    check: peerCheck({ secret: () => Promise.resolve(PASSWORD), crypto: realCrypto, clock: realClock }),
    takeNow: () => Promise.reject(new Error("not here")),
    newestOf: (snapshots) => snapshots.at(-1),
    peers: () => Promise.resolve(new Set()),
    openToAll: false,
    stallLimitMs: 60_000,
    transport: realTransport,
    crypto: realCrypto,
    timers: realTimers,
    log,
  });
  const { port } = await listenBackup(app, { host: "127.0.0.1", port: 0, tls: undefined });
  process.send?.(port);
}
