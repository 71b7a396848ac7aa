// How many takeovers the shard's history has of the last hour (T2). It bounds how far a query that kills every primary can walk through
// the shard; wall clocks are good enough for that, and for nothing else.

import { explainError } from "../base/errors.ts";
import type { ShardStore } from "../shard/port.ts";
import type { World } from "../world/port.ts";

const HOUR_MS = 3_600_000;
/** Each takeover writes two or three entries, with a few of joins and leaves between. */
const ENTRIES_READ = 60;

export class TakeoverCount {
  readonly #world: World;
  #wallMsByGeneration = new Map<number, number>();
  #generation: number | undefined;
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
    if (this.#reading || generation === this.#generation) return;
    this.#reading = true;
    void this.#read(generation, store);
  }

  async #read(generation: number, store: ShardStore): Promise<void> {
    try {
      const entries = await store.readHistory({ limit: ENTRIES_READ });
      const takeovers = entries.flatMap(({ state, writtenWallMs }) =>
        state?.rule === "T1" ? [[state.generation, writtenWallMs] as const] : [],
      );
      this.#wallMsByGeneration = new Map(takeovers);
      this.#generation = generation;
    } catch (error) {
      this.#world.log.debug("history not read", { error: explainError(error) });
    } finally {
      this.#reading = false;
    }
  }
}
