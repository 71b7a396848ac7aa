// The server that runs: looks at it, and what is remembered of it from one look to the next. One object a process.

import { explainError } from "../../base/errors.ts";
import type { WalPoint } from "../../base/lineage.ts";
import type { Lsn } from "../../base/lsn.ts";
import type { PeerId } from "../../base/peer-id.ts";
import type { Ms } from "../../base/units.ts";
import type { PostgresSettings, ServerObservation, Walsender } from "../../cluster/observation.ts";
import { segmentNumber } from "../wal-segments.ts";
import type { Context } from "./context.ts";
import { errorCode } from "./durable.ts";
import { KeptSession } from "./kept-session.ts";
import { type Look, lookAtServer } from "./look.ts";
import type { RemovedWal, ServerLog } from "./server-log.ts";
import { CANNOT_CONNECT_NOW, type SqlSession, TOO_MANY_CONNECTIONS } from "./sql.ts";

/** What the server's log says of it. */
type LogWords = Pick<ServerLog, "cannotGoOn" | "cancelledWaits" | "removedWal">;

type Kind = "starting" | "unresponsive" | "primary" | "standby";

export class RunningServer {
  readonly pid: number;
  readonly #context: Context;
  /** A walsender's, which answers what only it knows of a standby. */
  readonly #walsender: KeptSession;
  #kind: Kind = "starting";
  /** Since when it is of that kind. */
  #since: Ms;
  #look: Look | undefined;
  #lookIsOld = false;
  #recoveredEnd: Lsn | undefined;
  #commitsWait: boolean | "after a checkpoint" = false;
  /** By walsender: the last report of its standby, and when it was first seen. Its own time in it is the standby's clock: only that it changes counts. */
  #reports: ReadonlyMap<number, { readonly report: string; readonly at: Ms }> = new Map();
  /** Waits for standbys that were cancelled: so many had been told of before the last look that was answered, and where the WAL ended then. */
  #cancelled: { readonly counted: number; readonly upTo: WalPoint | undefined } = { counted: 0, upTo: undefined };
  /** From whom it receives, or did last, and how often it had been told of removed WAL before. */
  #upstream: { readonly id: PeerId; readonly toldBefore: number } | undefined;
  #marker: { readonly token: string; readonly lsn: Lsn } | undefined;

  constructor(context: Context, { pid, since }: { pid: number; since: Ms }) {
    this.#context = context;
    const { local, clock, timers } = context;
    this.#walsender = new KeptSession({ target: { ...local, replication: "database" }, clock, timers });
    this.pid = pid;
    this.#since = since;
  }

  get kind(): Kind {
    return this.#kind;
  }

  /** The last one that was answered. */
  get lastLook(): Look | undefined {
    return this.#look;
  }

  /** It did not answer since: what is told of it was true then. */
  get lastLookIsOld(): boolean {
    return this.#lookIsOld;
  }

  /** Where the commits end of which so many waits were cancelled; null: none was. undefined: not known, since no look has come after the last of them. */
  cancelledUpTo(cancelledWaits: number): WalPoint | null | undefined {
    const { counted, upTo } = this.#cancelled;
    return cancelledWaits > counted ? undefined : (upTo ?? null);
  }

  /** As last seen; undefined: it did not answer the last time, so that nothing is known to be in force. */
  get settingsInForce(): PostgresSettings | undefined {
    return this.#kind === "primary" || this.#kind === "standby" ? this.#look?.settings : undefined;
  }

  settingsApplied(settings: PostgresSettings): void {
    // That commits wait is a flag that the checkpointer sets when it takes in the first list that is not empty.
    if (this.#look?.primary && this.#look.settings.syncNames.length === 0 && settings.syncNames.length > 0)
      this.#commitsWait = "after a checkpoint";
    if (this.#look) this.#look = { ...this.#look, settings };
  }

  markerWritten({ token, lsn, checkpointed }: { token: string; lsn: Lsn; checkpointed: boolean }): void {
    if (checkpointed) this.#commitsWait = true;
    this.#marker = { token, lsn };
  }

  /** Nothing is asked any more. */
  end(): void {
    this.#walsender.end();
  }

  /** Asks, on a connection that is not much older than what the log says. */
  async observe({ cannotGoOn, cancelledWaits, removedWal }: LogWords): Promise<ServerObservation> {
    try {
      const look = await this.#ask();
      this.#look = look;
      this.#noteCancelled(look, cancelledWaits);
      this.#noteUpstream(look, removedWal);
      this.#lookIsOld = false;
      this.#become(look.primary ? "primary" : "standby");
      return this.#describe(look, { cannotGoOn, removedWal });
    } catch (error) {
      // Every slot taken is proof of life. Positions are not known by it: a standby's of before must not count.
      this.#lookIsOld = true;
      if (errorCode(error) === TOO_MANY_CONNECTIONS && this.#look)
        return this.#describe({ ...this.#look, caughtUpLocally: false }, { cannotGoOn, removedWal });
      if (this.#isStarting(error)) {
        this.#become("starting");
        return { kind: "starting", since: this.#since };
      }
      this.#become("unresponsive");
      return { kind: "unresponsive", since: this.#since, reason: explainError(error) };
    }
  }

  /** What was told of before a look had been flushed before it: the WAL's end, as this look shows it, lies behind all these commits. */
  #noteCancelled({ primary, wal: { timeline, end } }: Look, counted: number): void {
    if (counted === this.#cancelled.counted) return;
    // On a standby nothing waits: somebody said so who only pretends.
    this.#cancelled = { counted, upTo: primary ? { timeline, lsn: end } : this.#cancelled.upTo };
  }

  /** While it receives from nobody, what the last one said stands. */
  #noteUpstream({ settings: { upstream } }: Look, removedWal: RemovedWal | undefined): void {
    if (upstream === null || upstream.id === this.#upstream?.id) return;
    this.#upstream = { id: upstream.id, toldBefore: removedWal?.told ?? 0 };
  }

  /**
   * Told by one upstream, of a segment that is still needed here: that of the last whole record's end, or, behind the first part of a record, a later one. Once may
   * be the last word of the upstream before.
   */
  #walGoneAt({ wal, segmentBytes }: Look, removedWal: RemovedWal | undefined): PeerId | undefined {
    if (removedWal === undefined || this.#upstream === undefined) return undefined;
    if (removedWal.told - this.#upstream.toldBefore < 2) return undefined;
    const gone = segmentNumber(removedWal.segment, segmentBytes);
    return gone !== undefined && gone >= wal.end / segmentBytes ? this.#upstream.id : undefined;
  }

  async #ask(): Promise<Look> {
    const { config, places, ask } = this.#context;
    const standbyExpected = this.#look?.primary === false;
    const { superuser, replicationUser } = config;
    const sessions = {
      ask,
      askWalsender: <T>(question: (session: SqlSession) => Promise<T>) =>
        this.#walsender.ask(config.probeLimitMs, question),
    };
    const options = { dataDir: places.dataDir, standbyExpected, roles: { superuser, replicationUser } };
    // Recovery may end while it is asked.
    const look =
      (await lookAtServer(sessions, options)) ?? (await lookAtServer(sessions, { ...options, standbyExpected: false }));
    if (look === undefined) throw new Error("its answer is incomplete");
    return look;
  }

  #isStarting(error: unknown): boolean {
    const code = errorCode(error) ?? "";
    if (code === CANNOT_CONNECT_NOW) return !explainError(error).includes("shutting down");
    // Between its start and its socket.
    return this.#kind === "starting" && (code === "ENOENT" || code === "ECONNREFUSED");
  }

  #withSilence({ walsenders, replication }: Look): readonly Walsender[] {
    const now = this.#context.clock.now();
    const seen = replication.map((row): [number, { report: string; at: Ms }] => {
      const pid = Number(row["pid"]);
      const report = row["reply_time"] ?? "";
      const before = this.#reports.get(pid);
      return [pid, before?.report === report ? before : { report, at: now }];
    });
    this.#reports = new Map(seen);
    return walsenders.map((walsender) => ({
      ...walsender,
      silentMs: now - (this.#reports.get(walsender.pid)?.at ?? now),
    }));
  }

  #become(kind: Kind): void {
    if (this.#kind !== kind) this.#since = this.#context.clock.now();
    this.#kind = kind;
  }

  #describe(look: Look, { cannotGoOn, removedWal }: Omit<LogWords, "cancelledWaits">): ServerObservation {
    const since = this.#since;
    const { wal, settings, walsenders, clientSessions } = look;
    if (!look.primary) {
      const { replayed, caughtUpLocally, replayPaused, partialRecord, receiver } = look;
      this.#recoveredEnd = undefined;
      return {
        kind: "standby",
        since,
        wal,
        replayed,
        caughtUpLocally,
        replayPaused,
        partialRecord,
        settings,
        walGoneAt: this.#walGoneAt(look, removedWal),
        receiver,
        walsenders,
        clientSessions,
      };
    }
    this.#recoveredEnd ??= wal.end;
    if (look.checkpointerIdle && this.#commitsWait === false) this.#commitsWait = true;
    return {
      kind: "primary",
      since,
      wal,
      recoveredEnd: this.#recoveredEnd,
      commitsWait: this.#commitsWait === true,
      settings,
      walsenders: this.#withSilence(look),
      marker: this.#marker,
      cancelledUpTo: this.#cancelled.upTo,
      clientSessions,
      cannotGoOn,
    };
  }
}
