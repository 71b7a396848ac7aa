// Short actions by SQL on the running server.

import { ManateeError } from "../../base/errors.ts";
import { type Lsn, parseLsn } from "../../base/lsn.ts";
import { type Context, waitUntil } from "./context.ts";
import { clientSessionsCondition } from "./look.ts";
import { backendsNotLetIn, signalProcess } from "./processes.ts";
import { quoteLiteral, type SqlSession } from "./sql.ts";

const END_LIMIT_MS = 2000;
const POLL_MS = 10;

/** S1: a commit that waits for no standby, then the flush position behind it. */
export async function writeMarker(
  context: Context,
  { token, checkpoint: checkpointFirst }: { token: string; checkpoint: boolean },
): Promise<Lsn> {
  if (checkpointFirst) await checkpoint(context);
  return context.sql(async (session) => {
    const { query } = session;
    await writeRecord(session, token);
    // Read after the commit: the insert position can lie beyond what any idle standby ever reaches.
    const text = (await query("select pg_current_wal_flush_lsn()::text as lsn"))[0]?.["lsn"];
    const lsn = parseLsn(text ?? "");
    if (lsn === undefined) throw new TypeError(`not a WAL position: ${text}`);
    return lsn;
  });
}

/**
 * Commits that wait are let go when a standby that is required now reports its position, and one that has everything reports nothing for seconds: something
 * new is written, for it to report.
 */
export function releaseWaiting(session: SqlSession): Promise<void> {
  return writeRecord(session, "required standbys have changed");
}

/** A commit that waits for no standby. */
async function writeRecord({ query }: SqlSession, text: string): Promise<void> {
  await query("begin");
  await query("set local synchronous_commit = local");
  await query(`select pg_logical_emit_message(true, 'manatee', ${quoteLiteral(text)})`);
  await query("commit");
}

/** Does nothing where that process is no walsender, or gone. */
export function endWalsender(context: Context, pid: number): Promise<void> {
  return endBackends(context, `backend_type = 'walsender' and pid = ${Math.trunc(pid)}`);
}

/** The walreceiver of that pid, seen in pg_stat_wal_receiver or not. */
export function endReceiver(context: Context, pid: number): Promise<void> {
  return endBackends(context, `backend_type = 'walreceiver' and pid = ${Math.trunc(pid)}`);
}

/**
 * Those that wait for the sync last: see {@link endReaders}. Who is being authenticated goes by the rules that held when it came, and would be let in by them however
 * long that takes.
 */
export async function endClients(context: Context): Promise<void> {
  const { process } = context.postmaster;
  const gone = await waitUntil(context, { limitMs: END_LIMIT_MS, everyMs: POLL_MS }, async () => {
    const coming = process.kind === "running" ? await backendsNotLetIn(process.pid) : [];
    for (const pid of coming) signalProcess(pid, "SIGTERM");
    return coming.length === 0;
  });
  if (!gone) throw sessionsRemain();
  await endReaders(context);
  await endBackends(context, clientSessionsCondition(context.config));
}

/**
 * Sessions of clients, but for those whose commit waits for the sync: the end of such a wait shows its commit, which no sync may have, to whoever can still
 * read (I3). One that is ended between its commit record and its wait does so, too; for the few milliseconds until the others have ended.
 */
export function endReaders(context: Context): Promise<void> {
  return endBackends(context, `${clientSessionsCondition(context.config)} and wait_event is distinct from 'SyncRep'`);
}

export async function checkpoint(context: Context): Promise<void> {
  await context.sql(({ query }) => query("checkpoint"), context.config.stopLimitMs);
}

/** Until none is left: one that did not meet the condition a moment ago is ended as well. */
async function endBackends(context: Context, condition: string): Promise<void> {
  const end = `select count(pg_terminate_backend(pid))::text as left from pg_stat_activity where ${condition}`;
  const gone = await context.sql(
    ({ query }) =>
      waitUntil(
        context,
        { limitMs: END_LIMIT_MS, everyMs: POLL_MS },
        async () => (await query(end))[0]?.["left"] === "0",
      ),
    2 * END_LIMIT_MS,
  );
  if (!gone) throw sessionsRemain();
}

function sessionsRemain(): ManateeError {
  return new ManateeError({
    code: "PG_SESSIONS_REMAIN",
    message: `sessions did not end within ${END_LIMIT_MS} ms`,
    remedy: "retry",
    hint: "Look whether a backend is stopped or hangs in the kernel.",
  });
}
