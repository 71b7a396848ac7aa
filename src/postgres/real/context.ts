// What the parts of the driver share.

import type { Ms } from "../../base/units.ts";
import type { PeerAddress } from "../../cluster/state.ts";
import type { PostgresConfig } from "../../config/types.ts";
import type { Clock, Log, Random, Timers } from "../../world/port.ts";
import { pause } from "../../world/waiting.ts";
import type { Binaries } from "./binaries.ts";
import type { PostgresStorage } from "./dataset.ts";
import type { MarkFile } from "./mark.ts";
import type { OperatorRules } from "./operator-rules.ts";
import type { OperatorSettings } from "./operator-settings.ts";
import type { Places } from "./places.ts";
import type { Postmaster } from "./postmaster.ts";
import type { SqlSession, SqlTarget } from "./sql.ts";

export interface Context {
  readonly config: PostgresConfig;
  readonly shard: string;
  readonly self: PeerAddress;
  readonly places: Places;
  /** undefined: the data directory lies on a plain folder. */
  readonly storage: PostgresStorage | undefined;
  readonly log: Log;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly mark: MarkFile;
  readonly operatorRules: OperatorRules;
  readonly operatorSettings: OperatorSettings;
  readonly postmaster: Postmaster;
  /** This server, as superuser, over the Unix socket. */
  readonly local: SqlTarget;
  /** Found once. Errors: `PG_BINARIES_MISSING`. */
  binaries(): Promise<Binaries>;
  /** Questions without an effect, over a connection that may be some moments old: it says nothing about whether new ones are let in. */
  readonly ask: <T>(question: (session: SqlSession) => Promise<T>) => Promise<T>;
  /** A fresh connection to this server; a longer limit where what is asked takes longer than a look. */
  sql<T>(use: (session: SqlSession) => Promise<T>, limitMs?: Ms): Promise<T>;
}

/** Asks again until it holds; false: not within the limit. `signal` ends the waiting with its reason. */
export async function waitUntil(
  { clock, timers }: Pick<Context, "clock" | "timers">,
  { limitMs, everyMs, signal }: { limitMs: Ms; everyMs: Ms; signal?: AbortSignal },
  holds: () => Promise<boolean>,
): Promise<boolean> {
  const giveUpAt = clock.now() + limitMs;
  for (;;) {
    signal?.throwIfAborted();
    if (await holds()) return true;
    if (clock.now() >= giveUpAt) return false;
    await pause(timers, everyMs);
  }
}
