// manatee-backupserver: makes the storage's driver, and serves its snapshots until a signal.

import { type BackupServerConfig, readBackupServerConfig } from "../config/backup-server.ts";
import type { Storage } from "../storage/port.ts";
import { serviceStorage } from "./storage-of.ts";
import type { World } from "../world/port.ts";
import { checkBackupServer } from "./check-backupserver.ts";
import { runBackupServer } from "./run-backupserver.ts";
import { runService } from "./service-process.ts";

const HELP = `
Examples:
  sudo -u postgres manatee-backupserver -f /etc/manatee/backupserver.json
  sudo -u postgres manatee-backupserver -f /etc/manatee/backupserver.json --check

Environment:
  LOG_LEVEL  trace, debug, info, warn or error

Signals:
  SIGTERM, SIGINT  end the transfers, release the snapshots that they hold, and leave
  SIGKILL          is survived: what was held is released at the next start, and receivers go on or begin anew`;

export type StorageOf = (config: BackupServerConfig, world: World) => Storage;

/** Ends with the process's exit status. */
export function main(argv: readonly string[], storageOf: StorageOf = serviceStorage): Promise<number> {
  return runService(argv, {
    name: "manatee-backupserver",
    called: "backup server",
    description: "Sends snapshots of this peer's database to the other peers of the shard.",
    help: HELP,
    read: readBackupServerConfig,
    check: (config, world) => checkBackupServer(config, storageOf(config, world), world),
    async serve(config, world, signalled) {
      const server = await runBackupServer(config, storageOf(config, world), world);
      await signalled;
      await server.stop();
    },
  });
}
