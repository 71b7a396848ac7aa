import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { localStore } from "../../../src/coordination/local/driver.ts";
import { realClock, realRandom, realTimers } from "../../../src/world/real/clock.ts";
import { coordinationContract } from "../../contracts/coordination.ts";
import { socketProxy } from "./socket-proxy.ts";
import { silentLog } from "./silent-log.ts";

coordinationContract("local", async () => {
  const base = await mkdtemp(join(tmpdir(), "manatee-local-"));
  const options = { log: silentLog, clock: realClock, timers: realTimers, random: realRandom };
  const directory = join(base, "store");
  const other = localStore({ ...options, directory });
  // The driver under test reaches the same store by a socket that can be taken away.
  const proxy = await socketProxy({ listenIn: join(base, "proxy"), target: join(directory, "socket") });
  return {
    coordination: localStore({ ...options, directory: join(base, "proxy") }),
    other,
    sessionTimeoutMs: 1000,
    root: "/contract",
    evaluationOnly: true,
    cut: () => proxy.cut(),
    restore: () => proxy.restore(),
    dispose: async () => {
      await proxy.close();
      await rm(base, { recursive: true, force: true });
    },
  };
});
