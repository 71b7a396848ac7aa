// Short actions by SQL on the running server.

import { ManateeError } from "../../base/errors.ts";
import { type Lsn, parseLsn } from "../../base/lsn.ts";
import { type Context, waitUntil } from "./context.ts";
import { clientSessionsCondition } from "./look.ts";
import { quoteLiteral } from "./sql.ts";

const END_LIMIT_MS = 2000;
const POLL_MS = 10;

/** S1: a commit that waits for no standby, then the flush position behind it. */
export async function writeMarker(
  context: Context,
  { token, checkpoint: checkpointFirst }: { token: string; checkpoint: boolean },
): Promise<Lsn> {
  if (checkpointFirst) await checkpoint(context);
  return context.sql(async ({ query }) => {
    await query("begin");
    await query("set local synchronous_commit = local");
    await query(`select pg_logical_emit_message(true, 'manatee', ${quoteLiteral(token)})`);
    await query("commit");
    // Read after the commit: the insert position can lie beyond what any idle standby ever reaches.
    const text = (await query("select pg_current_wal_flush_lsn()::text as lsn"))[0]?.["lsn"];
    const lsn = parseLsn(text ?? "");
    if (lsn === undefined) throw new TypeError(`not a WAL position: ${text}`);
    return lsn;
  });
}

/** Does nothing where that process is no walsender, or gone. */
export function endWalsender(context: Context, pid: number): Promise<void> {
  return endBackends(context, `backend_type = 'walsender' and pid = ${Math.trunc(pid)}`);
}

/** The walreceiver of that pid, seen in pg_stat_wal_receiver or not. */
export function endReceiver(context: Context, pid: number): Promise<void> {
  return endBackends(context, `backend_type = 'walreceiver' and pid = ${Math.trunc(pid)}`);
}

export function endClients(context: Context): Promise<void> {
  return endBackends(context, clientSessionsCondition(context.config));
}

export async function checkpoint(context: Context): Promise<void> {
  await context.sql(({ query }) => query("checkpoint"), context.config.stopLimitMs);
}

async function endBackends(context: Context, condition: string): Promise<void> {
  await context.sql(({ query }) => query(`select pg_terminate_backend(pid) from pg_stat_activity where ${condition}`));
  const gone = await waitUntil(context, { limitMs: END_LIMIT_MS, everyMs: POLL_MS }, async () => {
    const rows = await context.sql(({ query }) =>
      query(`select count(*)::text as left from pg_stat_activity where ${condition}`),
    );
    return rows[0]?.["left"] === "0";
  });
  if (gone) return;
  throw new ManateeError({
    code: "PG_SESSIONS_REMAIN",
    message: `sessions did not end within ${END_LIMIT_MS} ms`,
    remedy: "retry",
    hint: "Look whether a backend is stopped or hangs in the kernel.",
  });
}
