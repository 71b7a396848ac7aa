// What went wrong, for the one who asked.

import { explainError, ManateeError } from "../base/errors.ts";
import type { Problem } from "./wire.ts";

export function problemOf(error: unknown): Problem {
  if (error instanceof ManateeError)
    return { code: error.code, message: explainError(error), remedy: error.remedy, hint: error.hint };
  return {
    code: "BACKUP_FAILED",
    message: explainError(error),
    remedy: "retry",
    hint: "See the log of the backup server; if it happens again, report the line as a bug.",
  };
}

/** HTTP: 403 for who may not, 404 for what is not there, 409 for what can't be as things are, 503 for what may be later. */
export function statusOf({ code, remedy }: Problem): 403 | 404 | 409 | 500 | 503 {
  if (code === "BACKUP_NOT_A_PEER" || (code.startsWith("PEER_") && code !== "PEER_NO_SECRET")) return 403;
  if (code === "BACKUP_NO_SNAPSHOT" || code === "BACKUP_NO_JOB") return 404;
  if (code === "SNAPSHOT_NOT_ATOMIC" || code === "BACKUP_BAD_REQUEST" || remedy === "reobserve") return 409;
  if (code === "BACKUP_FAILED") return 500;
  return remedy === "retry" || code === "PEER_NO_SECRET" ? 503 : 500;
}
