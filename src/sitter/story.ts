// The sitter's log as a story: a line when a decision differs from the last one, when the shard's state changes, when PostgreSQL does. A
// wait is told again once a minute, so that a shard that is stuck explains itself.

import { formatLineage } from "../base/lineage.ts";
import { formatLsn } from "../base/lsn.ts";
import type { Ms } from "../base/units.ts";
import { writerOf } from "../cluster/codec.ts";
import type { Decision } from "../cluster/decision.ts";
import type {
  Observation,
  PeerEvidence,
  PostgresObservation,
  ServerObservation,
  ShardView,
} from "../cluster/observation.ts";
import { roleOf } from "../cluster/state.ts";
import type { Log } from "../world/port.ts";

const REPEAT_MS: Ms = 60_000;

export class Story {
  readonly #log: Log;
  #told: { readonly key: string; readonly since: Ms; toldAt: Ms } | undefined;
  #before: Observation | undefined;

  constructor(log: Log) {
    this.#log = log;
  }

  /** Since when the present decision has been the same. */
  get decidedSince(): Ms | undefined {
    return this.#told?.since;
  }

  tellObservation(observation: Observation): void {
    const before = this.#before;
    this.#before = observation;
    this.#tellState(before?.store.shard, observation);
    this.#tellPostgres(before?.postgres, observation.postgres);
    this.#tellPeers(before?.peers ?? {}, observation);
  }

  tellDecision(decision: Decision, { now, self, store }: Observation): void {
    const { rule, because, waitingOn, operator, action } = decision;
    const key = JSON.stringify([rule, withoutFigures(because), withoutFigures(waitingOn), operator, action?.kind]);
    const same = this.#told?.key === key;
    const since = same && this.#told ? this.#told.since : now;
    if (same && this.#told && (waitingOn === undefined || now - this.#told.toldAt < REPEAT_MS)) return;
    this.#told = { key, since, toldAt: now };
    // `error` means that an operator must act, and is said at once and each minute.
    const level = operator === undefined ? "info" : "error";
    this.#log[level](same ? "still waiting" : "decision", {
      rule,
      because,
      waitingOn,
      operator,
      action: action?.kind,
      role: store.shard.kind === "document" ? roleOf(store.shard.state, self.id) : undefined,
      generation: store.shard.kind === "document" ? store.shard.state.generation : undefined,
      forMs: same ? Math.round(now - since) : undefined,
    });
  }

  #tellState(before: ShardView | undefined, { store, self }: Observation): void {
    const view = store.shard;
    if (view.kind === "document") {
      if (before?.kind === "document" && before.version === view.version) return;
      const { state, version } = view;
      this.#log.info("state read", {
        generation: state.generation,
        version,
        role: roleOf(state, self.id),
        primary: state.primary.id,
        sync: state.sync?.id ?? null,
        async: state.async.map(({ id }) => id),
        deposed: state.deposed.map(({ id }) => id),
        initWal: formatLsn(state.initWal),
        provisional: state.provisional || undefined,
        frozen: state.freeze !== undefined || undefined,
        by: writerOf(state, version).by,
        rule: state.rule,
        reason: state.reason,
      });
    } else if (view.kind === "unreadable") {
      if (before?.kind === "unreadable" && before.message === view.message) return;
      this.#log.error("state not readable", { code: view.code, error: view.message, hint: view.hint });
    } else if (view.kind === "absent" && before?.kind !== "absent") this.#log.info("there is no state in the store");
  }

  #tellPostgres(before: PostgresObservation | undefined, { server, job, failure, data }: PostgresObservation): void {
    if (before?.job && before.job.since !== job?.since)
      this.#log.info("job ended", { job: before.job.kind, failed: isNew(before.failure, failure) || undefined });
    if (job && before?.job?.since !== job.since) this.#log.info("job under way", { job: job.kind });
    if (failure && isNew(before?.failure, failure))
      this.#log.debug("action on PostgreSQL failed", {
        action: failure.action,
        code: failure.code,
        error: failure.message,
        hint: failure.hint,
        count: failure.count,
      });
    // While a job rewrites the data they are no database: that is no reason to call an operator.
    if (data.kind === "unusable" && !job && (before?.data.kind !== "unusable" || before.job))
      this.#log.error("data directory not usable", { code: data.code, error: data.message, hint: data.hint });
    if (serverKey(before?.server) === serverKey(server)) return;
    this.#log.info("PostgreSQL", { is: server.kind, ...serverFields(server) });
  }

  #tellPeers(before: Observation["peers"], { peers }: Observation): void {
    for (const [id, evidence] of Object.entries(peers)) {
      const known = before[id];
      if (known && evidenceKey(known) === evidenceKey(evidence)) continue;
      this.#log.debug("evidence about a peer", {
        peer: id,
        sitter: evidence.sitter.kind,
        postgresPort: evidence.postgresPort.kind,
        postgresHealthy: evidence.postgresHealthy,
        alsoSilentFor: evidence.alsoSilentFor,
      });
    }
  }
}

/** Positions and amounts change all the time; a decision that differs in them alone is the same one. */
function withoutFigures(sentence: string | undefined): string | undefined {
  return sentence
    ?.replaceAll(/\b[0-9A-F]{1,8}\/[0-9A-F]{1,8}\b/g, "#")
    .replaceAll(/\b\d+(\.\d+)? of \d+(\.\d+)? ?[kMGT]?B\b/g, "#")
    .replaceAll(/\b\d+(\.\d+)? ?(bytes|[kMG]B|ms|s|min|%)(?=\W|$)/g, "#");
}

function isNew(before: PostgresObservation["failure"], now: PostgresObservation["failure"]): boolean {
  return now !== undefined && (before?.at !== now.at || before.action !== now.action);
}

function serverKey(server: ServerObservation | undefined): string {
  if (!server) return "";
  if (server.kind === "primary")
    return `primary ${server.settings.gate} ${server.wal.timeline} ${server.settings.syncNames.join()}`;
  if (server.kind === "standby") return `standby ${server.wal.timeline} ${receiverOf(server)} ${server.replayPaused}`;
  return server.kind === "stopped" ? `stopped ${server.how}` : server.kind;
}

function serverFields(server: ServerObservation): Readonly<Record<string, unknown>> {
  switch (server.kind) {
    case "primary":
      return { gate: server.settings.gate, syncNames: server.settings.syncNames, timeline: server.wal.timeline };
    case "standby":
      return {
        receiver: receiverOf(server),
        lineage: formatLineage(server.wal),
        replayPaused: server.replayPaused || undefined,
      };
    case "unresponsive":
      return { reason: server.reason };
    case "stopped":
      return { how: server.how };
    case "starting":
      return {};
    default:
      return server satisfies never;
  }
}

function receiverOf({ receiver }: Extract<ServerObservation, { kind: "standby" }>): string {
  return receiver.kind === "streaming" ? `streaming from ${receiver.from.host}:${receiver.from.port}` : receiver.kind;
}

function evidenceKey({ sitter, postgresPort, postgresHealthy, alsoSilentFor }: PeerEvidence): string {
  return JSON.stringify([sitter.kind, postgresPort.kind, postgresHealthy, alsoSilentFor]);
}
