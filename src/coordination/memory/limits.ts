// Every bound of the stores of our own (memory/, local/), and where the number comes from. Pure.

import type { Bytes, Ms } from "../../base/units.ts";

/** Of one write, all its nodes together: ZooKeeper's servers take no longer request (jute.maxbuffer, 0xfffff, less its framing). */
export const WRITE_BYTES: Bytes = 1_000_000;

/** Of session times asked for. Shorter ones than a garbage collection's pause would expire by themselves. */
export const SESSION_MIN_MS: Ms = 500;
export const SESSION_MAX_MS: Ms = 600_000;

/** Between two attempts to connect, doubling from the first to the last: a store on the same machine is back within a moment. */
export const FIRST_PAUSE_MS: Ms = 20;
export const LAST_PAUSE_MS: Ms = 320;

/** A wait for a store that can't be reached is logged again so often. */
export const LOG_INTERVAL_MS: Ms = 60_000;

/** close() where the caller names no limit. */
export const CLOSE_LIMIT_MS: Ms = 2000;

/** A timer of the store that comes so much too late tells that the store itself was held up: nobody's session ends by that. */
export const STALL_MS: Ms = 500;

/** A ping goes out when nothing was sent for a third of the session's time; two thirds without an answer are a dead connection. */
export const pingIntervalMs = (sessionTimeoutMs: Ms): Ms => sessionTimeoutMs / 3;
export const readLimitMs = (sessionTimeoutMs: Ms): Ms => (sessionTimeoutMs * 2) / 3;

/** The store waits a little longer than the session's time, so that the client (which counts from its own sending) knows first. */
export const storeTimeoutMs = (sessionTimeoutMs: Ms): Ms => sessionTimeoutMs * 1.05;

/** For the store to answer the first message of a connection: a silent loss is noticed after two thirds, so the last third has room for two attempts. */
export const welcomeLimitMs = (sessionTimeoutMs: Ms): Ms => Math.min(3000, sessionTimeoutMs / 6);
