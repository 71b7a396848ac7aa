// Does what was decided: the announcement, the settings, then the one action. It holds no opinion of its own, but one: a state that
// violates an invariant is never sent.

import { explainError, howToLog } from "../base/errors.ts";
import { formatLsn, type Lsn } from "../base/lsn.ts";
import { encodeState, generationIn } from "../cluster/codec.ts";
import type { Action, Decision, PostgresAction, StoreAction } from "../cluster/decision.ts";
import { sameNames } from "../cluster/desired-postgres.ts";
import { checkTransition } from "../cluster/invariants.ts";
import { markOf, type Observation, type PostgresSettings, type ServerObservation } from "../cluster/observation.ts";
import { membersOf } from "../cluster/state.ts";
import type { PostgresServer, ReplicationPeer } from "../postgres/port.ts";
import type { World } from "../world/port.ts";
import { Backoff } from "./backoff.ts";
import type { RebuildRequest } from "./rebuild-request.ts";
import type { StoreSide } from "./store-side.ts";

const SETTINGS = "settings";
const REMEMBER = "remember";

export class Executor {
  readonly #postgres: PostgresServer;
  readonly #store: StoreSide;
  readonly #rebuild: RebuildRequest;
  readonly #world: World;
  readonly #backoff = new Backoff();
  /** From where replication is admitted, as last applied; undefined: not known to be in force. */
  #appliedPeers: string | undefined;
  /** By the decision that is being applied. */
  #done = false;

  constructor(options: { postgres: PostgresServer; store: StoreSide; rebuild: RebuildRequest; world: World }) {
    this.#postgres = options.postgres;
    this.#store = options.store;
    this.#rebuild = options.rebuild;
    this.#world = options.world;
  }

  /** The settings are to be written again though they are as they should be: an operator's own files changed. */
  applyAgain(): void {
    this.#appliedPeers = undefined;
  }

  /** Whether something was done, which shows when PostgreSQL is looked at again. */
  async apply(decision: Decision, observation: Observation): Promise<boolean> {
    this.#done = false;
    const peers = replicationPeers(observation);
    // What was decided while cut off says nothing about the election.
    if (observation.store.connection.kind === "connected") this.#store.announce(decision.announce);
    if (decision.cancelJob && observation.postgres.job)
      await this.#attempt("cancel-job", () => this.#postgres.cancelJob());
    const inForce = await this.#applySettings(decision.settings, observation.postgres.server, peers);
    if (decision.action) await this.#act(decision.action, { observation, inForce, peers });
    await this.#remember(observation);
    return this.#done;
  }

  /** Whether the action may follow. A server that isn't running has no settings: what it gets at its start stands in that action. */
  async #applySettings(
    wanted: PostgresSettings | undefined,
    server: ServerObservation,
    peers: readonly ReplicationPeer[],
  ): Promise<boolean> {
    if (wanted === undefined || (server.kind !== "primary" && server.kind !== "standby")) return true;
    const admitted = peers.map(({ ip }) => ip).join(" ");
    if (sameSettings(wanted, server) && admitted === this.#appliedPeers) return true;
    const applied = await this.#attempt(SETTINGS, () => this.#postgres.applySettings(wanted, peers), {
      syncNames: wanted.syncNames,
      gate: wanted.gate,
      upstream: wanted.upstream?.id ?? null,
    });
    if (applied) this.#appliedPeers = admitted;
    return applied;
  }

  async #act(
    action: Action,
    { observation, inForce, peers }: { observation: Observation; inForce: boolean; peers: readonly ReplicationPeer[] },
  ): Promise<void> {
    if (action.kind === "write") {
      if (inForce && this.#mayBeSent(action, observation)) this.#store.write(action);
      else this.#store.notSent(action);
      return;
    }
    if (!inForce) return;
    const began = await this.#attempt(action.kind, () => this.#postgres.perform(action, peers), describe(action));
    // A start writes its files by the peers of that moment.
    if (action.kind === "start") this.#appliedPeers = undefined;
    if (began) this.#noticeRebuild(action, observation);
  }

  /** A copy names its data itself; the other ways leave it the name that it was given before. */
  #noticeRebuild(action: PostgresAction, { postgres: { data } }: Observation): void {
    if (action.kind === "copy") this.#rebuild.began({ by: "copy", incarnation: action.incarnation, from: action.from });
    if (action.kind !== "roll-back" && action.kind !== "rewind") return;
    const mark = markOf(data);
    if (mark) this.#rebuild.began({ by: action.kind, incarnation: mark.incarnation, from: action.from });
  }

  /** I2, I5: the last check of a document before it leaves this process. */
  #mayBeSent({ state, version }: StoreAction, { store }: Observation): boolean {
    const before = store.shard.kind === "document" ? store.shard : undefined;
    if (before?.version !== version) {
      this.#world.log.warn("state not written: it is for another version than the one read", { version });
      return false;
    }
    const violations = checkTransition(before?.state, state, { kind: "agent" });
    if (violations.length === 0) return true;
    this.#world.log.error("state not written: it violates an invariant", {
      code: "STATE_INVARIANT",
      hint: "Freeze the shard with manatee-adm freeze, and report this line as a bug.",
      violations,
      rule: state.rule,
      reason: state.reason,
      document: encodeState(state),
    });
    return false;
  }

  /** B1: the durable copy of the newest document, beside the data. Not while a job rewrites them. */
  async #remember({ store, postgres }: Observation): Promise<void> {
    const { data, job } = postgres;
    if (store.shard.kind !== "document" || job || data.kind !== "present" || !data.mark || data.mark.incomplete) return;
    const { state, version } = store.shard;
    const { lastDocument } = data.mark;
    if (lastDocument?.version === version || generationIn(lastDocument?.json ?? "") > state.generation) return;
    const json = encodeState(state);
    await this.#attempt(REMEMBER, () => this.#postgres.rememberDocument({ version, json }));
  }

  /** Whether it was done. One that failed is left alone for a while; looking again brings it back. */
  async #attempt(
    kind: string,
    call: () => Promise<void>,
    fields: Readonly<Record<string, unknown>> = {},
  ): Promise<boolean> {
    const { clock, log } = this.#world;
    if (this.#backoff.remainingMs(kind, clock.now()) > 0) return false;
    const began = clock.now();
    try {
      await call();
    } catch (error) {
      if (isProgrammerError(error)) throw error;
      this.#backoff.failed(kind, clock.now());
      const { level, known } = howToLog(error);
      log[level]("action failed", { action: kind, ...fields, ...known, error: explainError(error) });
      return false;
    }
    this.#backoff.succeeded(kind);
    if (kind !== REMEMBER) this.#done = true;
    log[kind === REMEMBER ? "debug" : "info"]("action", {
      action: kind,
      ...fields,
      tookMs: Math.round(clock.now() - began),
    });
    return true;
  }
}

function sameSettings(
  wanted: PostgresSettings,
  server: Extract<ServerObservation, { kind: "primary" | "standby" }>,
): boolean {
  const { syncNames, gate, upstream } = server.settings;
  const sameUpstream = server.kind === "primary" || upstream?.id === wanted.upstream?.id;
  return sameNames(syncNames, wanted.syncNames) && gate === wanted.gate && sameUpstream;
}

/** All that are or may become peers of the shard, in a fixed order, so that the files change only when they do. */
function replicationPeers({ store, self }: Observation): readonly ReplicationPeer[] {
  const members = store.shard.kind === "document" ? membersOf(store.shard.state) : [];
  const ips = [self, ...members, ...store.election.map(({ peer }) => peer)].map(({ ip }) => ip);
  return [...new Set(ips)].sort().map((ip) => ({ ip }));
}

/** The action's fields as a line of the log shows them: a peer by its id, a position as PostgreSQL writes it. */
function describe(action: PostgresAction): Readonly<Record<string, unknown>> {
  const { kind: _, ...fields } = action;
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, shown(value)]));
}

function shown(value: unknown): unknown {
  if (typeof value === "bigint") return formatLsn(value as Lsn);
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  if ("id" in value) return value.id;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, shown(inner)]));
}

function isProgrammerError(error: unknown): boolean {
  return error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError;
}
