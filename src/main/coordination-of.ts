// The driver of the store that the configuration names.

import { ManateeError } from "../base/errors.ts";
import type { StoreConfig, TlsConfig } from "../config/types.ts";
import { localStore } from "../coordination/local/driver.ts";
import type { Coordination } from "../coordination/port.ts";
import { zookeeper } from "../coordination/zookeeper/driver.ts";
import type { World } from "../world/port.ts";

export function coordinationOf(store: StoreConfig, world: Omit<World, "network" | "files">): Coordination {
  const { log, clock, timers, random } = world;
  if (store.kind === "local") return localStore({ directory: store.directory, log, clock, timers, random });
  const { connectString, digest, tls } = store;
  return zookeeper({
    connectString,
    ...(digest !== undefined && { digest }),
    ...(tls && { tls: tlsFiles(tls) }),
    log,
    clock,
    timers,
    random,
  });
}

function tlsFiles({ caFile, certFile, keyFile }: TlsConfig) {
  if (caFile !== undefined && certFile !== undefined && keyFile !== undefined) return { caFile, certFile, keyFile };
  throw new ManateeError({
    code: "STORE_TLS_INCOMPLETE",
    message: "TLS to ZooKeeper needs an authority, a certificate and a key",
    remedy: "operator",
    hint: "Configure caFile, certFile and keyFile of the store's tls section.",
  });
}
