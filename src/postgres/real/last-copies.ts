// How long the last copy of each kind took here, and how much it moved: what the next one is estimated by. In a file beside the data, since it is rarely done. Worth
// nothing to the work itself: what goes wrong here is told to nobody but the log.

import { join } from "node:path";
import * as z from "zod";
import { explainError } from "../../base/errors.ts";
import type { Bytes } from "../../base/units.ts";
import type { CopyWay, LastCopies } from "../rebuild-plan.ts";
import type { Context } from "./context.ts";
import { readIfThere, writeDurably } from "./durable.ts";
import type { Places } from "./places.ts";

const lastSchema = z.object({
  /** null: it tells no amount. */
  bytes: z.number().nonnegative().nullable(),
  tookMs: z.number().positive(),
  endedWallMs: z.number(),
});
const fileSchema = z.partialRecord(z.enum(["roll-back", "rewind", "seed", "base-backup"]), lastSchema);

/** Rejects where the file can't be read; one that can't be understood tells nothing. */
export async function readLastCopies(places: Places): Promise<LastCopies> {
  const text = await readIfThere(pathIn(places));
  if (text === undefined) return {};
  try {
    return fileSchema.parse(JSON.parse(text));
  } catch {
    return {};
  }
}

/** Never rejects. `began`: monotonic. */
export async function noteCopy(
  { places, clock, log }: Context,
  { way, began, bytes }: { way: CopyWay; began: number; bytes: Bytes | undefined },
): Promise<void> {
  try {
    const last = {
      bytes: bytes ?? null,
      tookMs: Math.max(1, Math.round(clock.now() - began)),
      endedWallMs: clock.wall(),
    };
    const all = { ...(await readLastCopies(places)), [way]: last };
    await writeDurably(pathIn(places), `${JSON.stringify(all)}\n`);
  } catch (error) {
    log.warn("how long the copy took is not noted", { way, reason: explainError(error) });
  }
}

function pathIn({ own }: Places): string {
  return join(own, "last-copies.json");
}
