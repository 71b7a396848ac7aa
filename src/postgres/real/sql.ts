// Connections with a limit over all: opening, asking, answering. Used once, or kept for a while (kept-session.ts).

import { Client, type ClientConfig } from "pg";
import { ManateeError } from "../../base/errors.ts";
import type { Ms } from "../../base/units.ts";
import type { Timers } from "../../world/port.ts";

/** By this application_name the driver's own sessions are told from clients' (together with superuser and Unix socket). */
export const OWN_APPLICATION_NAME = "manatee";

/** SQLSTATE of a server that lets nobody in at the moment: it recovers (until it is consistent), or it shuts down. */
export const CANNOT_CONNECT_NOW = "57P03";
/** SQLSTATE of one whose every slot is taken. */
export const TOO_MANY_CONNECTIONS = "53300";

export interface SqlTarget {
  /** A host, or the folder of a Unix socket. */
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly database: string;
  readonly password?: string;
  readonly applicationName?: string;
  /** `database`: a walsender that answers SQL, too; `true`: one for physical replication only. */
  readonly replication?: "database" | "true";
}

export interface SqlSession {
  readonly client: Client;
  /** Rows of the last statement, values as text. */
  readonly query: (text: string) => Promise<readonly SqlRow[]>;
}

export type SqlRow = Readonly<Record<string, string | null>>;

interface Limits {
  readonly limitMs: Ms;
  readonly timers: Timers;
  readonly signal?: AbortSignal;
}

/**
 * Opens a connection, uses it, ends it. Past the limit, the connection is destroyed and the promise rejects with `PG_UNRESPONSIVE`
 * (what the server was doing goes on there). The server's own refusals come as they are, with their SQLSTATE in `code`.
 */
export async function withConnection<T>(
  target: SqlTarget,
  limits: Limits,
  use: (session: SqlSession) => Promise<T>,
): Promise<T> {
  const connection = new Connection(target);
  const result = await connection.use(limits, use);
  connection.end();
  return result;
}

/** Opened by its first use. A use that fails, or takes longer than its limit, destroys it. */
export class Connection {
  readonly #target: SqlTarget;
  readonly #client: Client;
  #opened: Promise<unknown> | undefined;
  #broken = false;

  constructor(target: SqlTarget) {
    this.#target = target;
    this.#client = newClient(target);
    // Without a listener, a connection that breaks while nothing is asked would end the process.
    this.#client.on("error", () => (this.#broken = true));
    this.#client.on("end", () => (this.#broken = true));
  }

  get broken(): boolean {
    return this.#broken;
  }

  async use<T>(limits: Limits, use: (session: SqlSession) => Promise<T>): Promise<T> {
    const client = this.#client;
    const work = async () => {
      await (this.#opened ??= client.connect());
      return use({ client, query: (text) => ask(client, text) });
    };
    try {
      return await withinLimits(this.#target, limits, work);
    } catch (error) {
      this.destroy();
      throw error;
    }
  }

  /** In order, without waiting for it. */
  end(): void {
    this.#broken = true;
    this.#client.end().catch(() => undefined);
  }

  /** The client's own end() would wait for a server that does not answer. */
  destroy(): void {
    this.#broken = true;
    (this.#client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
  }
}

async function withinLimits<T>(
  target: SqlTarget,
  { limitMs, timers, signal }: Limits,
  begin: () => Promise<T>,
): Promise<T> {
  let giveUp: (error: Error) => void = () => undefined;
  const limit = new Promise<never>((_resolve, reject) => (giveUp = reject));
  const cancelTimer = timers.after(limitMs, () => giveUp(unresponsive(target, limitMs)));
  const onAbort = () => giveUp(abortError());
  signal?.addEventListener("abort", onAbort);
  if (signal?.aborted) onAbort();
  const work = begin();
  work.catch(() => undefined);
  try {
    return await Promise.race([work, limit]);
  } finally {
    cancelTimer();
    signal?.removeEventListener("abort", onAbort);
  }
}

/** A client whose values come as text, whatever their type. */
function newClient(target: SqlTarget): Client {
  const config: ClientConfig & { replication?: string } = {
    host: target.host,
    port: target.port,
    user: target.user,
    database: target.database,
    application_name: target.applicationName ?? OWN_APPLICATION_NAME,
    types: { getTypeParser: () => (value: unknown) => value },
  };
  // Never from the environment or a ~/.pgpass: what is not handed in does not exist.
  config.password = target.password ?? "";
  if (target.replication !== undefined) config.replication = target.replication;
  return new Client(config);
}

async function ask(client: Client, text: string): Promise<readonly SqlRow[]> {
  const results: unknown = await client.query(text);
  const last: unknown = Array.isArray(results) ? results.at(-1) : results;
  return (last as { rows: SqlRow[] }).rows;
}

export function unresponsive({ host, port }: { host: string; port: number }, limitMs: Ms): ManateeError {
  return new ManateeError({
    code: "PG_UNRESPONSIVE",
    message: `PostgreSQL at ${host}, port ${port}, did not answer within ${limitMs} ms`,
    remedy: "reobserve",
    hint: "Look whether its postmaster is stopped or the machine overloaded.",
  });
}

function abortError(): ManateeError {
  return new ManateeError({
    code: "PG_JOB_CANCELLED",
    message: "the job was cancelled",
    remedy: "reobserve",
    hint: "Nothing has to be done: the peer decides afresh.",
  });
}

export function quoteLiteral(text: string): string {
  return text.includes("\\")
    ? `E'${text.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`
    : `'${text.replaceAll("'", "''")}'`;
}

export function quoteIdentifier(text: string): string {
  return `"${text.replaceAll('"', '""')}"`;
}
