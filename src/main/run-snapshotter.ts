// Joins the parts of a snapshotter and runs it until it is told to stop.

import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import type { SnapshotterConfig } from "../config/snapshotter.ts";
import { KeptClones } from "../postgres/real/clones.ts";
import { endServersOn } from "../postgres/real/leftovers.ts";
import { verifyData } from "../postgres/real/verify-data.ts";
import { localSitter } from "../snapshotter/local-sitter.ts";
import { Snapshotter, type Verify } from "../snapshotter/snapshotter.ts";
import type { Storage } from "../storage/port.ts";
import type { World } from "../world/port.ts";
import { takeLock } from "../world/real/lock.ts";

export interface RunningSnapshotter {
  /** Takes one more, soon. */
  request(why: string): void;
  /** Ends a verification under way, and frees the lock. */
  stop(): Promise<void>;
}

/** @throws `SNAPSHOTTER_ALREADY_RUNNING`, `FILE_UNWRITABLE` */
export async function runSnapshotter(
  config: SnapshotterConfig,
  storage: Storage,
  world: World,
): Promise<RunningSnapshotter> {
  const { clock, timers, log, network } = world;
  const { dataset, verification } = config;
  const stateDir = stateDirOf(config);
  const lock = await takeLock(join(stateDir, "lock"), "snapshotter");
  const verify: Verify | undefined =
    verification &&
    ((folder, signal) =>
      verifyData({ folder, workFolder: join(stateDir, "verify"), config: verification, signal, clock, timers }));
  const snapshotter = new Snapshotter({
    config,
    storage,
    sitter: localSitter(network, config.sitter),
    verify,
    endLeftovers: endServersOn,
    endClones: () => new KeptClones({ storage: { storage, dataset }, clock, timers }).endOver(),
    clock,
    timers,
    log,
  });
  log.info("snapshotter starts", { dataset, storage: storage.description, intervalMs: config.intervalMs, stateDir });
  const ended = snapshotter.run();
  return {
    request: (why) => snapshotter.request(why),
    async stop() {
      await snapshotter.stop();
      await ended;
      lock.release();
    },
  };
}

export function stateDirOf({ stateDir, dataset }: SnapshotterConfig): string {
  return stateDir ?? join(tmpdir(), `manatee-snapshotter-${userInfo().uid}-${dataset.replaceAll("/", "-")}`);
}
