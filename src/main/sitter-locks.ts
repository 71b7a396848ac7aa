// What a sitter holds for as long as it runs. Whoever works on its data without it holds the same.

import type { SitterConfig } from "../config/types.ts";
import { placesOf } from "../postgres/real/places.ts";
import { type HeldLock, takeLock } from "../world/real/lock.ts";

/** One sitter for one data directory, and one for one session's ticket, whatever their files say. @throws `SITTER_ALREADY_RUNNING` */
export async function takeSitterLocks({ stateDir, postgres }: SitterConfig): Promise<readonly HeldLock[]> {
  const held: HeldLock[] = [];
  try {
    for (const path of new Set([`${placesOf(postgres).own}/lock`, `${stateDir}/lock`])) held.push(await takeLock(path));
    return held;
  } catch (error) {
    for (const lock of held) lock.release();
    throw error;
  }
}
