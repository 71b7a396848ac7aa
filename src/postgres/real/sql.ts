// Connections with a limit over all: opening, asking, answering. A fresh one each time: a stopped postmaster still answers on open ones.

import { Client, type ClientConfig } from "pg";
import { ManateeError } from "../../base/errors.ts";
import type { Ms } from "../../base/units.ts";
import type { Timers } from "../../world/port.ts";

/** By this application_name the driver's own sessions are told from clients' (together with superuser and Unix socket). */
export const OWN_APPLICATION_NAME = "manatee";

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

/**
 * Opens a connection, uses it, ends it. Past the limit, the connection is destroyed and the promise rejects with `PG_UNRESPONSIVE`
 * (what the server was doing goes on there). The server's own refusals come as they are, with their SQLSTATE in `code`.
 */
export async function withConnection<T>(
  target: SqlTarget,
  { limitMs, timers, signal }: { limitMs: Ms; timers: Timers; signal?: AbortSignal },
  use: (session: SqlSession) => Promise<T>,
): Promise<T> {
  const client = newClient(target);
  // Without a listener, a connection that breaks while nothing is asked would end the process.
  client.on("error", () => undefined);
  let giveUp: (error: Error) => void = () => undefined;
  const limit = new Promise<never>((_resolve, reject) => (giveUp = reject));
  const cancelTimer = timers.after(limitMs, () => giveUp(unresponsive(target, limitMs)));
  const onAbort = () => giveUp(abortError());
  signal?.addEventListener("abort", onAbort);
  if (signal?.aborted) onAbort();
  const work = (async () => {
    await client.connect();
    return use({ client, query: (text) => ask(client, text) });
  })();
  work.catch(() => undefined);
  try {
    const result = await Promise.race([work, limit]);
    client.end().catch(() => undefined);
    return result;
  } catch (error) {
    destroy(client);
    throw error;
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

/** The client's own end() would wait for a server that does not answer. */
function destroy(client: Client): void {
  (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
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
