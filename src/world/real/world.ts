// The machine this process runs on.

import type { LogLevel, World } from "../port.ts";
import { realClock, realRandom, realTimers } from "./clock.ts";
import { realCrypto } from "./crypto.ts";
import { realFiles } from "./files.ts";
import { realLog } from "./log.ts";
import { realNetwork } from "./network.ts";

export function realWorld(options: { name: string; level: LogLevel }): World {
  return {
    clock: realClock,
    timers: realTimers,
    random: realRandom,
    log: realLog(options),
    network: realNetwork,
    crypto: realCrypto,
    files: realFiles,
  };
}
