// PostgreSQL of one peer, really: the driver behind the port. Joins the parts; each of them is in a file of its own.

import { explainError, ManateeError } from "../../base/errors.ts";
import type { PostgresAction } from "../../cluster/decision.ts";
import { sameNames } from "../../cluster/desired-postgres.ts";
import type { Job, PostgresObservation, PostgresSettings, ServerObservation } from "../../cluster/observation.ts";
import { NAME_BYTES_MAX, type PeerAddress } from "../../cluster/state.ts";
import type { PostgresConfig } from "../../config/types.ts";
import type { PostgresReport } from "../../status/report.ts";
import type { Clock, Log, Random, Timers } from "../../world/port.ts";
import { withLimit } from "../../world/waiting.ts";
import type { PostgresServer, ReplicationPeer } from "../port.ts";
import { type Binaries, findBinaries } from "./binaries.ts";
import type { Context } from "./context.ts";
import { copyByBaseBackup, rewindTo } from "./copy.ts";
import { dataMajor } from "./data-directory.ts";
import { DiskLook, unreadable } from "./disk-look.ts";
import { errorCode } from "./durable.ts";
import { keepFork } from "./forks.ts";
import { adoptData, initialise } from "./initialise.ts";
import { type JobHandle, Jobs } from "./jobs.ts";
import type { PostgresStorage } from "./dataset.ts";
import { noteCopy } from "./last-copies.ts";
import { MarkFile } from "./mark.ts";
import { OperatorRules } from "./operator-rules.ts";
import { OperatorSettings } from "./operator-settings.ts";
import { placesOf } from "./places.ts";
import { Postmaster } from "./postmaster.ts";
import { promote } from "./promotion.ts";
import { describeReport } from "./report.ts";
import { rollBack } from "./roll-back.ts";
import { RunningServer } from "./running-server.ts";
import { ServerLog } from "./server-log.ts";
import { checkpoint, endClients, endReaders, endReceiver, endWalsender, writeMarker } from "./session-actions.ts";
import { CONF_HINT, HBA_HINT, reloadSettings, writeSettingsFiles } from "./settings.ts";
import { KeptSession } from "./kept-session.ts";
import { withConnection } from "./sql.ts";
import { type HeldWal, seedFrom } from "./seed.ts";
import { startServer } from "./start.ts";
import { StorageSide } from "./storage-side.ts";

export interface RealPostgresOptions {
  readonly config: PostgresConfig;
  readonly shard: string;
  readonly self: PeerAddress;
  readonly log: Log;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  /** Of storage whose snapshots cost nothing; undefined: the data directory lies on a plain folder. */
  readonly storage?: PostgresStorage | undefined;
}

export function realPostgres(options: RealPostgresOptions): PostgresServer {
  return new RealPostgres(options);
}

/** A look is a connection or two, and files: past so many limits of one connection, the disk hangs. */
const LOOK_LIMITS = 3;
/** A restored server that has not caught up by then is not waited for: the source's disk is not its to fill. */
const WAL_HELD_MS = 6 * 3_600_000;

class RealPostgres implements PostgresServer {
  readonly #context: Context;
  readonly #jobs: Jobs;
  readonly #postmaster: Postmaster;
  readonly #serverLog: ServerLog;
  readonly #storageSide: StorageSide | undefined;
  readonly #disk: DiskLook;
  readonly #session: KeptSession;
  readonly #listeners = new Set<() => void>();
  #binaries: Promise<Binaries> | undefined;
  /** Files were written that the server has perhaps not taken in: it was not reloaded since, or by a sitter that has ended. */
  #reloadOwed = true;
  /** By the operator's file: why what it says is not in force, as the log has it. */
  readonly #told = new Map<string, string | undefined>();
  #running: RunningServer | undefined;
  #lastObservation: PostgresObservation | undefined;
  /** The look under way. */
  #pending: Promise<PostgresObservation> | undefined;
  #lastCheckWall = 0;
  #heldWal: HeldWal | undefined;

  constructor({ config, shard, self, log, clock, timers, random, storage }: RealPostgresOptions) {
    const places = placesOf(config);
    const onChange = () => {
      for (const listener of this.#listeners) listener();
    };
    this.#postmaster = new Postmaster({ places, port: config.port, clock, timers, onChange });
    this.#jobs = new Jobs({ clock, log, onChange });
    this.#serverLog = new ServerLog(places.serverLog, { log, clock });
    const local = { host: places.socketDir, port: config.port, user: config.superuser, database: "postgres" };
    this.#session = new KeptSession({ target: local, clock, timers });
    this.#context = {
      config,
      shard,
      self,
      places,
      storage,
      log,
      clock,
      timers,
      random,
      mark: new MarkFile(places),
      operatorRules: new OperatorRules(config, places),
      operatorSettings: new OperatorSettings(),
      postmaster: this.#postmaster,
      local,
      binaries: () => this.#findBinaries(),
      ask: (question) => this.#session.ask(config.probeLimitMs, question),
      sql: (use, limitMs = config.probeLimitMs) => withConnection(local, { limitMs, timers }, use),
    };
    this.#storageSide = storage && new StorageSide(this.#context, storage, () => this.#jobs.job !== undefined);
    this.#disk = new DiskLook(this.#context, this.#storageSide);
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async observe(): Promise<PostgresObservation> {
    // A look that hangs is not joined by others: each would take a thread, and there are four. What it finds in the end is old by then.
    const earlier = this.#pending;
    const free = earlier === undefined || (await this.#withinLimit(earlier)) !== undefined;
    this.#pending ??= free ? this.#lookAround().finally(() => (this.#pending = undefined)) : undefined;
    // One that fails after its time is nobody's any more.
    this.#pending?.catch(() => undefined);
    const seen = free && this.#pending ? await this.#withinLimit(this.#pending) : undefined;
    if (!this.#running?.lastLookIsOld) this.#lastCheckWall = this.#context.clock.wall();
    this.#lastObservation = seen ?? this.#withoutDisk();
    return this.#lastObservation;
  }

  /** undefined: it has not ended in time, and goes on. */
  #withinLimit<T>(look: Promise<T>): Promise<T | undefined> {
    const { timers, config } = this.#context;
    return withLimit({ limitMs: config.probeLimitMs * LOOK_LIMITS, timers }, () => look);
  }

  async #lookAround(): Promise<PostgresObservation> {
    const major = await this.#findBinaries().then(
      (binaries) => binaries.major,
      () => undefined,
    );
    // One that ends while the server is looked at counts as under way: what was seen may be of before its end.
    const { job } = this.#jobs;
    const server = await this.#observeServer();
    this.#releaseWal(server);
    const { data, forks } = await this.#disk.look(server, {
      pid: this.#running?.pid,
      busy: job !== undefined,
      major,
    });
    const canRollBack = this.#storageSide !== undefined;
    return { data, server, job, failure: this.#jobs.failure, forks, canRollBack };
  }

  /** A disk that hangs must not make the sitter hang: what was seen before stands, and the server counts as unresponsive. */
  #withoutDisk(): PostgresObservation {
    const before = this.#lastObservation;
    const { job, failure } = this.#jobs;
    const since = before?.server.kind === "unresponsive" ? before.server.since : this.#context.clock.now();
    const process = this.#postmaster.process;
    const hangs: ServerObservation = {
      kind: "unresponsive",
      since,
      reason: "the disk under the data directory does not answer",
    };
    return {
      data: before?.data ?? unreadable("it does not answer"),
      server: process.kind === "stopped" ? process : hangs,
      job,
      failure,
      forks: before?.forks ?? [],
      canRollBack: before?.canRollBack ?? false,
    };
  }

  async applySettings(settings: PostgresSettings, peers: readonly ReplicationPeer[]): Promise<void> {
    this.#demandName();
    const found = await this.#postmaster.look();
    if (found.kind !== "running") throw notRunning("settings can't be applied");
    const inForce = this.#running?.pid === found.pid ? this.#running.settingsInForce : undefined;
    if (await writeSettingsFiles(this.#context, settings, { peers, inForce })) this.#reloadOwed = true;
    if (!this.#reloadOwed && inForce !== undefined && sameSettings(inForce, settings)) return;
    if (this.#running?.kind === "starting") {
      // No session can be opened to check it; the next look after the start shows what is in force.
      this.#postmaster.reload();
      return;
    }
    await this.#reload(settings, { peers, inForce });
    this.#reloadOwed = false;
    this.#running?.settingsApplied(settings);
  }

  /** Where PostgreSQL rejects what is the operator's, without that: what is in force is then what our files say. */
  async #reload(
    settings: PostgresSettings,
    { peers, inForce }: { peers: readonly ReplicationPeer[]; inForce: PostgresSettings | undefined },
  ): Promise<void> {
    const isPrimary = this.#running?.kind === "primary";
    const requiredChange = isPrimary && !(inForce && sameNames(inForce.syncNames, settings.syncNames));
    try {
      await reloadSettings(this.#context, settings, { requiredChange });
    } catch (error) {
      if (!(await this.#doWithout(error))) throw error;
      await writeSettingsFiles(this.#context, settings, { peers, inForce });
      return this.#reload(settings, { peers, inForce });
    }
    await this.#context.operatorRules.accepted();
    this.#tellMistakes();
  }

  /** False: the error is not the operator's files', or they are left out already. */
  async #doWithout(error: unknown): Promise<boolean> {
    const { operatorRules, operatorSettings } = this.#context;
    const code = errorCode(error);
    if (code === "PG_HBA_REJECTED") return operatorRules.reject(explainError(error));
    return code === "PG_CONF_REJECTED" && operatorSettings.hold(this.#context);
  }

  #tellMistakes(): void {
    const { log, operatorRules, operatorSettings } = this.#context;
    const files = [
      { file: "postgresql.conf", warning: operatorSettings.warning, code: "PG_CONF_REJECTED", hint: CONF_HINT },
      { file: "pg_hba.conf", warning: operatorRules.warning, code: "PG_HBA_REJECTED", hint: HBA_HINT },
    ];
    for (const { file, warning, code, hint } of files) {
      if (warning === this.#told.get(file)) continue;
      this.#told.set(file, warning);
      if (warning === undefined) log.info(`the operator's ${file} is taken in`);
      else log.error(`the operator's ${file} is not taken in`, { code, hint, error: warning });
    }
  }

  takeInFiles(): void {
    this.#context.operatorRules.tryAgain();
    this.#context.operatorSettings.release();
    // Whoever has corrected the wrong line is told so again.
    for (const [file, warning] of this.#told) if (warning !== undefined) this.#told.set(file, "");
    this.#reloadOwed = true;
  }

  async perform(action: PostgresAction, peers: readonly ReplicationPeer[]): Promise<void> {
    if (action.kind !== "stop") this.#demandName();
    const begin = (work: (job: JobHandle) => Promise<void>) =>
      this.#jobs.begin(action.kind as Job["kind"], async (job) => {
        await this.#storageSide?.before(action.kind);
        await work(job).finally(() => this.#storageSide?.after());
      });
    const context = this.#context;
    switch (action.kind) {
      case "initdb":
        return begin(({ signal }) => initialise(context, action.incarnation, signal));
      case "start":
        return begin(async ({ signal }) => {
          await this.#serverLog.begin();
          await startServer(context, action, { peers, signal, lastWords: () => this.#lastWords() });
        });
      case "stop":
        return this.#stop(action.mode, begin);
      case "promote":
        return begin(({ signal }) => promote(context, action.timeline, signal));
      case "copy": {
        const { data: decided } = this.#lastObservation ?? (await this.observe());
        return begin((job) => this.#copy({ ...action, decided, job }));
      }
      case "roll-back":
        return begin((job) =>
          this.#noted("roll-back", () => rollBack(context, { from: action.from, fork: action.fork, job })),
        );
      case "rewind":
        return begin((job) => this.#noted("rewind", () => rewindTo(context, action.from, job)));
      case "keep-fork":
        return begin(({ signal }) => keepFork(context, action.name, signal));
      default:
        return this.#short(action);
    }
  }

  async cancelJob(): Promise<void> {
    await this.#jobs.cancel();
  }

  async rememberDocument(document: { version: number; json: string }): Promise<void> {
    const { mark } = this.#context;
    const before = await mark.read();
    if (before === undefined || before === "malformed" || before.lastDocument?.version === document.version) return;
    await mark.update((present) => {
      // Named once, it is data like any other, also when a later document does not name it any more.
      const founding = present.founding && !document.json.includes(present.incarnation);
      return { ...present, founding, lastDocument: document };
    });
  }

  async report(): Promise<PostgresReport> {
    return describeReport({
      observation: this.#lastObservation,
      look: this.#running?.lastLook,
      now: this.#context.clock.now(),
      lastCheckWall: this.#lastCheckWall,
      cancelledWaits: this.#serverLog.cancelledWaits,
      cancelledUpTo: this.#running ? this.#running.cancelledUpTo(this.#serverLog.cancelledWaits) : null,
      mistakes: [this.#context.operatorSettings.warning, this.#context.operatorRules.warning].filter(
        (one) => one !== undefined,
      ),
    });
  }

  async close(how: "leave" | "fast"): Promise<void> {
    await this.#jobs.cancel();
    if (how === "fast") await this.#end("fast");
    this.#releaseWal();
    this.#running?.end();
    this.#session.end();
    this.#postmaster.release();
    this.#listeners.clear();
  }

  // --- the server as it is

  async #observeServer(): Promise<ServerObservation> {
    const found = await this.#postmaster.look();
    if (found.kind === "stopped") {
      this.#running?.end();
      this.#running = undefined;
      await this.#serverLog.read();
      return found;
    }
    if (found.kind === "foreign")
      return {
        kind: "unresponsive",
        since: found.since,
        reason: `process ${found.pid} on this data directory was not started by Manatee`,
      };
    if (this.#running?.pid !== found.pid) {
      this.#running?.end();
      this.#running = new RunningServer(this.#context, found);
      if (found.adopted) await this.#serverLog.adopt();
    }
    const running = this.#running;
    await this.#serverLog.read();
    const seen = await running.observe(this.#serverLog);
    // It may have ended while it was asked.
    if (this.#postmaster.process.kind === "stopped") return this.#postmaster.process;
    return seen;
  }

  // --- actions

  /** From a snapshot of that peer where both sides can, else by a base backup. */
  async #copy(options: Parameters<typeof copyByBaseBackup>[1]): Promise<void> {
    this.#releaseWal();
    const { clock } = this.#context;
    let began = clock.now();
    this.#heldWal = await seedFrom(this.#context, options);
    if (this.#heldWal) return noteCopy(this.#context, { way: "seed", began, bytes: this.#heldWal.bytes });
    began = clock.now();
    const bytes = await copyByBaseBackup(this.#context, options);
    await noteCopy(this.#context, { way: "base-backup", began, bytes });
  }

  async #noted(way: "roll-back" | "rewind", work: () => Promise<void>): Promise<void> {
    const began = this.#context.clock.now();
    await work();
    await noteCopy(this.#context, { way, began, bytes: undefined });
  }

  /** What the source keeps for a server that was restored is needed until that has it. */
  #releaseWal(server?: ServerObservation): void {
    const held = this.#heldWal;
    if (!held) return;
    const isLate = this.#context.clock.now() - held.since > WAL_HELD_MS;
    const has = server?.kind === "standby" && server.receiver.kind === "streaming" && server.wal.end >= held.until;
    if (server && !has && !isLate) return;
    held.release();
    this.#heldWal = undefined;
  }

  async #stop(mode: "fast" | "immediate", begin: (work: (job: JobHandle) => Promise<void>) => void): Promise<void> {
    // A stop ends whatever else is under way: a start, or the waiting for a promotion.
    if (this.#jobs.job?.kind === "start" || this.#jobs.job?.kind === "promote") await this.#jobs.cancel();
    begin(() => this.#end(mode));
    if (mode === "immediate") await this.#jobs.ended();
  }

  /** A fast stop ends all sessions at once, also where a commit waits that others must not see (I3): those that could read it end first. */
  async #end(mode: "fast" | "immediate"): Promise<void> {
    const readable = mode === "fast" && this.#running?.lastLook?.primary === true;
    if (readable) await endReaders(this.#context).catch(() => undefined);
    await this.#postmaster.stop(mode, this.#context.config.stopLimitMs);
  }

  async #short(action: Exclude<PostgresAction, { kind: Job["kind"] }>): Promise<void> {
    const context = this.#context;
    try {
      switch (action.kind) {
        case "adopt-data":
          await adoptData(context, action.incarnation, new AbortController().signal);
          break;
        case "mark-claim":
          await context.mark.update((mark) => ({
            ...mark,
            claim: action.version === undefined ? undefined : { version: action.version },
          }));
          break;
        case "renew-incarnation":
          await context.mark.update((mark) => ({
            ...mark,
            incarnation: action.incarnation,
            ...(action.leaving && { leaving: action.leaving }),
            // Set when its data has come from there: until then it must not be started as if it had.
            source: undefined,
            founding: false,
          }));
          break;
        case "write-marker":
          await this.#writeMarker(action);
          break;
        case "end-walsender":
          await endWalsender(context, action.pid);
          break;
        case "end-receiver":
          await endReceiver(context, action.pid);
          break;
        case "end-clients":
          await endClients(context);
          break;
        case "checkpoint":
          await checkpoint(context);
          break;
        default:
          action satisfies never;
      }
      this.#jobs.succeeded(action.kind);
    } catch (error) {
      this.#jobs.failed(action.kind, error);
      throw error;
    }
  }

  async #writeMarker({ token, checkpoint = false }: { token: string; checkpoint?: boolean }): Promise<void> {
    const lsn = await writeMarker(this.#context, { token, checkpoint });
    this.#running?.markerWritten({ token, lsn, checkpointed: checkpoint });
  }

  /** Names its binaries once; a failure is looked into again each time, since an operator may install them meanwhile. */
  #findBinaries(): Promise<Binaries> {
    this.#binaries ??= (async () => {
      const { config, places, log } = this.#context;
      const configured = config.version === undefined ? undefined : Number.parseInt(config.version, 10);
      const binaries = await findBinaries({ binDir: config.binDir, major: configured ?? (await dataMajor(places)) });
      log.info("PostgreSQL found", {
        version: binaries.version,
        folder: binaries.binDir,
        source: binaries.source,
        pgRewind: binaries.rewind !== undefined,
      });
      return binaries;
    })().catch((error: unknown) => {
      this.#binaries = undefined;
      throw error;
    });
    return this.#binaries;
  }

  async #lastWords(): Promise<string> {
    await this.#serverLog.read();
    return this.#serverLog.lastWords();
  }

  #demandName(): void {
    const { pgUrl } = this.#context.self;
    if (Buffer.byteLength(pgUrl) <= NAME_BYTES_MAX) return;
    throw new ManateeError({
      code: "PG_NAME_TOO_LONG",
      message: `the peer's URL ${pgUrl} is longer than ${NAME_BYTES_MAX} bytes, at which PostgreSQL cuts a standby's name`,
      remedy: "operator",
      hint: "Shorten host, user or database in the peer's URL.",
    });
  }
}

function sameSettings(a: PostgresSettings, b: PostgresSettings): boolean {
  return (
    a.gate === b.gate &&
    a.upstream?.id === b.upstream?.id &&
    a.upstream?.pgUrl === b.upstream?.pgUrl &&
    sameNames(a.syncNames, b.syncNames)
  );
}

function notRunning(what: string): ManateeError {
  return new ManateeError({
    code: "PG_NOT_RUNNING",
    message: `${what}: the server does not run`,
    remedy: "reobserve",
    hint: "Nothing has to be done: the peer decides afresh.",
  });
}
