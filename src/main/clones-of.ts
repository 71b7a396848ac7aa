// The clones of this host's peer, for the tools.

import { ManateeError } from "../base/errors.ts";
import type { SitterConfig } from "../config/types.ts";
import type { Clones } from "../postgres/clones.ts";
import { PeerClones } from "../postgres/real/make-clone.ts";
import type { World } from "../world/port.ts";
import { storageOf } from "./storage-of.ts";

export function clonesOf(
  { postgres, storage }: SitterConfig,
  { clock, timers }: Pick<World, "clock" | "timers">,
): Clones {
  if (!storage)
    throw new ManateeError({
      code: "CLONE_NO_STORAGE",
      message:
        "the sitter's file names no storage: this peer's data lie in a plain folder, of which nothing can be cloned",
      remedy: "operator",
      hint: "Run it on a peer whose data lie on ZFS or Btrfs (docs/operating/storage.md).",
    });
  const place = { storage: storageOf(storage, timers), dataset: storage.dataset };
  return new PeerClones({ config: postgres, storage: place, clock, timers });
}
