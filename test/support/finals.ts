// Looking at a peer's database at the end of a test.

import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { assertHistory, checkPeersEqual, type FinalPeer, type Reign } from "./checker.ts";
import type { TestPeer } from "./peer.ts";
import type { TestShard } from "./shard.ts";
import { type Credentials, TABLE } from "./writer.ts";

/** A machine with both cores busy takes seconds to fork a session. */
const CONNECT_LIMIT_MS = 10_000;
const CATCH_UP_LIMIT_MS = 60_000;

export async function connect(options: Credentials & { host: string; port: number }): Promise<pg.Client> {
  const client = new pg.Client({ ...options, connectionTimeoutMillis: CONNECT_LIMIT_MS });
  // A server that is killed under an open connection is what these tests are about.
  client.on("error", () => undefined);
  await client.connect();
  return client;
}

/** Once all standbys have replayed what the primary has flushed: judges the history against what each peer holds. */
export async function assertHistoryHolds(
  shard: TestShard,
  { peers, reigns }: { peers: readonly TestPeer[]; reigns: readonly Reign[] },
): Promise<void> {
  assertHistory({ operations: shard.history.operations, finals: await finalsOf(shard, peers), reigns });
}

/** Only that all peers hold the same, on the same timeline. */
export async function assertPeersEqual(shard: TestShard, peers: readonly TestPeer[]): Promise<void> {
  const violations = checkPeersEqual({ operations: [], finals: await finalsOf(shard, peers) });
  if (violations.length > 0) throw new Error(violations.map(({ message }) => message).join("\n"));
}

async function finalsOf(shard: TestShard, peers: readonly TestPeer[]): Promise<readonly FinalPeer[]> {
  const primary = await shard.primary();
  const [row] = await shard.query<{ end: string }>(primary, "SELECT pg_current_wal_flush_lsn()::text AS end");
  const finals: FinalPeer[] = [];
  for (const peer of peers) finals.push(await waitForFinal(shard, peer, row?.end ?? "0/0"));
  return finals;
}

/** A peer that has just been taken back into the chain may close its gate once more before it opens it: that it admits nobody is no answer yet. */
async function waitForFinal(shard: TestShard, peer: TestPeer, end: string): Promise<FinalPeer> {
  const until = performance.now() + CATCH_UP_LIMIT_MS;
  for (;;) {
    const final = await finalOf(shard, peer, end).catch((error: Error) => `does not answer (${error.message})`);
    if (typeof final !== "string") return final;
    if (performance.now() > until)
      throw new Error(`${peer.name} ${final}, the primary had flushed ${end}\n${await shard.story()}`);
    await sleep(50);
  }
}

/** What the peer holds, or in words that it has not replayed up to there. */
async function finalOf(shard: TestShard, peer: TestPeer, end: string): Promise<FinalPeer | string> {
  // A statement of its own: the rows are read with a snapshot that is taken after it.
  const [progress] = await shard.query<{ replay: string | null; reached: boolean }>(
    peer,
    `SELECT pg_last_wal_replay_lsn()::text AS replay,
            NOT pg_is_in_recovery() OR coalesce(pg_last_wal_replay_lsn() >= $1::pg_lsn, false) AS reached`,
    [end],
  );
  if (progress?.reached !== true) return `has replayed ${progress?.replay ?? "nothing"}`;
  const [row] = await shard.query<{
    ids: number[] | null;
    system: string;
    standby: boolean;
    streaming: boolean;
    received: number | null;
    walfile: string | null;
  }>(
    peer,
    `SELECT (SELECT array_agg(id::int ORDER BY id) FROM ${TABLE}) AS ids,
            (SELECT system_identifier::text FROM pg_control_system()) AS system,
            pg_is_in_recovery() AS standby,
            EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming') AS streaming,
            (SELECT received_tli FROM pg_stat_wal_receiver) AS received,
            CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_walfile_name(pg_current_wal_insert_lsn()) END AS walfile`,
  );
  if (row === undefined) return "answered nothing";
  // One that has just been told of another upstream is between two connections.
  if (row.standby && !row.streaming) return "does not stream";
  return {
    peer: String(peer.port),
    role: row.standby ? "standby" : "primary",
    timeline: row.walfile === null ? (row.received ?? 0) : Number.parseInt(row.walfile.slice(0, 8), 16),
    systemIdentifier: row.system,
    ids: row.ids ?? [],
    streaming: row.standby ? row.streaming : true,
  };
}
