// Time, timers and randomness of the machine.

import { randomBytes } from "node:crypto";
import { performance } from "node:perf_hooks";
import type { Clock, Random, Timers } from "../port.ts";

export const realClock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
};

export const realTimers: Timers = {
  after(delayMs, callback) {
    const timer = setTimeout(callback, Math.max(0, delayMs));
    timer.unref();
    return () => clearTimeout(timer);
  },
};

export const realRandom: Random = {
  hex: (bytes) => randomBytes(bytes).toString("hex"),
  number: () => Math.random(),
};
