import { realClock, realRandom, realTimers } from "../../../src/world/real/clock.ts";
import { memoryStore } from "../../../src/coordination/memory/driver.ts";
import type { Log } from "../../../src/world/port.ts";
import { coordinationContract } from "../../contracts/coordination.ts";

const silent: Log = { trace() {}, debug() {}, info() {}, warn() {}, error() {}, child: () => silent };

for (const latencyMs of [0, 3])
  coordinationContract(`memory, ${latencyMs} ms away`, async () => {
    const store = memoryStore({
      clock: realClock,
      timers: realTimers,
      random: realRandom,
      log: silent,
      latencyMs: () => latencyMs * realRandom.number(),
    });
    return {
      coordination: store.as("cuttable"),
      other: store.as("other"),
      sessionTimeoutMs: 1000,
      root: "/contract",
      cut: () => store.cut("cuttable"),
      restore: () => store.restore("cuttable"),
      dispose: () => store.stop(),
    };
  });
