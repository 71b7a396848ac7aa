// What this sitter tells the others over its streams, from its last look and its last decision.

import { formatPoint } from "../base/lineage.ts";
import type { Decision } from "../cluster/decision.ts";
import { answeringServer, isHealthy, type Observation } from "../cluster/observation.ts";
import { roleOf } from "../cluster/state.ts";
import type { OwnStatement } from "../peers/peer-watch.ts";

export function statementOf({ self, store, postgres }: Observation, { announce }: Decision): OwnStatement {
  const { server } = postgres;
  const running = answeringServer(server);
  const state = store.shard.kind === "document" ? store.shard.state : undefined;
  return {
    postgresHealthy: isHealthy(server),
    role: state && roleOf(state, self.id),
    generation: state?.generation,
    wal: running && formatPoint({ timeline: running.wal.timeline, lsn: running.wal.end }),
    abdicates: announce?.abdicates,
    leaving: undefined,
  };
}
