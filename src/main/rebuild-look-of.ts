// What a rebuild of this host's peer would find, for the tools.

import type { SitterConfig } from "../config/types.ts";
import { realRebuildLook } from "../postgres/real/rebuild-look.ts";
import type { RebuildLook } from "../postgres/rebuild-look.ts";
import type { World } from "../world/port.ts";
import { storageOf } from "./storage-of.ts";

export function rebuildLookOf({ postgres, self, storage }: SitterConfig, { timers }: World): RebuildLook {
  return realRebuildLook({
    config: postgres,
    self,
    timers,
    storage: storage && { storage: storageOf(storage, timers), dataset: storage.dataset },
  });
}
