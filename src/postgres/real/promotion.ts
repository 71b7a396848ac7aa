// Promotes a standby to a timeline of a given number.

import { ManateeError } from "../../base/errors.ts";
import type { Timeline } from "../../base/lsn.ts";
import { type Context, waitUntil } from "./context.ts";
import { historyExists, writePlaceholders } from "./timeline-history.ts";

const POLL_MS = 10;
/** Replaying what is left is bounded by how far a standby can be behind; past it somebody should know. */
const PROMOTION_LIMIT_MS = 600_000;

/** Resolves when it is a primary on that timeline. Cancelled: the waiting ends, what was ordered goes on (stop the server to end it). */
export async function promote(context: Context, timeline: Timeline, signal: AbortSignal): Promise<void> {
  const own = await context.ask(
    async ({ query }) =>
      (await query("select timeline_id from pg_control_checkpoint() where pg_is_in_recovery()"))[0]?.["timeline_id"],
  );
  if (own === undefined || own === null) throw refused("the server is no standby");
  if (Number(own) >= timeline) throw refused(`the server is on timeline ${own} already`);
  if (await historyExists(context.places.dataDir, timeline))
    throw refused(`timeline ${timeline} has a history file here already`);
  await writePlaceholders(context.places.dataDir, timeline);
  // From here on its WAL is its own: where its data once came from says nothing about it any more.
  await context.mark.update((mark) => ({ ...mark, source: undefined }));
  await context.sql(({ query }) => query("select pg_promote(false)"));
  const done = await waitUntil(context, { limitMs: PROMOTION_LIMIT_MS, everyMs: POLL_MS, signal }, () =>
    isPrimaryNow(context),
  );
  if (!done) throw refused(`it is not over after ${PROMOTION_LIMIT_MS} ms`);
  const reached = await context.ask(
    async ({ query }) =>
      (await query("select substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8) as hex"))[0]?.["hex"],
  );
  if (Number.parseInt(reached ?? "", 16) !== timeline)
    throw refused(`it led to timeline ${Number.parseInt(reached ?? "", 16)}`);
}

async function isPrimaryNow(context: Context): Promise<boolean> {
  if (context.postmaster.process.kind !== "running") throw refused("the server ended meanwhile");
  try {
    return (await context.ask(({ query }) => query("select pg_is_in_recovery() as recovery")))[0]?.["recovery"] === "f";
  } catch (error) {
    // A look that fails says nothing; the process is watched above.
    context.log.debug("no answer during promotion", { reason: String(error) });
    return false;
  }
}

function refused(what: string): ManateeError {
  return new ManateeError({
    code: "PG_PROMOTION_FAILED",
    message: `the promotion failed: ${what}`,
    remedy: "reobserve",
    hint: "Nothing has to be done: the peer decides afresh.",
  });
}
