// The agent: observe → decide → act, forever. Level-triggered: an event only means "look again", and everything that is known is looked at
// each time. What to do is decided in cluster/ alone; here it is only brought about, on ports that were handed in.

import { explainError } from "../base/errors.ts";
import type { WalPoint } from "../base/lineage.ts";
import { parseLsn } from "../base/lsn.ts";
import type { Ms } from "../base/units.ts";
import { isSettled, settledPoint } from "../cluster/commits-in-doubt.ts";
import { type Decision, type Memory, NEW_MEMORY } from "../cluster/decision.ts";
import type { Observation, PostgresObservation } from "../cluster/observation.ts";
import type { SitterConfig } from "../config/types.ts";
import type { Coordination, Session } from "../coordination/port.ts";
import { PeerWatch } from "../peers/peer-watch.ts";
import { readSecret } from "../peers/secret-file.ts";
import type { PostgresServer } from "../postgres/port.ts";
import type { ShardStore } from "../shard/port.ts";
import { buildReport } from "../status/build-report.ts";
import type { JournalEntry, PeerReport, PostgresReport } from "../status/report.ts";
import type { StatusSource } from "../status/service.ts";
import type { ByteStream, World } from "../world/port.ts";
import { pause, withLimit } from "../world/waiting.ts";
import { Bell } from "./bell.ts";
import { doubtsAbout, otherPeers } from "./doubts.ts";
import { Executor } from "./execute.ts";
import { Journal } from "./journal.ts";
import { HistoryTrimmer } from "./history-trimmer.ts";
import { checkIdentity } from "./identity.ts";
import { RebuildRequest } from "./rebuild-request.ts";
import { Registrar } from "./registrar.ts";
import { StoreSide } from "./store-side.ts";
import { statementOf } from "./statement.ts";
import { Story } from "./story.ts";
import { TicketFile } from "./ticket.ts";

/** Between two looks: events that come in bursts cost one look. Far below what a failover takes. */
const ROUND_INTERVAL_MIN_MS: Ms = 20;
/** How long a stop waits for the action that is being done. */
const ROUND_LIMIT_AT_STOP_MS: Ms = 10_000;

export interface SitterOptions {
  readonly config: SitterConfig;
  readonly world: World;
  readonly coordination: Coordination;
  readonly makeShardStore: (session: Session) => ShardStore;
  readonly postgres: PostgresServer;
  readonly decide: (observation: Observation, memory: Memory) => Decision;
}

export class Sitter implements StatusSource {
  readonly #world: World;
  readonly #postgres: PostgresServer;
  readonly #decide: SitterOptions["decide"];
  /** Names this run, so that a second sitter of the same name is told from this one. */
  readonly #run: string;
  readonly #bell: Bell;
  readonly #story: Story;
  readonly #store: StoreSide;
  readonly #peers: PeerWatch;
  readonly #rebuild: RebuildRequest;
  readonly #executor: Executor;
  readonly #registrar: Registrar | undefined;
  readonly #trimmer: HistoryTrimmer;
  #config: SitterConfig;
  #memory: Memory = NEW_MEMORY;
  readonly #journal: Journal;
  #last: { readonly observation: Observation; readonly decision: Decision } | undefined;
  #postgresReport: PostgresReport | undefined;
  /** Commits in doubt up to there have reached the sync. */
  #settled: WalPoint | undefined;
  #roundEndedAt: Ms;
  #stopping = false;
  #fatal: { readonly error: unknown } | undefined;
  #running: Promise<void> | undefined;

  constructor({ config, world: outside, coordination, makeShardStore, postgres, decide }: SitterOptions) {
    this.#journal = new Journal(outside.clock);
    const world = { ...outside, log: this.#journal.keep(outside.log) };
    this.#config = config;
    this.#world = world;
    this.#postgres = postgres;
    this.#decide = decide;
    this.#run = world.random.hex(8);
    this.#roundEndedAt = world.clock.now();
    this.#bell = new Bell(world.timers);
    this.#story = new Story(world.log);
    const onChange = this.#bell.ring;
    this.#store = new StoreSide({
      coordination,
      makeShardStore,
      sessionTimeoutMs: config.store.sessionTimeoutMs,
      self: config.self,
      tickets: new TicketFile({ path: `${config.stateDir}/session.json`, store: coordination.description, world }),
      world,
      onChange,
      checkIdentity: () =>
        checkIdentity({ world, self: config.self, run: this.#run, limitMs: config.peerProbeLimitMs }),
      onFatal: (error) => this.#fail(error),
    });
    this.#peers = new PeerWatch({
      world,
      self: { shard: config.shard, id: config.self.id, run: this.#run },
      secret: () => readSecret(world.files, config.postgres.replicationPasswordFile),
      silence: config.peers.silence,
      intervalMs: config.healthCheckIntervalMs,
      limitMs: config.peerProbeLimitMs,
      onChange,
    });
    this.#rebuild = new RebuildRequest({ path: `${config.stateDir}/rebuild.json`, world, onChange });
    this.#executor = new Executor({ postgres, store: this.#store, rebuild: this.#rebuild, world });
    const { shard, self, registrar } = config;
    if (registrar.enabled)
      this.#registrar = new Registrar({ shard, pgUrl: self.pgUrl, ttlSeconds: registrar.ttlSeconds, world });
    this.#trimmer = new HistoryTrimmer({ keep: config.historyKept, world });
  }

  /** Until {@link stop}. Rejects where this sitter must not go on; PostgreSQL is then left as it is. */
  run(): Promise<void> {
    this.#running ??= this.#runUntilStopped();
    return this.#running;
  }

  /**
   * Ends the loop, then, in this order: this peer's place in the election and its session, then PostgreSQL (`fast`). `leave` leaves
   * PostgreSQL running and the session to the store, for a sitter that is started again soon. Bounded, never rejects.
   */
  async stop({ postgres }: { postgres: "leave" | "fast" }): Promise<void> {
    this.#stopping = true;
    if (this.#last) {
      const { observation, decision } = this.#last;
      const leaving = postgres === "fast" ? "host" : "sitter";
      this.#peers.say({ ...statementOf(observation, decision), leaving });
    }
    this.#bell.ring();
    const ended = this.#running?.catch(() => undefined) ?? Promise.resolve();
    await withLimit({ limitMs: ROUND_LIMIT_AT_STOP_MS, timers: this.#world.timers }, () => ended);
    this.#peers.stop();
    this.#registrar?.stop();
    if (postgres === "fast") await this.#store.close();
    else await this.#store.abandon();
    await this.#postgres.close(postgres).catch((error: unknown) => {
      this.#world.log.warn("PostgreSQL not closed in order", { error: explainError(error) });
    });
    this.#world.log.info("sitter stopped", { postgres });
  }

  /** Takes over policy and tags of that configuration and how often it looks, and has PostgreSQL's settings and the operator's files applied again. */
  reload(config: SitterConfig): void {
    const { policy, tags, healthCheckIntervalMs } = config;
    this.#config = { ...this.#config, policy, tags, healthCheckIntervalMs };
    this.#postgres.takeInFiles();
    this.#executor.applyAgain();
    this.#world.log.info("configuration taken again", { policy, tags });
    this.#bell.ring();
  }

  report(): PeerReport | undefined {
    if (!this.#last || !this.#postgresReport) return undefined;
    return buildReport({
      ...this.#last,
      config: this.#config,
      run: this.#run,
      now: this.#world.clock.now(),
      decidedSince: this.#story.decidedSince,
      postgres: this.#withoutSettled(this.#withProblem(this.#postgresReport)),
      silent: this.#peers.silent(),
      evaluationOnly: this.#store.session?.evaluationOnly ?? false,
    });
  }

  /** A request that does nothing is seen by whoever looks why. */
  #withProblem(report: PostgresReport): PostgresReport {
    const { problem } = this.#rebuild;
    return problem === undefined ? report : { ...report, warnings: [...report.warnings, problem] };
  }

  /** PostgreSQL's side knows what is in doubt, and not whose word settles it. */
  #withoutSettled(report: PostgresReport): PostgresReport {
    const { timeline = null, upTo = null } = report.inDoubt ?? {};
    const position = upTo === null ? undefined : parseLsn(upTo);
    if (timeline === null || position === undefined) return report;
    return isSettled(this.#settled, { timeline, lsn: position }) ? { ...report, inDoubt: null } : report;
  }

  journal(between: { fromWallMs: number; toWallMs: number }): readonly JournalEntry[] {
    return this.#journal.entries(between);
  }

  /** A stream that another sitter has opened to this one. */
  acceptStream(stream: ByteStream): void {
    this.#peers.accept(stream);
  }

  roundAgeMs(): Ms {
    return this.#world.clock.now() - this.#roundEndedAt;
  }

  async #runUntilStopped(): Promise<void> {
    const { log, clock, timers } = this.#world;
    log.info("sitter starts", { peer: this.#config.self.id, shard: this.#config.shardPath, run: this.#run });
    const unsubscribe = this.#postgres.onChange(this.#bell.ring);
    try {
      await this.#store.open();
      while (!this.#stopping) {
        const began = clock.now();
        const lookAgainAfterMs = await this.#round();
        if (this.#fatal) throw this.#fatal.error;
        await this.#bell.wait(Math.min(lookAgainAfterMs, this.#config.healthCheckIntervalMs));
        const early = began + ROUND_INTERVAL_MIN_MS - clock.now();
        if (early > 0) await pause(timers, early);
      }
    } finally {
      unsubscribe();
    }
  }

  /** When to look again: what was done shows at once. */
  async #round(): Promise<Ms> {
    const observation = this.#observe(await this.#postgres.observe());
    this.#noticeDoubts(observation);
    const decision = this.#decide(observation, this.#memory);
    this.#memory = decision.memory;
    this.#settled = settledPoint(this.#settled, observation, decision.memory);
    this.#story.tellObservation(observation);
    this.#story.tellDecision(decision, observation);
    this.#last = { observation, decision };
    this.#peers.say(statementOf(observation, decision));
    void this.#refreshReport();
    const done = await this.#executor.apply(decision, observation);
    const session = this.#store.connected ? this.#store.session : undefined;
    this.#registrar?.follow(observation, session);
    this.#trimmer.follow(observation, session && this.#store.shard);
    this.#roundEndedAt = this.#world.clock.now();
    return done ? 0 : decision.lookAgainAfterMs;
  }

  #observe(postgres: PostgresObservation): Observation {
    const { clock, random } = this.#world;
    const { self, policy, tags, shard } = this.#config;
    const store = this.#store.observe();
    this.#peers.follow(otherPeers({ self, store }));
    this.#rebuild.notice(postgres);
    this.#rebuild.look();
    return {
      now: clock.now(),
      wallMs: clock.wall(),
      nonce: random.hex(8),
      shard,
      self,
      policy,
      tags,
      store,
      postgres,
      peers: this.#peers.evidence(),
      rebuildRequested: this.#rebuild.wish,
    };
  }

  /** Beside the loop: it is for people and tools. */
  async #refreshReport(): Promise<void> {
    try {
      this.#postgresReport = await this.#postgres.report();
    } catch (error) {
      this.#world.log.warn("no report of PostgreSQL", { error: explainError(error) });
    }
  }

  #noticeDoubts(observation: Observation): void {
    if (!this.#last) return;
    for (const id of doubtsAbout(this.#last.observation, observation)) this.#peers.lookNow(id);
  }

  #fail(error: unknown): void {
    this.#fatal ??= { error };
    this.#bell.ring();
  }
}
