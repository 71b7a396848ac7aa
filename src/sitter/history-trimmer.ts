// Keeps the shard's history bounded: the primary deletes its oldest entries now and then, where there can be new ones.

import { explainError } from "../base/errors.ts";
import type { Ms } from "../base/units.ts";
import type { Observation } from "../cluster/observation.ts";
import type { ShardStore } from "../shard/port.ts";
import type { World } from "../world/port.ts";

const INTERVAL_MS: Ms = 600_000;

export class HistoryTrimmer {
  readonly #keep: number;
  readonly #world: World;
  #version: number | undefined;
  #againAt: Ms = Number.NEGATIVE_INFINITY;

  constructor({ keep, world }: { keep: number; world: World }) {
    this.#keep = keep;
    this.#world = world;
  }

  /** `store`: undefined while it is not connected. */
  follow({ now, self, store: { shard } }: Observation, store: ShardStore | undefined): void {
    if (!store || shard.kind !== "document" || shard.state.primary.id !== self.id) return;
    if (shard.version === this.#version || now < this.#againAt) return;
    this.#version = shard.version;
    this.#againAt = now + INTERVAL_MS;
    store.trimHistory({ keep: this.#keep }).then(
      (deleted) => deleted > 0 && this.#world.log.debug("history trimmed", { deleted }),
      (error: unknown) => this.#world.log.debug("history not trimmed", { error: explainError(error) }),
    );
  }
}
