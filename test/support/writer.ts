// Clients as applications are: several hosts, `target_session_attrs=read-write`, one attempt limited to a second, again and again.
// Each writes rows with ids of its own, reads all rows now and then, and records what it was told.

import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import type { Answerer, History } from "./history.ts";

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

export interface Credentials {
  readonly user: string;
  readonly password: string;
  readonly database: string;
}

export interface ConnectionOptions {
  readonly endpoints: readonly Endpoint[];
  readonly credentials: Credentials;
  /** Of a connection attempt, and of a statement: past it the connection is given up, and what was under way is unknown. */
  readonly attemptLimitMs?: number;
  /**
   * Each client has its own list of the servers, as if shuffled: it begins at another one than its neighbour. It reconnects from its first one on, and pauses for 0.1
   * to 0.2 s after each failure. Otherwise all have the same list, and pause after each round over it.
   */
  readonly spread?: boolean;
}

export interface WorkloadOptions extends ConnectionOptions {
  readonly history: History;
  readonly clients: number;
  /** Between two inserts of one client. */
  readonly pauseMs: number;
  /** Between two reads of all rows, by one more client; 0: nobody reads. */
  readonly readEveryMs?: number;
}

/** Where applications write. */
export const TABLE = "ledger";

const WARNING_OF_CANCELLED_WAIT = /canceling (the )?wait for synchronous replication/i;

/** SQLSTATEs after which nothing can have happened: refused before or instead of doing it. */
export const NOTHING_HAPPENED = new Set(["25006", "57P03", "53300", "28000", "28P01", "3D000", "42P01"]);

export interface Workload {
  /** Ends all clients; what is under way is waited for, at most as long as one attempt takes. */
  stop(): Promise<void>;
}

export function startWorkload(options: WorkloadOptions): Workload {
  const stopping = new AbortController();
  const running = Array.from({ length: options.clients }, (_, i) =>
    writeUntilStopped(
      `w${i + 1}`,
      { ...options, endpoints: options.spread ? ownList(options.endpoints, i) : options.endpoints },
      stopping.signal,
    ),
  );
  if ((options.readEveryMs ?? 0) > 0) running.push(readUntilStopped("r1", options, stopping.signal));
  return {
    async stop() {
      stopping.abort();
      await Promise.all(running);
    },
  };
}

async function writeUntilStopped(name: string, options: WorkloadOptions, stopped: AbortSignal): Promise<void> {
  const connection = new FollowingConnection(name, options);
  while (!stopped.aborted) {
    await insertOnce(name, connection, options);
    await pause(options.pauseMs, stopped);
  }
  connection.drop();
}

async function insertOnce(name: string, connection: FollowingConnection, { history }: WorkloadOptions): Promise<void> {
  if (!(await connection.connect())) return;
  const insert = history.insert(name);
  const warned = connection.warningsSeen;
  try {
    const row = await connection.query<{ port: number; walfile: string }>(
      `INSERT INTO ${TABLE} (id) VALUES ($1) RETURNING inet_server_port() AS port, pg_walfile_name(pg_current_wal_insert_lsn()) AS walfile`,
      [insert.id],
    );
    // The server's own word for "visible here, perhaps not on the sync": no promise was made.
    if (connection.warningsSeen > warned) insert.unknown("the wait for the sync was cancelled");
    else insert.ok(connection.answerer(row));
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    if (code !== undefined && NOTHING_HAPPENED.has(code)) insert.fail(`${code} ${message}`);
    else insert.unknown(`${code ?? "-"} ${message}`);
    connection.drop();
  }
}

async function readUntilStopped(name: string, options: WorkloadOptions, stopped: AbortSignal): Promise<void> {
  const connection = new FollowingConnection(name, options);
  while (!stopped.aborted) {
    if (await connection.connect()) {
      const read = options.history.read(name);
      try {
        const row = await connection.query<{ ids: number[] | null; port: number; walfile: string }>(
          `SELECT (SELECT array_agg(id::int) FROM ${TABLE}) AS ids, inet_server_port() AS port, pg_walfile_name(pg_current_wal_insert_lsn()) AS walfile`,
          [],
        );
        read.ok(connection.answerer(row), row.ids ?? []);
      } catch (error) {
        read.fail((error as Error).message);
        connection.drop();
      }
    }
    await pause(options.readEveryMs ?? 0, stopped);
  }
  connection.drop();
}

/** One connection to whichever server is writable, as libpq finds it. */
export class FollowingConnection {
  warningsSeen = 0;
  #client: pg.Client | undefined;
  #systemIdentifier = "";
  readonly #name: string;
  readonly #options: ConnectionOptions;
  readonly #limitMs: number;
  /** Of attempts, since a connection was lost. */
  #failures = 0;

  constructor(name: string, options: ConnectionOptions) {
    this.#name = name;
    this.#options = options;
    this.#limitMs = options.attemptLimitMs ?? 1000;
  }

  get connected(): boolean {
    return this.#client !== undefined;
  }

  /** One round over all servers; false if none is writable. Keeps the connection it has. */
  async connect(): Promise<boolean> {
    if (this.#client !== undefined) return true;
    const { endpoints, spread } = this.#options;
    if (spread) {
      const endpoint = endpoints[this.#failures++ % endpoints.length];
      if (endpoint && (await this.#tryEndpoint(endpoint))) return true;
      await sleep(100 + Math.random() * 100);
      return false;
    }
    for (const endpoint of endpoints) if (await this.#tryEndpoint(endpoint)) return true;
    // libpq's callers wait a little before the next round.
    await sleep(100);
    return false;
  }

  async #tryEndpoint(endpoint: Endpoint): Promise<boolean> {
    const client = new pg.Client({
      ...endpoint,
      ...this.#options.credentials,
      application_name: `client-${this.#name}`,
      connectionTimeoutMillis: this.#limitMs,
      keepAlive: true,
    });
    client.on("error", () => this.#forget(client));
    client.on("end", () => this.#forget(client));
    client.on("notice", (notice) => {
      if (WARNING_OF_CANCELLED_WAIT.test(notice.message ?? "")) this.warningsSeen++;
    });
    try {
      await client.connect();
      const { rows } = await limited(
        client.query<{ writable: boolean; system: string }>(
          "SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off' AS writable, (SELECT system_identifier::text FROM pg_control_system()) AS system",
        ),
        this.#limitMs,
      );
      if (rows[0]?.writable !== true) throw new Error("session is read-only");
      this.#systemIdentifier = rows[0].system;
      this.#client = client;
      return true;
    } catch {
      destroy(client);
      return false;
    }
  }

  async rows<Row extends pg.QueryResultRow>(text: string, values: readonly unknown[] = []): Promise<readonly Row[]> {
    if (this.#client === undefined) throw new Error("the connection was lost before the statement was sent");
    return (await limited(this.#client.query<Row>(text, [...values]), this.#limitMs)).rows;
  }

  async query<Row extends pg.QueryResultRow>(text: string, values: readonly unknown[]): Promise<Row> {
    const [row] = await this.rows<Row>(text, values);
    if (row === undefined) throw new Error("no row came back");
    return row;
  }

  answerer({ port, walfile }: { port: number; walfile: string }): Answerer {
    return {
      peer: String(port),
      systemIdentifier: this.#systemIdentifier,
      timeline: Number.parseInt(walfile.slice(0, 8), 16),
    };
  }

  drop(): void {
    if (this.#client === undefined) return;
    const client = this.#client;
    this.#client = undefined;
    this.#failures = 0;
    destroy(client);
  }

  #forget(client: pg.Client): void {
    if (this.#client !== client) return;
    this.#client = undefined;
    this.#failures = 0;
  }
}

/** Of a client: beginning at the one of its number; every other client goes over them the other way round. */
export function ownList<T>(list: readonly T[], number: number): readonly T[] {
  const at = number % list.length;
  const [first, ...others] = [...list.slice(at), ...list.slice(0, at)];
  return first === undefined ? [] : [first, ...(number % 2 === 0 ? others : others.reverse())];
}

/** Rejects past the limit; the statement goes on at the server, and its client must not be used again. */
export async function limited<T>(work: Promise<T>, limitMs: number): Promise<T> {
  const ended = new AbortController();
  work.catch(() => undefined);
  try {
    return await Promise.race([
      work,
      sleep(limitMs, undefined, { signal: ended.signal }).then(() => {
        throw new Error(`no answer within ${limitMs} ms`);
      }),
    ]);
  } finally {
    ended.abort();
  }
}

/** Without a word to a server that may be stopped: closing politely would wait for it. */
export function destroy(client: pg.Client): void {
  client.on("error", () => undefined);
  const { connection } = client as unknown as { connection: { stream: { destroy(): void } } };
  connection.stream.destroy();
}

export async function pause(ms: number, stopped: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal: stopped }).catch(() => undefined);
}
