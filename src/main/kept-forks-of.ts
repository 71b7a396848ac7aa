// The forks of this host's peer, for the tools.

import type { SitterConfig } from "../config/types.ts";
import type { Forks } from "../postgres/forks.ts";
import { KeptForks } from "../postgres/real/kept-forks.ts";
import type { World } from "../world/port.ts";
import { storageOf } from "./storage-of.ts";

export function keptForksOf({ postgres, storage }: SitterConfig, world: World): Forks {
  return new KeptForks({
    config: postgres,
    storage: storage && { storage: storageOf(storage, world.timers), dataset: storage.dataset },
  });
}
