// Every bound of the driver, and where the number comes from. Pure.

import type { Bytes, Ms } from "../../base/units.ts";

/** A server takes no request longer than jute.maxbuffer, by default 0xfffff: it drops the connection, and the caller would learn nothing. */
export const REQUEST_BYTES: Bytes = 0xfffff;

/** Servers don't limit their answers: a folder of 100 000 children is about 4 MB. */
export const ANSWER_BYTES: Bytes = 16 * 1024 * 1024;

/** The first answer holds 41 bytes: longer ones come from something that is no ZooKeeper (an HTTP server says 0x48545450 first). */
export const HANDSHAKE_ANSWER_BYTES: Bytes = 4096;

/** SetWatches is a request as any other; 100 kB is what the servers' own client splits at. */
export const SET_WATCHES_BYTES: Bytes = 100_000;

/** Requests without an answer at a time. Manatee has a handful; more is a runaway loop, whose memory must not grow. */
export const UNANSWERED_REQUESTS = 4096;

/** What a server that doesn't read may leave in this process. */
export const UNSENT_BYTES: Bytes = 8 * 1024 * 1024;

/** For one server to be connected to and to answer the handshake, where the session's time allows so much. */
export const HANDSHAKE_LIMIT_MS: Ms = 3000;

/** Two attempts to connect are at least so far apart: bounds what a server that drops us at once costs. */
export const ATTEMPT_SPACING_MS: Ms = 15;

/** After all servers have been tried in vain: between two rounds, doubling from the first to the last. */
export const FIRST_PAUSE_MS: Ms = 50;
export const LAST_PAUSE_MS: Ms = 1000;

/** A wait for a store that can't be reached is logged again so often. */
export const LOG_INTERVAL_MS: Ms = 60_000;

/** A timer that comes so late was held up by our own process: what arrived meanwhile must be read before it is judged, which takes no longer. */
export const STALL_MS: Ms = 50;

/** close() where the caller names no limit. */
export const CLOSE_LIMIT_MS: Ms = 2000;

/** A sign of life goes out when none was sent for a third of the session's time; with nothing heard for two thirds, the last third is for another server. */
export const proofIntervalMs = (sessionTimeoutMs: Ms): Ms => sessionTimeoutMs / 3;
export const readLimitMs = (sessionTimeoutMs: Ms): Ms => (sessionTimeoutMs * 2) / 3;
