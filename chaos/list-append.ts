// Clients whose transactions append to a few lists and read them: what they saw is judged by anomalies.ts.

import { between, chance, type Random, seeded } from "../simulation/random.ts";
import {
  type ConnectionOptions,
  FollowingConnection,
  NOTHING_HAPPENED,
  ownList,
  pause,
  type Workload,
} from "../test/support/writer.ts";
import type { Step, Transaction } from "./anomalies.ts";

export const LISTS_TABLE = "lists";
export const CREATE_LISTS = `CREATE TABLE IF NOT EXISTS ${LISTS_TABLE} (key int PRIMARY KEY, values int[] NOT NULL)`;

export const ISOLATIONS = ["serializable", "repeatable read"] as const;
export type Isolation = (typeof ISOLATIONS)[number];

export interface ListOptions extends ConnectionOptions {
  readonly clients: number;
  readonly pauseMs: number;
  readonly isolation: Isolation;
  readonly seed: number;
  /** Run on each connection before its first transaction. */
  readonly prelude?: string;
}

export interface ListWorkload extends Workload {
  readonly transactions: readonly Transaction[];
}

/** So many lists are in use at a time; one that has got long is left, so that each is read from its beginning to its end. */
const ACTIVE = 6;
const LONG = 40;
const STEPS = [1, 4] as const;
/** The server's word that a transaction is undone: serialization failure, deadlock. */
const UNDONE = new Set(["40001", "40P01", ...NOTHING_HAPPENED]);

/** Of all clients: which lists are in use, and the values that nobody has appended yet. */
class Keys {
  #last = ACTIVE;
  readonly #active = Array.from({ length: ACTIVE }, (_, i) => i + 1);
  readonly #lengths = new Map<number, number>();

  any(random: Random): number {
    return this.#active[between(random, [0, ACTIVE - 1])] as number;
  }

  nextValue(key: number): number {
    const value = (this.#lengths.get(key) ?? 0) + 1;
    this.#lengths.set(key, value);
    const place = this.#active.indexOf(key);
    if (value >= LONG && place >= 0) this.#active[place] = ++this.#last;
    return value;
  }
}

export function startListAppend(options: ListOptions): ListWorkload {
  const stopping = new AbortController();
  const transactions: Transaction[] = [];
  const keys = new Keys();
  const running = Array.from({ length: options.clients }, async (_, i) => {
    const name = `l${i + 1}`;
    const random = seeded(options.seed + i);
    const connection = new FollowingConnection(name, { ...options, endpoints: ownList(options.endpoints, i) });
    let prepared = false;
    while (!stopping.signal.aborted) {
      if (!connection.connected) prepared = false;
      if (await connection.connect()) {
        const done = await transact(connection, { random, keys, options, prepared });
        prepared = done.prepared;
        // Its number is given by nobody else: nothing is awaited here.
        if (done.steps.length > 0)
          transactions.push({ id: transactions.length + 1, client: name, outcome: done.outcome, steps: done.steps });
      }
      await pause(options.pauseMs, stopping.signal);
    }
    connection.drop();
  });
  return {
    transactions,
    async stop() {
      stopping.abort();
      await Promise.all(running);
    },
  };
}

interface Done {
  readonly outcome: Transaction["outcome"];
  readonly steps: readonly Step[];
  readonly prepared: boolean;
}

async function transact(
  connection: FollowingConnection,
  { random, keys, options, prepared }: { random: Random; keys: Keys; options: ListOptions; prepared: boolean },
): Promise<Done> {
  const steps: Step[] = [];
  const warned = connection.warningsSeen;
  let committing = false;
  try {
    if (!prepared && options.prelude !== undefined) await connection.rows(options.prelude);
    await connection.rows(`BEGIN ISOLATION LEVEL ${options.isolation}`);
    for (let i = between(random, STEPS); i > 0; i--) {
      const key = keys.any(random);
      if (chance(random, 0.5)) {
        // Before its answer: the value is used up whatever becomes of it.
        const value = keys.nextValue(key);
        steps.push({ kind: "append", key, value });
        await connection.rows(
          `INSERT INTO ${LISTS_TABLE} AS l (key, values) VALUES ($1, ARRAY[$2::int]) ON CONFLICT (key) DO UPDATE SET values = l.values || $2::int`,
          [key, value],
        );
      } else {
        const [row] = await connection.rows<{ values: number[] }>(`SELECT values FROM ${LISTS_TABLE} WHERE key = $1`, [
          key,
        ]);
        steps.push({ kind: "read", key, values: row?.values ?? [] });
      }
    }
    committing = true;
    await connection.rows("COMMIT");
    // The server's own word for "visible here, perhaps not on the sync": no promise was made.
    return { outcome: connection.warningsSeen > warned ? "unknown" : "ok", steps, prepared: true };
  } catch (error) {
    const { code } = error as { code?: string };
    connection.drop();
    // Before COMMIT is sent, a session that ends undoes all.
    const outcome = !committing || (code !== undefined && UNDONE.has(code)) ? "fail" : "unknown";
    return { outcome, steps, prepared: false };
  }
}
