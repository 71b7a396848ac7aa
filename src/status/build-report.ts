// What this sitter tells about itself, from its last look and its last decision. Nothing is asked for here: an answer must come at once,
// whatever hangs.

import type { Ms } from "../base/units.ts";
import type { PeerId } from "../base/peer-id.ts";
import type { Decision } from "../cluster/decision.ts";
import type { Observation } from "../cluster/observation.ts";
import { roleOf } from "../cluster/state.ts";
import type { SitterConfig } from "../config/types.ts";
import type { PeerReport, PostgresReport } from "./report.ts";

export function buildReport(known: {
  readonly config: SitterConfig;
  readonly run: string;
  readonly observation: Observation;
  readonly decision: Decision;
  readonly decidedSince: Ms | undefined;
  readonly postgres: PostgresReport;
  readonly silent: readonly { readonly id: PeerId; readonly forMs: Ms }[];
  readonly evaluationOnly: boolean;
  readonly now: Ms;
}): PeerReport {
  const { config, run, observation, decision, decidedSince, postgres, silent, evaluationOnly, now } = known;
  const { self, store } = observation;
  const { data } = observation.postgres;
  const document = store.shard.kind === "document" ? store.shard : undefined;
  const mark = "mark" in data ? data.mark : undefined;
  return {
    id: self.id,
    run,
    zoneId: self.zoneId,
    shard: config.shard,
    pgUrl: self.pgUrl,
    incarnation: mark?.incarnation ?? null,
    systemIdentifier: data.kind === "present" ? data.systemIdentifier : null,
    generation: document?.state.generation ?? null,
    version: document?.version ?? null,
    role: document ? roleOf(document.state, self.id) : null,
    decision: {
      rule: decision.rule,
      because: decision.because,
      waitingOn: decision.waitingOn ?? null,
      operator: decision.operator ?? null,
      forMs: Math.round(now - (decidedSince ?? now)),
    },
    store: {
      connected: store.connection.kind === "connected",
      sinceMs: Math.round(now - store.connection.since),
      evaluationOnly,
      openToAll:
        config.store.kind === "zookeeper" ? (config.store.digest ?? config.store.saslDigest) === undefined : null,
    },
    postgres,
    silent,
    forksKeptMax: config.policy.forksKeptMax,
    lastDocument: mark?.lastDocument ?? null,
  };
}
