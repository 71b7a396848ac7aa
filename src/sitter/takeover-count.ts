// How many takeovers the shard's history has of the last hour (T2). It bounds how far a query that kills every primary can walk through
// the shard; wall clocks are good enough for that, and for nothing else.

import { explainError } from "../base/errors.ts";
import type { ShardStore } from "../shard/port.ts";
import type { World } from "../world/port.ts";

const HOUR_MS = 3_600_000;
/** Each takeover writes two or three entries, with a few of joins and leaves between. Read at the first time; then those that are new. */
const ENTRIES_READ = 60;

export class TakeoverCount {
  readonly #world: World;
  #wallMsByGeneration = new Map<number, number>();
  /** Of the newest entry that was read. */
  #sequence = -1;
  /** Of the state when the history was last read, and of the newest one known. */
  #generation: number | undefined;
  #newest: number | undefined;
  #reading = false;

  constructor(world: World) {
    this.#world = world;
  }

  lastHour(): number {
    const from = this.#world.clock.wall() - HOUR_MS;
    return [...this.#wallMsByGeneration.values()].filter((wallMs) => wallMs >= from).length;
  }

  /** Reads the history again, beside everything else, where the generation is another than the last time. */
  notice(generation: number, store: ShardStore): void {
    this.#newest = generation;
    if (!this.#reading && generation !== this.#generation) void this.#read(store);
  }

  async #read(store: ShardStore): Promise<void> {
    this.#reading = true;
    const generation = this.#newest;
    try {
      // Each generation comes with an entry of its own: where there is none, the history began anew.
      const fresh = await store.readHistory({ limit: ENTRIES_READ, above: this.#sequence });
      const entries = fresh.length > 0 ? fresh : await store.readHistory({ limit: ENTRIES_READ });
      const takeovers = entries.flatMap(({ state, writtenWallMs }) =>
        state?.rule === "T1" ? [[state.generation, writtenWallMs] as const] : [],
      );
      this.#wallMsByGeneration = new Map([...this.#wallMsByGeneration, ...takeovers].slice(-ENTRIES_READ));
      this.#sequence = entries.at(-1)?.sequence ?? -1;
      this.#generation = generation;
    } catch (error) {
      this.#world.log.debug("history not read", { error: explainError(error) });
    }
    this.#reading = false;
    if (this.#newest !== generation) void this.#read(store);
  }
}
