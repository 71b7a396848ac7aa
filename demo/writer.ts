// Applications that write to the shard: each row on its own, as fast as the answers come, to whichever peer takes writes. It remembers what was
// acknowledged, and can tell whether all of it is there.

import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import type { Peer } from "./shard.ts";

/** Of one writer: everything up to `high` was sent; what is not in `unsure` was acknowledged. */
interface Ledger {
  high: number;
  readonly unsure: number[];
}

const writers = 4;
const pauseMs = 8;
/** An attempt to connect, or an answer, that takes longer is given up. */
const limitMs = 1_000;
/** For what is done once, and matters. */
const patientMs = 10_000;

export class Writer {
  readonly #peers: readonly Peer[];
  readonly #password: string;
  readonly #ledgers: Ledger[] = Array.from({ length: writers }, () => ({ high: 0, unsure: [] }));
  readonly #running: Promise<void>[] = [];
  #stopped = false;
  acknowledged = 0;
  /** Of performance.now(): the last acknowledgement. */
  lastAt = 0;
  /** The longest time in which nobody was acknowledged anything. */
  longestGapMs = 0;

  constructor(peers: readonly Peer[], password: string) {
    this.#peers = peers;
    this.#password = password;
  }

  /** Makes the table, and begins. */
  async start(primary: Peer): Promise<void> {
    const client = await this.#connect(primary);
    await client.query(
      "CREATE TABLE IF NOT EXISTS demo (writer int, n bigint, at timestamptz DEFAULT now(), PRIMARY KEY (writer, n))",
    );
    drop(client);
    this.lastAt = performance.now();
    for (const [number, ledger] of this.#ledgers.entries()) this.#running.push(this.#write(number, ledger));
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#running);
  }

  /** How many of the acknowledged rows that peer does not have. */
  async missingOn(peer: Peer): Promise<number> {
    const goal = this.#ledgers.map(({ high, unsure }) => ({ high, unsure: [...unsure] }));
    const client = await this.#connect(peer, patientMs);
    try {
      let missing = 0;
      for (const [writer, { high, unsure }] of goal.entries()) {
        const { rows } = await client.query<{ there: string }>(
          "SELECT count(*) AS there FROM demo WHERE writer = $1 AND n <= $2 AND n <> ALL ($3)",
          [writer, high, unsure],
        );
        missing += high - unsure.length - Number(rows[0]?.there);
      }
      return missing;
    } finally {
      drop(client);
    }
  }

  async #write(writer: number, ledger: Ledger): Promise<void> {
    let client: pg.Client | undefined;
    while (!this.#stopped) {
      client ??= await this.#findPrimary();
      if (!client) continue;
      const n = ledger.high + 1;
      // Unsure until the answer is there: a check that runs meanwhile must not count it.
      ledger.unsure.push(n);
      ledger.high = n;
      try {
        await within(limitMs, client.query("INSERT INTO demo (writer, n) VALUES ($1, $2)", [writer, n]));
        ledger.unsure.splice(ledger.unsure.lastIndexOf(n), 1);
        this.#count();
      } catch {
        // Not acknowledged: it may be there or not, and is never tried again under this number.
        drop(client);
        client = undefined;
      }
      await sleep(pauseMs);
    }
    if (client) drop(client);
  }

  #count(): void {
    const now = performance.now();
    this.longestGapMs = Math.max(this.longestGapMs, now - this.lastAt);
    this.lastAt = now;
    this.acknowledged++;
  }

  /** One round over the peers; undefined: nobody takes writes. */
  async #findPrimary(): Promise<pg.Client | undefined> {
    for (const peer of this.#peers) {
      const client = await this.#connect(peer).catch(() => undefined);
      if (!client) continue;
      const answer = await within(
        limitMs,
        client.query<{ standby: boolean }>("SELECT pg_is_in_recovery() AS standby"),
      ).catch(() => undefined);
      if (answer?.rows[0]?.standby === false) return client;
      drop(client);
    }
    await sleep(20);
    return undefined;
  }

  async #connect(peer: Peer, waitMs = limitMs): Promise<pg.Client> {
    const client = new pg.Client({
      host: "127.0.0.1",
      port: peer.pgPort,
      user: "postgres",
      database: "postgres",
      password: this.#password,
      connectionTimeoutMillis: waitMs,
      application_name: "demo",
      query_timeout: waitMs,
    });
    client.on("error", () => undefined);
    try {
      await client.connect();
    } catch (error) {
      drop(client);
      throw error;
    }
    return client;
  }
}

/** Without a farewell: a server that is stopped would not answer it. */
function drop(client: pg.Client): void {
  const { connection } = client as unknown as { connection?: { stream?: { destroy(): void } } };
  connection?.stream?.destroy();
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  work.catch(() => undefined);
  const done = new AbortController();
  const late = sleep(ms, undefined, { signal: done.signal }).then(() => {
    throw new Error(`no answer within ${ms} ms`);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    done.abort();
    late.catch(() => undefined);
  }
}
