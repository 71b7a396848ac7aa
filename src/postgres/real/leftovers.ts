// Programs of a sitter that was killed: a pg_rewind or a copy that goes on by itself would write into what the next one makes.

import { realpath } from "node:fs/promises";
import type { Places } from "./places.ts";
import { postgresProcessesOn, programsIn, signalProcess } from "./processes.ts";

/** A round takes milliseconds, and a killed process is gone in as many. */
const ROUNDS_MAX = 200;

/** Kills those that work for this data directory, and waits until they are gone. The server must be stopped. */
export async function endLeftovers(places: Places): Promise<void> {
  const folders = await Promise.all([places.own, places.dataDir].map((path) => realpath(path).catch(() => path)));
  await endAll(async () => [
    ...(await programsIn(folders[0] as string)),
    ...(await postgresProcessesOn(folders[1] as string)),
  ]);
}

/** Of a data directory that is thrown away. */
export function endServersOn(folder: string): Promise<void> {
  return endAll(() => postgresProcessesOn(folder));
}

/** By SIGKILL. Each round kills what it saw; a program that forks while it dies is seen in the next one. */
async function endAll(find: () => Promise<readonly number[]>): Promise<void> {
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const found = await find();
    if (found.length === 0) return;
    for (const pid of found) signalProcess(pid, "SIGKILL");
  }
}
