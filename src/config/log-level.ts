import type { LogLevel } from "../world/port.ts";

/** Least important first. */
export const LOG_LEVELS: readonly LogLevel[] = ["trace", "debug", "info", "warn", "error"];
