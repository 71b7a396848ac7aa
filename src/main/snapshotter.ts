// manatee-snapshotter: makes the storage's driver, and takes, verifies and removes snapshots until a signal.

import { readSnapshotterConfig, type SnapshotterConfig } from "../config/snapshotter.ts";
import type { Storage } from "../storage/port.ts";
import { serviceStorage } from "./storage-of.ts";
import type { World } from "../world/port.ts";
import { checkSnapshotter } from "./check-snapshotter.ts";
import { runSnapshotter } from "./run-snapshotter.ts";
import { runService } from "./service-process.ts";

const HELP = `
Examples:
  sudo -u postgres manatee-snapshotter -f /etc/manatee/snapshotter.json
  sudo -u postgres manatee-snapshotter -f /etc/manatee/snapshotter.json --check
  kill -USR1 PID

Environment:
  LOG_LEVEL  trace, debug, info, warn or error

Signals:
  SIGTERM, SIGINT  end a verification under way, and leave
  SIGUSR1          take a snapshot now
  SIGKILL          is survived: what a verification left goes at the next start`;

export type StorageOf = (config: SnapshotterConfig, world: World) => Storage;

/** Ends with the process's exit status. */
export function main(argv: readonly string[], storageOf: StorageOf = serviceStorage): Promise<number> {
  return runService(argv, {
    name: "manatee-snapshotter",
    called: "snapshotter",
    description:
      "Takes snapshots of this peer's database, keeps a bounded number, and shows that they can be restored.",
    help: HELP,
    read: readSnapshotterConfig,
    check: (config, world) => checkSnapshotter(config, storageOf(config, world), world),
    async serve(config, world, signalled) {
      const running = await runSnapshotter(config, storageOf(config, world), world);
      process.on("SIGUSR1", () => running.request("on demand"));
      await signalled;
      await running.stop();
    },
  });
}
