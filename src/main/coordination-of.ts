// The driver of the store that the configuration names.

import type { StoreConfig } from "../config/types.ts";
import { localStore } from "../coordination/local/driver.ts";
import type { Coordination } from "../coordination/port.ts";
import { zookeeper } from "../coordination/zookeeper/driver.ts";
import type { World } from "../world/port.ts";

export function coordinationOf(store: StoreConfig, world: Omit<World, "network" | "files" | "crypto">): Coordination {
  const { log, clock, timers, random } = world;
  if (store.kind === "local") return localStore({ directory: store.directory, log, clock, timers, random });
  const { connectString, digest, saslDigest, tls } = store;
  return zookeeper({
    connectString,
    ...(digest !== undefined && { digest }),
    ...(saslDigest !== undefined && { saslDigest }),
    ...(tls && { tls }),
    log,
    clock,
    timers,
    random,
  });
}
