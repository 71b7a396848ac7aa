// R1: goes back to the newest snapshot before the fork, with this peer's own WAL up to the fork, instead of reading pages from anybody. All is made ready in a clone
// beside the dataset; only then does it take the dataset's place (swap.ts), and what was there stays whole as the fork that is kept.

import { join } from "node:path";
import { ManateeError } from "../../base/errors.ts";
import type { TimelineSegment } from "../../base/lineage.ts";
import { type Lsn, parseLsn } from "../../base/lsn.ts";
import type { PeerAddress } from "../../cluster/state.ts";
import type { Snapshot } from "../../storage/port.ts";
import { chooseRollBack, type RollBackChoice } from "../copy-way.ts";
import type { Context } from "./context.ts";
import { readControlFile } from "./control-file.ts";
import { demandStopped } from "./copy.ts";
import { newestTimeline } from "./data-directory.ts";
import { demandInPlace, type PostgresStorage, stagedDataset } from "./dataset.ts";
import { flushFileSystem, readIfThere, writeDurably } from "./durable.ts";
import type { JobHandle } from "./jobs.ts";
import { endLeftovers } from "./leftovers.ts";
import { linksOutside } from "./links-outside.ts";
import { formatMark, MARK_FILE, markIn, markMissing } from "./mark.ts";
import { askSource, type SourceWal } from "./source-wal.ts";
import { cleanSnapshot, discardStaged } from "./staged.ts";
import { settleSwap, swapIn } from "./swap.ts";
import { historyFileName, readLineage } from "./timeline-history.ts";
import { carryWal, walSegmentBytes } from "./wal-files.ts";

/** `fork`: under which name what is here is kept. Errors: `PG_ROLL_BACK_FAILED`, those of the storage; before `context.mark` says incomplete, nothing was touched. */
export async function rollBack(
  context: Context,
  { from, fork, job }: { from: PeerAddress; fork: string; job: JobHandle },
): Promise<void> {
  const { storage, places } = context;
  if (!storage) throw rollBackFailed("its storage takes no snapshots");
  demandStopped(context);
  await settleSwap(context);
  await endLeftovers(places);
  const source = await askSource(context, from, job.signal).catch((cause: unknown) => {
    job.signal.throwIfAborted();
    throw rollBackFailed(`${from.id} does not tell its timelines`, cause);
  });
  const { snapshot, shared } = await chooseFrom(context, storage, source);
  job.progress(`snapshot ${snapshot.name}`);
  const folder = await stage(context, storage, { snapshot, source, timelines: shared, from });
  job.signal.throwIfAborted();
  await swapIn(context, { fork, folder });
}

/** Makes what is to take the dataset's place; returns where the dataset is mounted. */
async function stage(
  context: Context,
  { storage, dataset }: PostgresStorage,
  wanted: { snapshot: Snapshot; source: SourceWal; timelines: readonly TimelineSegment[]; from: PeerAddress },
): Promise<string> {
  const placed = await storage.look(dataset);
  if (!placed?.mounted) throw rollBackFailed(`the dataset ${dataset} is not mounted`);
  demandInPlace(placed.folder, context.places.dataDir);
  const staged = stagedDataset(dataset);
  // Of an attempt that was cut short: the dataset is in its place, so that this is worth nothing.
  await discardStaged({ storage, dataset });
  await storage.clone(wanted.snapshot, staged);
  try {
    const { folder } = await storage.mount(staged);
    await prepare(context, folder, wanted);
    await flushFileSystem(folder);
  } catch (error) {
    await discardStaged({ storage, dataset }).catch((later: unknown) =>
      context.log.warn("what was staged is still there", { dataset: staged, reason: String(later) }),
    );
    throw error;
  }
  return placed.folder;
}

/** A data directory as a snapshot shows it becomes this peer's, at the fork. */
async function prepare(
  context: Context,
  target: string,
  { source, timelines, from }: { source: SourceWal; timelines: readonly TimelineSegment[]; from: PeerAddress },
): Promise<void> {
  const { dataDir } = context.places;
  const outside = await linksOutside(target);
  if (outside !== undefined) throw rollBackFailed(`${outside} lies outside of the dataset`);
  const control = await readControlFile(target);
  if (control.systemIdentifier !== source.systemIdentifier) throw rollBackFailed("the snapshot is of another database");
  const reached = timelines.find(({ timeline }) => timeline === control.checkpointTimeline);
  if (!reached || control.checkpoint >= reached.end) throw rollBackFailed("the snapshot lies behind the fork");
  if ((await markIn(target))?.incomplete !== false)
    throw rollBackFailed("the snapshot's own mark is missing, or says that a copy had not ended");
  const mark = await context.mark.read();
  if (mark === undefined || mark === "malformed") throw markMissing(context.places);
  await writeDurably(join(target, MARK_FILE), formatMark({ ...mark, incomplete: false, source: from.id }));
  await cleanSnapshot(target, () => false);
  const segmentBytes = await walSegmentBytes(join(dataDir, "pg_wal"));
  const { missing } = await carryWal({
    from: join(dataDir, "pg_wal"),
    to: join(target, "pg_wal"),
    start: (await backupStart(target)) ?? control.redo,
    timelines,
    segmentBytes,
  });
  if (missing !== undefined)
    throw rollBackFailed(`this peer's WAL does not reach back to the snapshot: there is no ${missing}`);
  for (const { timeline } of timelines) {
    const own = await readIfThere(join(dataDir, "pg_wal", historyFileName(timeline)));
    if (own !== undefined) await writeDurably(join(target, "pg_wal", historyFileName(timeline)), own);
  }
  await writeDurably(join(target, "pg_wal", historyFileName(source.lineage.timeline)), source.history);
}

/** Taken in backup mode: recovery begins where that says, not where the control file does. */
export async function backupStart(dataDir: string): Promise<Lsn | undefined> {
  const label = await readIfThere(join(dataDir, "backup_label"));
  const position = label && /^START WAL LOCATION: (\S+)/m.exec(label)?.[1];
  return position === undefined || position === "" ? undefined : parseLsn(position);
}

/** By the timelines that this peer's data and the source's WAL show. */
async function chooseFrom(
  { places }: Context,
  { storage, dataset, chooseSnapshot }: PostgresStorage,
  { systemIdentifier, lineage }: SourceWal,
): Promise<Extract<RollBackChoice<Snapshot>, { kind: "from" }>> {
  const control = await readControlFile(places.dataDir);
  if (control.systemIdentifier !== systemIdentifier) throw rollBackFailed("the source is another database");
  const choice = chooseRollBack({
    own: await readLineage(places.dataDir, newestTimeline(control)),
    source: lineage,
    snapshots: await storage.snapshots(dataset),
    choose: chooseSnapshot,
  });
  if (choice.kind === "none") throw rollBackFailed(choice.because);
  return choice;
}

function rollBackFailed(what: string, cause?: unknown): ManateeError {
  return new ManateeError({
    code: "PG_ROLL_BACK_FAILED",
    message: `the data can't be rolled back: ${what}`,
    remedy: "reobserve",
    hint: "Nothing has to be done: the peer is rewound, or copied afresh, instead.",
    cause,
  });
}
