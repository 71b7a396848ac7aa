// Puts a peer's data back to one of its snapshots, offline: first tried on a copy that is thrown away, which shows where it ends; then made ready beside the dataset, and put in its place
// as a roll-back is (swap.ts). What was there stays whole as a fork. The rest of the shard is not touched.

import { join } from "node:path";
import { explainError, ManateeError } from "../../base/errors.ts";
import { formatLsn } from "../../base/lsn.ts";
import type { Ms } from "../../base/units.ts";
import type { DataMark } from "../../cluster/observation.ts";
import type { PostgresConfig } from "../../config/types.ts";
import type { Log } from "../../world/port.ts";
import type { CloneSource } from "../clones.ts";
import type { RestoreEnd, RestorePlace, Restores, RestoreTarget, RestoreWish } from "../restore.ts";
import { endServer, type KeptClonesOptions, unmountWhenLeft } from "./clones.ts";
import { readControlFile } from "./control-file.ts";
import {
  datasetAway,
  demandInPlace,
  forkDataset,
  forkNameOf,
  keptForkNames,
  lookDataset,
  type PostgresStorage,
  stagedDataset,
} from "./dataset.ts";
import { flushFileSystem, writeDurably } from "./durable.ts";
import { keptFolders } from "./forks.ts";
import { endLeftovers } from "./leftovers.ts";
import { linksOutside, snapshotLeadsOut } from "./links-outside.ts";
import { demandOwner } from "./make-clone.ts";
import { formatMark, MARK_FILE, MarkFile, markIn } from "./mark.ts";
import { type Places, placesOf } from "./places.ts";
import { postgresProcessesOn } from "./processes.ts";
import { startRecovered } from "./recovered-server.ts";
import { backupStart } from "./roll-back.ts";
import { cleanSnapshot, discardStaged } from "./staged.ts";
import { settleSwap, swapIn } from "./swap.ts";
import { readLineage } from "./timeline-history.ts";
import { addWal, cutWal, dropLaterTimelines } from "./wal-files.ts";

export interface PeerRestoresOptions extends Pick<KeptClonesOptions, "clock" | "timers"> {
  readonly config: PostgresConfig;
  readonly storage: PostgresStorage;
  readonly log: Log;
  /** Of the sitter's locks. */
  readonly hold: Restores["hold"];
}

/** Of the socket's file only: nothing listens on TCP. */
const PORT = 5432;
const SQL_LIMIT_MS: Ms = 20_000;

/** Of the peer that this configuration describes. */
export class PeerRestores implements Restores {
  readonly #options: PeerRestoresOptions;
  readonly #places: Places;
  readonly #mark: MarkFile;

  constructor(options: PeerRestoresOptions) {
    this.#options = options;
    this.#places = placesOf(options.config);
    this.#mark = new MarkFile(this.#places);
  }

  hold(): Promise<{ release(): void }> {
    return this.#options.hold();
  }

  async place(): Promise<RestorePlace> {
    const { storage, dataset } = this.#options.storage;
    await demandOwner(this.#places.dataDir);
    if (!(await storage.look(dataset))) throw datasetAway(`there is no dataset ${dataset}`);
    const { shared } = await storage.capabilities();
    const { used, free } = await storage.space(dataset);
    const freePercent = used + free === 0 ? 100 : Math.floor((free * 100) / (used + free));
    // A fork holds another history.
    const snapshots = (await storage.snapshots(dataset)).filter((one) => forkNameOf(one) === undefined);
    return { snapshots, shared, freePercent, forks: await this.#forks() };
  }

  async try({ snapshot, to, limitMs, onStep }: RestoreWish & { limitMs: Ms }): Promise<RestoreEnd> {
    const { storage, dataset } = this.#options.storage;
    await demandOwner(this.#places.dataDir);
    const clone = lookDataset(dataset);
    // Of one that was cut short.
    await this.#removeLook();
    onStep(`clones ${snapshot.name}, to try it`);
    await storage.clone({ dataset, name: snapshot.name }, clone);
    try {
      const { folder } = await storage.mount(clone);
      if (to) await this.#addOwnWal(folder);
      return await this.#recover(folder, { to, limitMs, onStep });
    } finally {
      await this.#removeLook().catch((error: unknown) => onStep(`${clone} can't be removed: ${explainError(error)}`));
    }
  }

  async putBack({
    snapshot,
    to,
    end,
    incarnation,
    forksMax,
    onStep,
  }: RestoreWish & { end: RestoreEnd; incarnation: string; forksMax: number }): Promise<{ kept: string }> {
    const { storage, dataset } = this.#options.storage;
    const { dataDir } = this.#places;
    const context = { storage: this.#options.storage, places: this.#places, mark: this.#mark, log: this.#options.log };
    await demandOwner(dataDir);
    if ((await postgresProcessesOn(dataDir)).length > 0)
      throw restoreRefused("PostgreSQL runs on this peer's data", "Stop its sitter by SIGTERM, which stops both.");
    // Of one that was cut short.
    await settleSwap(context);
    await endLeftovers(this.#places);
    const before = await this.#soundMark();
    const forks = await this.#forks();
    if (forks.length >= forksMax) throw noRoom(forks.length);
    const placed = await storage.look(dataset);
    if (!placed?.mounted) throw datasetAway(`${dataset} is not mounted`);
    demandInPlace(placed.folder, dataDir);
    onStep("makes the data ready");
    const { claim: _, leaving: __, source: ___, adopted: ____, ...kept } = before;
    const mark: DataMark = { ...kept, incarnation, claim: undefined, source: undefined, incomplete: false };
    await this.#stage(snapshot, { to, end, mark });
    // What is there is touched from here on: under another name first.
    await this.#mark.update(() => mark);
    onStep("puts it in its place");
    await swapIn(context, { fork: before.incarnation, folder: placed.folder });
    return { kept: forkDataset(dataset, before.incarnation) };
  }

  /** undefined target: to the end of the WAL that the snapshot shows. */
  async #recover(
    folder: string,
    { to, limitMs, onStep }: Pick<RestoreWish, "to" | "onStep"> & { limitMs: Ms },
  ): Promise<RestoreEnd> {
    const { config, clock, timers } = this.#options;
    const server = await startRecovered({
      folder,
      config,
      port: PORT,
      // The socket's folder is ours alone.
      hba: ["local all all trust"],
      settings: to ? targetSettings(to) : {},
      detached: false,
      limitMs,
      onStep,
      clock,
      timers,
    }).catch((error: unknown) => {
      throw to && /before configured recovery target|before consistent recovery point/.test(explainError(error))
        ? notReached(error)
        : error;
    });
    const [row] = await server.sql(
      "template1",
      `select substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) as timeline,
       (extract(epoch from pg_last_xact_replay_timestamp()) * 1000)::bigint as committed`,
      { limitMs: SQL_LIMIT_MS },
    );
    // Where it left the timeline before its own.
    const { past } = await readLineage(folder, Number.parseInt(row?.["timeline"] ?? "", 16));
    const left = past.at(-1);
    if (!left) throw restoreRefused("where the snapshot ends is not known", "Take another snapshot.");
    const { systemIdentifier } = await readControlFile(folder);
    const committed = row?.["committed"];
    const lastCommitWallMs = committed == null ? undefined : Number(committed);
    return { timeline: left.timeline, lsn: left.end, systemIdentifier, lastCommitWallMs };
  }

  /** Complete and durable beside the dataset when it resolves; else nothing of it is left. */
  async #stage(
    snapshot: CloneSource,
    wanted: { to: RestoreTarget | undefined; end: RestoreEnd; mark: DataMark },
  ): Promise<void> {
    const { storage, dataset } = this.#options.storage;
    const staged = stagedDataset(dataset);
    // The dataset is in its place: what is there is worth nothing.
    await discardStaged({ storage, dataset });
    await storage.clone({ dataset, name: snapshot.name }, staged);
    try {
      const { folder } = await storage.mount(staged);
      await this.#prepare(folder, wanted);
      await flushFileSystem(folder);
    } catch (error) {
      await discardStaged({ storage, dataset }).catch((later: unknown) =>
        this.#options.log.warn("what was staged is still there", { dataset: staged, reason: explainError(later) }),
      );
      throw error;
    }
  }

  /** A data directory as a snapshot shows it becomes this peer's, a standby whose WAL ends there. */
  async #prepare(
    target: string,
    { to, end, mark }: { to: RestoreTarget | undefined; end: RestoreEnd; mark: DataMark },
  ): Promise<void> {
    const outside = await linksOutside(target);
    if (outside !== undefined) throw snapshotLeadsOut(outside);
    const theirs = await markIn(target);
    if (theirs?.incomplete !== false)
      throw restoreRefused("the snapshot's own mark is missing, or says that a copy had not ended", ANOTHER);
    if (theirs.shard !== mark.shard) throw restoreRefused(`the snapshot is of the shard ${theirs.shard}`, ANOTHER);
    const { systemIdentifier } = await readControlFile(target);
    if (systemIdentifier !== end.systemIdentifier) throw restoreRefused("the snapshot is not what was tried", ANOTHER);
    if (to) await this.#addOwnWal(target);
    await writeDurably(join(target, MARK_FILE), formatMark(mark));
    await cleanSnapshot(target, (timeline) => timeline <= end.timeline);
    const wal = join(target, "pg_wal");
    await dropLaterTimelines(wal, end.timeline);
    await cutWal(wal, end);
  }

  async #addOwnWal(target: string): Promise<void> {
    const start = (await backupStart(target)) ?? (await readControlFile(target)).redo;
    await addWal({ from: join(this.#places.dataDir, "pg_wal"), to: join(target, "pg_wal"), start });
  }

  async #soundMark(): Promise<DataMark> {
    const mark = await this.#mark.read();
    const why =
      mark === undefined || mark === "malformed"
        ? "the data of this peer bears no mark that can be read"
        : mark.incomplete
          ? "a copy or a rewind into this peer's data has not ended"
          : mark.claim
            ? "a claim of this peer may be on its way"
            : mark.founding
              ? "the data of this peer is in no document yet"
              : undefined;
    if (why !== undefined) throw restoreRefused(why, "Start its sitter, and let it follow the shard first.");
    return mark as DataMark;
  }

  async #forks(): Promise<readonly string[]> {
    return [...new Set([...(await keptForkNames(this.#options.storage)), ...(await keptFolders(this.#places))])];
  }

  /** With the server on it, should a command have been killed. */
  async #removeLook(): Promise<void> {
    const { storage, dataset } = this.#options.storage;
    const clone = await storage.look(lookDataset(dataset));
    if (!clone) return;
    await endServer(this.#options, clone);
    await unmountWhenLeft(this.#options, clone.name);
    await storage.destroyDataset(clone.name);
  }
}

const ANOTHER = "Take another one: manatee-adm snapshots.";

function targetSettings(to: RestoreTarget): Readonly<Record<string, string>> {
  return to.kind === "lsn"
    ? { recovery_target_lsn: formatLsn(to.lsn) }
    : // Names of zones, Z among them, are not known yet when this is read.
      { recovery_target_time: new Date(to.wallMs).toISOString().replace("Z", "+00") };
}

export function noRoom(kept: number): ManateeError {
  return restoreRefused(
    `what this peer holds now can't be kept: ${kept} forks are kept already`,
    "manatee-adm diverged lists them; --drop those that nobody needs, or raise policy.forksKeptMax.",
  );
}

function notReached(cause: unknown): ManateeError {
  return new ManateeError({
    code: "RESTORE_NOT_REACHED",
    message: `it does not get there: ${explainError(cause)}`,
    remedy: "operator",
    hint: "The WAL that this peer still has ends before, or the snapshot is later than that. Take another snapshot, another peer, or leave --to out. Nothing was touched.",
  });
}

export function restoreRefused(message: string, hint: string): ManateeError {
  return new ManateeError({ code: "RESTORE_REFUSED", message, remedy: "operator", hint });
}
