// What a look, and every long action, has to know of the dataset under the data directory. Asking the storage starts programs: it is asked only where something may have changed.

import { explainError } from "../../base/errors.ts";
import type { PostgresAction } from "../../cluster/decision.ts";
import type { DataObservation } from "../../cluster/observation.ts";
import type { Ms } from "../../base/units.ts";
import type { Context } from "./context.ts";
import { datasetAway, forkDatasets, keptForkNames, demandInPlace, type PostgresStorage } from "./dataset.ts";
import { isSwapping, settleSwap } from "./swap.ts";

/** Operators drop forks. */
const FORKS_EVERY_MS: Ms = 30_000;
/** A storage that fails is not asked at each look. */
const SETTLE_EVERY_MS: Ms = 5_000;

export class StorageSide {
  readonly #context: Context;
  readonly #storage: PostgresStorage;
  readonly #isBusy: () => boolean;
  #forks: readonly string[] = [];
  #forksAt: Ms | undefined;
  #settleAt = 0;

  constructor(context: Context, storage: PostgresStorage, isBusy: () => boolean) {
    this.#context = context;
    this.#storage = storage;
    this.#isBusy = isBusy;
  }

  /** Ends a swap that was cut short. Never rejects: until it is over, the data is incomplete. */
  async settle(): Promise<void> {
    const { clock, log } = this.#context;
    if (this.#isBusy() || clock.now() < this.#settleAt || !(await isSwapping(this.#context.places))) return;
    this.#settleAt = clock.now() + SETTLE_EVERY_MS;
    await settleSwap(this.#context).catch((error: unknown) =>
      log.warn("a roll-back that was cut short can't be ended yet", { reason: explainError(error) }),
    );
    this.#forksAt = undefined;
  }

  /** As last known, where the storage does not answer. */
  async forks(): Promise<readonly string[]> {
    const now = this.#context.clock.now();
    if (this.#forksAt !== undefined && now < this.#forksAt + FORKS_EVERY_MS) return this.#forks;
    try {
      this.#forks = await keptForkNames(this.#storage);
      this.#forksAt = now;
    } catch (error) {
      this.#context.log.warn("the forks that are kept can't be listed", { reason: explainError(error) });
    }
    return this.#forks;
  }

  /** Where the data directory looks empty: whether it is, or only not in place. undefined: there is no data. */
  async away(): Promise<Extract<DataObservation, { kind: "unusable" }> | undefined> {
    try {
      const { storage, dataset } = this.#storage;
      const placed = await storage.look(dataset);
      if (placed?.mounted) {
        demandInPlace(placed.folder, this.#context.places.dataDir);
        return undefined;
      }
      if (placed) throw datasetAway(`${dataset} is not mounted`);
      const [fork] = await forkDatasets(this.#storage);
      if (fork) throw datasetAway(`there is no ${dataset}, but ${fork.name}`);
      return undefined;
    } catch (error) {
      const { code, message, hint } = datasetAway(explainError(error));
      return { kind: "unusable", code, message, hint, mark: undefined };
    }
  }

  /** Before an action that works on the data directory: a swap has ended, and before one that fills it, the dataset is in its place, made where there is none. Errors: `PG_DATASET_AWAY`, those of the storage. */
  async before(action: PostgresAction["kind"]): Promise<void> {
    if (action === "stop" || action === "promote") return;
    await settleSwap(this.#context);
    // What works on data that is there has it in its place; nobody waits for a storage to start a server.
    if (action !== "initdb" && action !== "copy") return;
    const { storage, dataset } = this.#storage;
    const placed = await storage.look(dataset);
    if (placed === undefined && (await forkDatasets(this.#storage)).length > 0)
      throw datasetAway(`there is no ${dataset}, and forks of it are`);
    const { folder } = placed?.mounted ? placed : await (placed ? storage.mount(dataset) : storage.create(dataset));
    demandInPlace(folder, this.#context.places.dataDir);
  }

  /** What an action may have changed. */
  after(): void {
    this.#forksAt = undefined;
  }
}
