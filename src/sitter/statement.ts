// What this sitter tells the others over its streams, from its last look and its last decision.

import { formatLsn } from "../base/lsn.ts";
import type { Decision } from "../cluster/decision.ts";
import type { Observation } from "../cluster/observation.ts";
import { roleOf } from "../cluster/state.ts";
import type { OwnStatement } from "../peers/peer-watch.ts";

export function statementOf({ self, store, postgres }: Observation, { announce }: Decision): OwnStatement {
  const { server } = postgres;
  const running = server.kind === "primary" || server.kind === "standby" ? server : undefined;
  const state = store.shard.kind === "document" ? store.shard.state : undefined;
  return {
    postgresHealthy: running !== undefined && !(running.kind === "primary" && running.cannotGoOn !== undefined),
    role: state && roleOf(state, self.id),
    generation: state?.generation,
    wal: running && `${running.wal.timeline}@${formatLsn(running.wal.end)}`,
    abdicates: announce?.abdicates,
    leaving: undefined,
  };
}
