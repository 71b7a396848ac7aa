// Clones that an operator asked for: which there are, and how one goes, whoever ends it: a command, or the snapshotter when its time is over. What is known of one stands with its
// dataset; only a dataset that says of itself that it is a clone is ever touched.

import { realpath } from "node:fs/promises";
import { join } from "node:path";
import { ManateeError } from "../../base/errors.ts";
import type { Ms } from "../../base/units.ts";
import { cloneHold, cloneOfHold, decodeClone } from "../../snapshots/clones.ts";
import type { Dataset } from "../../storage/port.ts";
import type { Clock, Timers } from "../../world/port.ts";
import type { Clone } from "../clones.ts";
import { pause } from "../../world/waiting.ts";
import { cloneDataset, cloneDatasets, forkDatasets, type PostgresStorage } from "./dataset.ts";
import { errorCode, readIfThere } from "./durable.ts";
import { endServersOn } from "./leftovers.ts";
import { postgresProcessesOn, signalProcess } from "./processes.ts";

export interface KeptClonesOptions {
  readonly storage: Pick<PostgresStorage, "storage" | "dataset">;
  readonly clock: Clock;
  readonly timers: Timers;
}

/** In the clone's data directory: it goes with that. */
const WORK_FOLDER = ".clone";
/** An immediate stop leaves backends this long to end, before they are killed. */
const STOP_LIMIT_MS: Ms = 5_000;
const UNMOUNT_LIMIT_MS: Ms = 10_000;
const POLL_MS: Ms = 20;

export function cloneWorkFolder(folder: string): string {
  return join(folder, WORK_FOLDER);
}

export class KeptClones {
  readonly #options: KeptClonesOptions;

  constructor(options: KeptClonesOptions) {
    this.#options = options;
  }

  /** By port. */
  async list(): Promise<readonly Clone[]> {
    const { storage } = this.#options;
    const prefix = cloneDataset(storage.dataset, "");
    const found = await Promise.all(
      (await cloneDatasets(storage)).map(async (dataset): Promise<Clone | undefined> => {
        const facts = decodeClone(dataset.properties);
        if (!facts) return undefined;
        const { name, folder } = dataset;
        const state = (await serversOf(dataset)).length > 0 ? "running" : "stopped";
        const socketDir = cloneWorkFolder(folder);
        return { ...facts, name: name.slice(prefix.length), dataset: name, state, socketDir };
      }),
    );
    return found.filter((clone) => clone !== undefined).sort((a, b) => a.port - b.port);
  }

  /** Cut short, it is begun again by whoever comes next: the dataset, which says what it is, goes last. */
  async drop(name: string): Promise<void> {
    const { storage } = this.#options.storage;
    const all = await this.list();
    const clone = all.find((one) => one.name === name);
    if (!clone) throw cloneUnknown(name, all);
    const dataset = await storage.look(clone.dataset);
    if (!dataset) return;
    await endServer(this.#options, dataset);
    if (dataset.origin) await this.#release(dataset.origin, name);
    await unmountWhenLeft(this.#options, dataset.name);
    await storage.destroyDataset(dataset.name);
  }

  /** Ends those whose time is over. `nextWallMs`: when the next one's is. Of several that can't be ended, the first is told when the others were tried. */
  async endOver(): Promise<{ readonly ended: readonly string[]; readonly nextWallMs: Ms | undefined }> {
    const { clock } = this.#options;
    await this.#releaseOrphans();
    const ended: string[] = [];
    const errors: unknown[] = [];
    let nextWallMs: Ms | undefined;
    for (const { name, untilWallMs } of await this.list())
      if (untilWallMs > clock.wall()) nextWallMs = Math.min(nextWallMs ?? untilWallMs, untilWallMs);
      else
        await this.drop(name).then(
          () => ended.push(name),
          (error: unknown) => errors.push(error),
        );
    if (errors.length > 0) throw errors[0];
    return { ended, nextWallMs };
  }

  /** Of clones that somebody has destroyed by hand. A hold that is there has its clone, or had it a moment ago: so it is looked at first. */
  async #releaseOrphans(): Promise<void> {
    const { storage, dataset } = this.#options.storage;
    if (!(await storage.look(dataset))) return;
    for (const { name: holder } of [{ name: dataset }, ...(await forkDatasets(this.#options.storage))])
      for (const snapshot of await storage.snapshots(holder))
        for (const tag of snapshot.holds) {
          const name = cloneOfHold(tag);
          if (name !== undefined && !(await storage.look(cloneDataset(dataset, name))))
            await this.#release(snapshot, name);
        }
  }

  async #release(snapshot: { readonly dataset: string; readonly name: string }, name: string): Promise<void> {
    await this.#options.storage.storage.release(snapshot, cloneHold(name)).catch((error: unknown) => {
      // Somebody has destroyed it by force.
      if (errorCode(error) !== "STORAGE_NO_SNAPSHOT") throw error;
    });
  }
}

/** At once, without a checkpoint of what goes anyway, but so that it gives its shared memory back. */
export async function endServer(
  { clock, timers }: Pick<KeptClonesOptions, "clock" | "timers">,
  dataset: Dataset,
): Promise<void> {
  const folder = await folderOf(dataset);
  if (folder === undefined) return;
  const pid = Number.parseInt((await readIfThere(join(folder, "postmaster.pid"))) ?? "", 10);
  const limit = clock.now() + STOP_LIMIT_MS;
  if ((await postgresProcessesOn(folder)).includes(pid)) signalProcess(pid, "SIGQUIT");
  else return endServersOn(folder);
  while ((await postgresProcessesOn(folder)).length > 0 && clock.now() < limit) await pause(timers, POLL_MS);
  await endServersOn(folder);
}

/** A process that is just ending is no server any more, but its working folder is there for a moment longer. */
export async function unmountWhenLeft({ clock, timers, storage }: KeptClonesOptions, dataset: string): Promise<void> {
  const limit = clock.now() + UNMOUNT_LIMIT_MS;
  for (;;)
    try {
      return await storage.storage.unmount(dataset);
    } catch (error) {
      // Somebody else ends it as well.
      if (errorCode(error) === "STORAGE_NO_DATASET") return;
      if (errorCode(error) !== "STORAGE_BUSY" || clock.now() > limit) throw error;
      await pause(timers, POLL_MS);
    }
}

async function serversOf(dataset: Dataset): Promise<readonly number[]> {
  const folder = await folderOf(dataset);
  return folder === undefined ? [] : postgresProcessesOn(folder);
}

/** undefined: it is not mounted, so that nothing runs on it. */
async function folderOf({ folder, mounted }: Dataset): Promise<string | undefined> {
  return mounted ? realpath(folder).catch(() => undefined) : undefined;
}

function cloneUnknown(name: string, all: readonly Clone[]): ManateeError {
  return new ManateeError({
    code: "CLONE_UNKNOWN",
    message: `there is no clone ${JSON.stringify(name)} on this host's peer`,
    remedy: "operator",
    hint: all.length === 0 ? "There is none." : `There is: ${all.map((one) => one.name).join(", ")}.`,
  });
}
