// What a peer that data comes from says of its WAL.

import type { Lineage } from "../../base/lineage.ts";
import type { PeerAddress } from "../../cluster/state.ts";
import type { Context } from "./context.ts";
import { sourceTarget } from "./copy.ts";
import { demandReplicationPassword } from "./passwords.ts";
import { withConnection } from "./sql.ts";
import { parseHistory } from "./timeline-history.ts";

export interface SourceWal {
  readonly systemIdentifier: string;
  readonly lineage: Lineage;
  /** Of its timeline. */
  readonly history: string;
}

/** Rejects with what the connection says. */
export async function askSource(context: Context, from: PeerAddress, signal: AbortSignal): Promise<SourceWal> {
  const { config, timers } = context;
  const password = await demandReplicationPassword(config.replicationPasswordFile, from.id);
  return withConnection(
    { ...sourceTarget(context, from, password), replication: "true" },
    { limitMs: config.probeLimitMs, timers, signal },
    async ({ query }) => {
      const identity = (await query("IDENTIFY_SYSTEM"))[0];
      const timeline = Number(identity?.["timeline"]);
      const history = timeline > 1 ? ((await query(`TIMELINE_HISTORY ${timeline}`))[0]?.["content"] ?? "") : "";
      const past = parseHistory(history) ?? [];
      return { systemIdentifier: identity?.["systemid"] ?? "", lineage: { past, timeline }, history };
    },
  );
}
