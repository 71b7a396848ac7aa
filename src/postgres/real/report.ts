// The last look, for people and tools.

import { formatLineage, type WalPoint } from "../../base/lineage.ts";
import { formatLsn } from "../../base/lsn.ts";
import { isoTime } from "../../base/text.ts";
import type { Ms } from "../../base/units.ts";
import {
  answeringServer,
  isHealthy,
  type PostgresObservation,
  type ServerObservation,
} from "../../cluster/observation.ts";
import type { PostgresReport } from "../../status/report.ts";
import type { Look } from "./look.ts";

export function describeReport({
  observation,
  look,
  now,
  lastCheckWall,
  cancelledWaits,
  cancelledUpTo,
  mistakes,
}: {
  observation: PostgresObservation | undefined;
  look: Look | undefined;
  now: Ms;
  lastCheckWall: number;
  cancelledWaits: number;
  /** null: none was cancelled. undefined: some were, and it is not known where they end. */
  cancelledUpTo: WalPoint | null | undefined;
  /** In the operator's files. */
  mistakes: readonly string[];
}): PostgresReport {
  const server = observation?.server;
  const running = server && answeringServer(server);
  return {
    healthy: server !== undefined && isHealthy(server),
    error: errorOf(observation),
    lastCheck: isoTime(lastCheckWall),
    version: look?.version ?? null,
    state: stateOf(observation),
    job: observation?.job
      ? {
          kind: observation.job.kind,
          forMs: Math.max(0, now - observation.job.since),
          progress: observation.job.progress ?? null,
        }
      : null,
    gate: running?.settings.gate ?? null,
    syncNames: running?.settings.syncNames ?? null,
    lineage: running
      ? formatLineage(running.wal)
      : observation?.data.kind === "present"
        ? formatLineage(observation.data.lineage)
        : null,
    timeline:
      running?.wal.timeline ?? (observation?.data.kind === "present" ? observation.data.lineage.timeline : null),
    walEnd: running ? formatLsn(running.wal.end) : null,
    replayed: running?.kind === "standby" ? formatLsn(running.replayed) : null,
    lagSeconds: running?.kind === "standby" ? (look?.lagSeconds ?? null) : null,
    receiver: running?.kind === "standby" ? running.receiver.kind : null,
    clientSessions: running?.clientSessions ?? null,
    waitingCommits: running ? (look?.waitingCommits ?? null) : null,
    replication: running ? (look?.replication ?? []).map(withOldNames) : [],
    forksKept: observation?.forks.length ?? 0,
    cancelledWaits,
    inDoubt:
      cancelledUpTo === null
        ? null
        : { timeline: cancelledUpTo?.timeline ?? null, upTo: cancelledUpTo ? formatLsn(cancelledUpTo.lsn) : null },
    warnings: [...mistakes, ...(running && look ? warningsOf(look) : [])],
  };
}

function warningsOf({ pendingRestart, loweredCommit, logicalSlots }: Look): string[] {
  return [
    ...pendingRestart.map((name) => `${name} was changed, and takes effect only after a restart`),
    ...loweredCommit.map((who) => `sessions of ${who} commit without waiting for the sync (synchronous_commit)`),
    ...logicalSlots.map((name) => `a subscriber (slot ${name}) can receive what the sync has not got yet`),
  ];
}

/** Clients of the original read `sent_location`; PostgreSQL 10 renamed it to `sent_lsn`. */
function withOldNames(row: Readonly<Record<string, string | null>>): Readonly<Record<string, string | null>> {
  return Object.fromEntries(Object.entries(row).map(([name, value]) => [name.replace(/_lsn$/, "_location"), value]));
}

function stateOf(observation: PostgresObservation | undefined): PostgresReport["state"] {
  const server: ServerObservation | undefined = observation?.server;
  if (server === undefined) return "stopped";
  if (server.kind === "stopped") return observation?.data.kind === "none" ? "no-data" : "stopped";
  return server.kind;
}

function errorOf(observation: PostgresObservation | undefined): string | null {
  if (!observation) return "not looked at yet";
  const { server, data, failure } = observation;
  if (server.kind === "unresponsive") return server.reason;
  if (server.kind === "primary" && server.cannotGoOn !== undefined) return server.cannotGoOn;
  if (data.kind === "unusable") return data.message;
  if (failure) return failure.message;
  return server.kind === "stopped" && server.how === "exited" ? "the server ended by itself" : null;
}
