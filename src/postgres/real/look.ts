// One look at the running server by SQL: a question whose answer is one JSON document, and what it means.

import type { Wal } from "../../base/lineage.ts";
import { type Lsn, maxLsn, parseLsn, ZERO_LSN } from "../../base/lsn.ts";
import type { PostgresSettings, Receiver, Walsender } from "../../cluster/observation.ts";
import { parseApplied, parseSyncStandbyNames } from "./configuration.ts";
import { OWN_APPLICATION_NAME, quoteLiteral, type SqlRow, type SqlSession } from "./sql.ts";
import { readLineage } from "./timeline-history.ts";

export interface Look {
  readonly version: string;
  readonly systemIdentifier: string;
  /** Of a primary: the flush position. Of a standby: see {@link standbyEnd}. */
  readonly wal: Wal;
  readonly primary: boolean;
  readonly replayed: Lsn;
  readonly caughtUpLocally: boolean;
  readonly replayPaused: boolean;
  readonly partialRecord: boolean;
  readonly segmentBytes: bigint;
  readonly checkpointerIdle: boolean;
  readonly settings: PostgresSettings;
  readonly receiver: Receiver;
  readonly walsenders: readonly Walsender[];
  readonly clientSessions: number;
  /** Commits that wait for standbys. */
  readonly waitingCommits: number;
  readonly loadedAt: string;
  readonly pendingRestart: readonly string[];
  /** Roles and databases whose sessions commit without waiting for the sync. */
  readonly loweredCommit: readonly string[];
  /** Names of logical replication slots. */
  readonly logicalSlots: readonly string[];
  readonly lagSeconds: number | null;
  /** Rows of pg_stat_replication, all columns. */
  readonly replication: readonly Readonly<Record<string, string | null>>[];
}

/** How the answer is read: all in it is checked for being there where it is used. */
interface Answer {
  readonly recovery: boolean;
  readonly version: string;
  readonly system: string;
  readonly timeline: number | null;
  readonly flush: string | null;
  readonly replayed: string | null;
  readonly received: string | null;
  readonly segment_bytes: number;
  readonly paused: boolean | null;
  readonly startup: string | null;
  readonly checkpointer: string | null;
  readonly receivers: readonly number[] | null;
  readonly streaming: {
    pid: number;
    host: string | null;
    port: number | null;
    timeline: number | null;
    silent_ms: number | null;
  } | null;
  readonly replication: readonly Readonly<Record<string, string | null>>[] | null;
  readonly clients: number;
  readonly waiting: number;
  readonly sync_names: string;
  readonly applied: string | null;
  readonly loaded_at: string;
  readonly pending: readonly string[] | null;
  readonly lowered: readonly string[] | null;
  readonly subscribers: readonly string[] | null;
  readonly lag_seconds: number | null;
}

/** The driver's own role, and the one by which peers replicate and rewind. */
export interface OwnRoles {
  readonly superuser: string;
  readonly replicationUser: string;
}

/** Sessions of clients: all but the driver's own (superuser, Unix socket, our name), and those of peers. */
export function clientSessionsCondition({ superuser, replicationUser }: OwnRoles): string {
  const own = `client_addr is null and usename = ${quoteLiteral(superuser)} and application_name = ${quoteLiteral(OWN_APPLICATION_NAME)}`;
  return `backend_type = 'client backend' and usename <> ${quoteLiteral(replicationUser)} and not (${own})`;
}

/** By an ordinary session, and by a walsender's. */
export interface Sessions {
  readonly ask: <T>(question: (session: SqlSession) => Promise<T>) => Promise<T>;
  readonly askWalsender: <T>(question: (session: SqlSession) => Promise<T>) => Promise<T>;
}

/**
 * `standbyExpected` saves a connection: a standby is asked over a walsender's, which answers both. Errors as those of the sessions;
 * undefined: recovery ended while it was asked; look again.
 */
export async function lookAtServer(
  { ask: askOrdinary, askWalsender }: Sessions,
  options: { dataDir: string; standbyExpected: boolean; roles: OwnRoles },
): Promise<Look | undefined> {
  const askFirst = options.standbyExpected ? askWalsender : askOrdinary;
  const seen = await askFirst(async (session) => {
    const answer = await ask(session, options.roles);
    return { answer, point: answer.recovery && options.standbyExpected ? await identify(session) : undefined };
  });
  const { answer } = seen;
  if (!answer.recovery) return describePrimary(answer, options.dataDir);
  const point = seen.point ?? (await askWalsender(identify));
  return describeStandby(answer, point, options.dataDir);
}

async function ask(session: SqlSession, roles: OwnRoles): Promise<Answer> {
  const rows = await session.query(question(roles));
  return JSON.parse(rows[0]?.["answer"] ?? "{}") as Answer;
}

/** IDENTIFY_SYSTEM of a standby: the timeline being replayed, and the later of what is replayed and what is flushed on it. */
async function identify(session: SqlSession): Promise<SqlRow> {
  return (await session.query("IDENTIFY_SYSTEM"))[0] ?? {};
}

async function describePrimary(answer: Answer, dataDir: string): Promise<Look | undefined> {
  const end = parseLsn(answer.flush ?? "");
  if (end === undefined || answer.timeline === null) return undefined;
  const lineage = await readLineage(dataDir, answer.timeline);
  return {
    ...common(answer),
    primary: true,
    wal: { ...lineage, end },
    replayed: end,
    caughtUpLocally: true,
    replayPaused: false,
    partialRecord: false,
    receiver: { kind: "none" },
  };
}

async function describeStandby(answer: Answer, point: SqlRow, dataDir: string): Promise<Look | undefined> {
  const position = parseLsn(point["xlogpos"] ?? "");
  const timeline = Number(point["timeline"]);
  const replayed = parseLsn(answer.replayed ?? "");
  if (position === undefined || replayed === undefined || !Number.isInteger(timeline)) return undefined;
  const lineage = await readLineage(dataDir, timeline);
  const receiver = describeReceiver(answer);
  const received = parseLsn(answer.received ?? "") ?? ZERO_LSN;
  const caughtUpLocally = isCaughtUp(answer, receiver, { timeline, replayed, received });
  return {
    ...common(answer),
    primary: false,
    wal: { ...lineage, end: standbyEnd(receiver, caughtUpLocally, { position, replayed }) },
    replayed,
    caughtUpLocally,
    replayPaused: answer.paused ?? false,
    // Where it would ask from, once nothing streams: the beginning of a segment.
    partialRecord: receiver.kind !== "streaming" && received - (received % BigInt(answer.segment_bytes)) > replayed,
    receiver,
  };
}

/**
 * Where a standby's WAL ends. While it streams: what is flushed (its walsender position, which is what its upstream counts). Once nothing
 * streams and local WAL is exhausted: the end of replay, since behind it lies at most a part of a record, which a promotion throws away. What
 * pg_last_wal_receive_lsn() says is neither: NULL, or the begin of a segment, after a restart.
 */
function standbyEnd(
  receiver: Receiver,
  caughtUp: boolean,
  { position, replayed }: { position: Lsn; replayed: Lsn },
): Lsn {
  return receiver.kind !== "streaming" && caughtUp ? replayed : maxLsn(position, replayed);
}

/**
 * Whether local WAL is exhausted, so that the position is known. The startup process asks for streaming only when nothing more lies in pg_wal,
 * and sleeps before the next attempt only when no source had anything.
 */
function isCaughtUp(
  answer: Answer,
  receiver: Receiver,
  { timeline, replayed, received }: { timeline: number; replayed: Lsn; received: Lsn },
): boolean {
  if (answer.paused === true) return false;
  // What is received on a newer timeline than the one being replayed is not in the position yet.
  if (receiver.kind === "streaming") return answer.streaming?.timeline === timeline;
  if (answer.startup === "RecoveryRetrieveRetryInterval") return true;
  return answer.startup === "RecoveryWalStream" && replayed >= received;
}

function describeReceiver(answer: Answer): Receiver {
  const row = answer.streaming;
  if (row && row.host !== null && row.port !== null)
    return {
      kind: "streaming",
      pid: row.pid,
      from: { host: row.host, port: row.port },
      silentMs: Math.max(0, row.silent_ms ?? 0),
    };
  const pid = answer.receivers?.[0];
  if (pid !== undefined) return { kind: "connecting", pid };
  // The startup process waits for a receiver that was ordered and is not forked yet: it can stream in a moment.
  return answer.startup === "RecoveryWalStream" ? { kind: "connecting", pid: 0 } : { kind: "none" };
}

function common(answer: Answer) {
  const applied = parseApplied(answer.applied);
  return {
    version: answer.version,
    segmentBytes: BigInt(answer.segment_bytes),
    systemIdentifier: answer.system,
    // Both of its waits come after it has taken in its configuration; the second one is the pause inside the spread checkpoint that follows a promotion.
    checkpointerIdle: answer.checkpointer === "CheckpointerMain" || answer.checkpointer === "CheckpointWriteDelay",
    settings: {
      syncNames: parseSyncStandbyNames(answer.sync_names),
      // A server that we did not configure keeps nobody out.
      gate: applied?.gate ?? "open",
      upstream: applied?.upstream ?? null,
    } satisfies PostgresSettings,
    walsenders: (answer.replication ?? []).map(describeWalsender),
    clientSessions: answer.clients,
    waitingCommits: answer.waiting,
    loadedAt: answer.loaded_at,
    pendingRestart: answer.pending ?? [],
    loweredCommit: answer.lowered ?? [],
    logicalSlots: answer.subscribers ?? [],
    lagSeconds: answer.lag_seconds,
    replication: answer.replication ?? [],
  };
}

function describeWalsender(row: Readonly<Record<string, string | null>>): Walsender {
  const position = (name: string) => parseLsn(row[name] ?? "");
  const state = row["state"];
  return {
    name: row["application_name"] ?? "",
    pid: Number(row["pid"]),
    clientAddress: row["client_addr"] ?? undefined,
    state:
      state === "catchup" || state === "streaming" || state === "backup" || state === "stopping" ? state : "startup",
    sent: position("sent_lsn"),
    flush: position("flush_lsn"),
    replay: position("replay_lsn"),
    syncPriority: Number(row["sync_priority"] ?? 0),
  };
}

/**
 * One statement. Activity is read before positions: a receiver that is not there anymore has left all that it had flushed. Our own walsenders (a
 * standby is asked over one, of which the last may still be ending) are left out.
 */
function question(roles: OwnRoles): string {
  return `
    with activity as materialized (select * from pg_stat_activity), recovery as materialized (select pg_is_in_recovery() as is)
    select json_build_object(
      'recovery', recovery.is,
      'version', current_setting('server_version'),
      'system', (select system_identifier::text from pg_control_system()),
      'startup', (select wait_event from activity where backend_type = 'startup'),
      'checkpointer', (select wait_event from activity where backend_type = 'checkpointer'),
      'receivers', (select json_agg(pid) from activity where backend_type = 'walreceiver'),
      'streaming', (select json_build_object('pid', pid, 'host', sender_host, 'port', sender_port, 'timeline', received_tli,
          'silent_ms', round(extract(epoch from clock_timestamp() - last_msg_receipt_time) * 1000))
        from pg_stat_wal_receiver where status = 'streaming'),
      'clients', (select count(*) from activity where ${clientSessionsCondition(roles)}),
      'waiting', (select count(*) from activity where wait_event = 'SyncRep'),
      'timeline', case when not recovery.is then ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::int8 end,
      'flush', case when not recovery.is then pg_current_wal_flush_lsn()::text end,
      'received', pg_last_wal_receive_lsn()::text,
      'segment_bytes', pg_size_bytes(current_setting('wal_segment_size')),
      'replayed', pg_last_wal_replay_lsn()::text,
      'paused', case when recovery.is then pg_get_wal_replay_pause_state() <> 'not paused' end,
      'lag_seconds', case when not recovery.is or pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() then 0
        else extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp()) end,
      'replication', (select json_agg((select json_object_agg(key, value) from json_each_text(to_json(r))))
        from pg_stat_replication r where not (client_addr is null and application_name = ${quoteLiteral(OWN_APPLICATION_NAME)})),
      'sync_names', current_setting('synchronous_standby_names'),
      'applied', current_setting('manatee.applied', true),
      'loaded_at', extract(epoch from pg_conf_load_time())::text,
      'pending', (select json_agg(name) from pg_settings where pending_restart),
      'lowered', (select json_agg(concat_ws(' in ', 'role ' || r.rolname, 'database ' || d.datname))
        from pg_db_role_setting s left join pg_roles r on r.oid = s.setrole left join pg_database d on d.oid = s.setdatabase
        where exists (select from unnest(s.setconfig) c where c ~ '^synchronous_commit=(off|local|false|no|0)$')),
      'subscribers', (select json_agg(slot_name) from pg_replication_slots where slot_type = 'logical')
    )::text as answer from recovery`;
}
