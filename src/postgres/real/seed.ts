// Seeds a peer from a snapshot of another's: received beside the dataset, made this peer's, and put in the dataset's place. The WAL since the snapshot is held on the source by a temporary
// slot, which was there before the snapshot, until the restored server has it.

import { join } from "node:path";
import { explainError } from "../../base/errors.ts";
import { reach } from "../../base/lineage.ts";
import { HIGHEST_LSN, type Lsn, parseLsn } from "../../base/lsn.ts";
import type { Bytes, Ms } from "../../base/units.ts";
import type { PeerAddress } from "../../cluster/state.ts";
import { amountInWords } from "../amount.ts";
import type { Context } from "./context.ts";
import { readControlFile } from "./control-file.ts";
import { demandStopped, markOfCopy, sourceTarget } from "./copy.ts";
import { obstacleToSeed } from "../copy-way.ts";
import { forkNameOf, type PeerSnapshot, type PeerSnapshots, type PostgresStorage, stagedDataset } from "./dataset.ts";
import { flushFileSystem, makePrivateFolder, removeDurably, writeDurably } from "./durable.ts";
import { dataMajor, observeData } from "./data-directory.ts";
import type { JobHandle } from "./jobs.ts";
import { endLeftovers } from "./leftovers.ts";
import { linksOutside } from "./links-outside.ts";
import { formatMark, MARK_FILE, markIn } from "./mark.ts";
import { demandReplicationPassword } from "./passwords.ts";
import { askSource, type SourceWal } from "./source-wal.ts";
import { Connection, quoteIdentifier } from "./sql.ts";
import { cleanSnapshot, discardStaged } from "./staged.ts";
import { swapIn } from "./swap.ts";

/** WAL that a source keeps for a server that was just restored. */
export interface HeldWal {
  /** Where the source's WAL ended when the data was in place: a server that has it needs the hold no longer. */
  readonly until: Lsn;
  readonly since: Ms;
  /** What came. */
  readonly bytes: Bytes;
  release(): void;
}

export interface SeedOptions {
  readonly from: PeerAddress;
  readonly incarnation: string;
  readonly job: JobHandle;
}

/**
 * undefined: a base backup has to do it, and the log says why. What is here is touched only once all that is to take its place is there; errors are those of
 * that last step, which goes on by itself, and a cancelled job's.
 */
export async function seedFrom(context: Context, options: SeedOptions): Promise<HeldWal | undefined> {
  const { storage: kept } = context;
  const { from, job } = options;
  if (!kept?.peers) return undefined;
  demandStopped(context);
  await makePrivateFolder(context.places.own);
  await endLeftovers(context.places);
  let ready: Ready;
  try {
    ready = await makeReady(context, { ...options, kept, peers: kept.peers });
  } catch (error) {
    job.signal.throwIfAborted();
    context.log.info("copied by base backup instead of a snapshot", { from: from.id, because: explainError(error) });
    return undefined;
  }
  try {
    await takePlace(context, { ...options, kept, folder: ready.folder });
  } catch (error) {
    ready.slot.release();
    throw error;
  }
  const { until, slot, bytes } = ready;
  return { until, since: context.clock.now(), bytes, release: slot.release };
}

/** A reason, not a fault. */
class NoSeed extends Error {}

interface Ready {
  readonly slot: { readonly release: () => void };
  readonly until: Lsn;
  /** Where the dataset is mounted. */
  readonly folder: string;
  readonly bytes: Bytes;
}

async function makeReady(
  context: Context,
  { from, incarnation, job, kept, peers }: SeedOptions & { kept: PostgresStorage; peers: PeerSnapshots },
): Promise<Ready> {
  const { storage, dataset } = kept;
  const { signal } = job;
  const placed = await storage.look(dataset);
  const folder = placed?.mounted ? placed.folder : undefined;
  const { dataDir } = context.places;
  const obstacle = obstacleToSeed({ dataset, mountedAt: folder, dataDir, formats: undefined });
  if (folder === undefined || obstacle !== undefined) throw new NoSeed(obstacle);
  const source = await askSource(context, from, signal);
  const slot = await holdWal(context, from, signal);
  try {
    job.progress(`a snapshot of ${from.id}`);
    const snapshot = await peers.takeNow(from, signal);
    if (!snapshot) throw new NoSeed(`what ${from.id} sends, this storage can't receive`);
    // Of an attempt that was cut short: the dataset is in its place, so that this is worth nothing.
    await discardStaged(kept);
    await storage.abandonReceive(stagedDataset(dataset));
    const bytes = await stage(context, { kept, peers, from, snapshot, source, incarnation, job });
    signal.throwIfAborted();
    return { slot, until: await slot.end(), folder, bytes };
  } catch (error) {
    slot.release();
    throw error;
  }
}

async function stage(
  context: Context,
  wanted: {
    kept: PostgresStorage;
    peers: PeerSnapshots;
    from: PeerAddress;
    snapshot: PeerSnapshot;
    source: SourceWal;
    incarnation: string;
    job: JobHandle;
  },
): Promise<Bytes> {
  const { kept, peers, from, snapshot, job } = wanted;
  const { storage, dataset } = kept;
  const staged = stagedDataset(dataset);
  const began = context.clock.now();
  let bytes: Bytes = 0;
  const received = await peers.receive({
    from,
    snapshot,
    dataset: staged,
    signal: job.signal,
    onProgress: (progress) => {
      bytes = progress.done;
      const { position } = progress;
      job.progress(position > 0 ? `place ${position} in the sender's queue` : amountInWords(progress));
    },
  });
  try {
    const { folder } = await storage.mount(staged);
    await prepare(context, folder, wanted);
    await flushFileSystem(folder);
    // It shows the same here as there: a roll-back can begin from it.
    await storage.setProperties(received, snapshot.properties);
    context.log.info("snapshot received", {
      from: from.id,
      snapshot: snapshot.name,
      tookMs: Math.round(context.clock.now() - began),
    });
    return bytes;
  } catch (error) {
    await discardStaged(kept).catch((later: unknown) =>
      context.log.warn("what was staged is still there", { dataset: staged, reason: explainError(later) }),
    );
    throw error;
  }
}

/** What came is believed only as far as it shows itself. */
async function prepare(
  context: Context,
  target: string,
  { from, source, incarnation }: { from: PeerAddress; source: SourceWal; incarnation: string },
): Promise<void> {
  const { major } = await context.binaries();
  const theirs = await dataMajor({ ...context.places, dataDir: target });
  if (theirs !== major)
    throw new NoSeed(`what came is of PostgreSQL ${theirs ?? "unknown"}, and the programs here are of ${major}`);
  const outside = await linksOutside(target);
  if (outside !== undefined) throw new NoSeed(`${outside} lies outside of the dataset`);
  const control = await readControlFile(target);
  if (control.systemIdentifier !== source.systemIdentifier)
    throw new NoSeed(
      `what came has system identifier ${control.systemIdentifier}, and ${from.id} has ${source.systemIdentifier}`,
    );
  const end = reach({ ...source.lineage, end: HIGHEST_LSN }, control.checkpointTimeline);
  if (end === undefined || control.checkpoint >= end)
    throw new NoSeed(`what came has a WAL (timeline ${control.checkpointTimeline}) that ${from.id} has not`);
  if ((await markIn(target))?.incomplete !== false)
    throw new NoSeed("what came is marked as incomplete, or not marked");
  const known = await context.mark.read();
  const before = known === "malformed" ? undefined : known;
  await writeDurably(join(target, MARK_FILE), formatMark(markOfCopy(context, { from, incarnation }, before)));
  // Recovery begins on a page that may still be of a timeline before, and whoever follows from here asks for each history in between.
  await cleanSnapshot(target, (timeline) => timeline <= source.lineage.timeline);
}

/** The new incarnation holds, durably, before what was there moves away. */
async function takePlace(
  context: Context,
  {
    kept,
    incarnation,
    from,
    folder,
  }: { kept: PostgresStorage; incarnation: string; from: PeerAddress; folder: string },
): Promise<void> {
  const { storage, dataset } = kept;
  const data = await observeData(context.places, (await context.binaries()).major);
  const isEmpty = data.kind === "none" || (data.kind === "unusable" && data.mark?.incomplete === true);
  const snapshots = await storage.snapshots(dataset);
  // What was kept of it bears a name already.
  const fork = snapshots.map(forkNameOf).findLast((name) => name !== undefined) ?? `before-${incarnation}`;
  await context.mark.change((known) => ({ ...markOfCopy(context, { from, incarnation }, known), incomplete: true }));
  // From here on what is there is a database: the journal of an initdb that was cut short is over.
  await removeDurably(context.places.initdbJournal);
  await swapIn(context, { fork, folder, worthless: isEmpty && snapshots.length === 0 });
}

/** By a slot that goes with its connection, so that a peer that is gone holds nothing. */
async function holdWal(
  context: Context,
  from: PeerAddress,
  signal: AbortSignal,
): Promise<{ end: () => Promise<Lsn>; release: () => void }> {
  const { config, timers, random } = context;
  const password = await demandReplicationPassword(config.replicationPasswordFile, from.id);
  const connection = new Connection({ ...sourceTarget(context, from, password), replication: "true" });
  const limits = { limitMs: config.startLimitMs, timers, signal };
  const name = `manatee_seed_${random.hex(8)}`;
  await connection.use(limits, ({ query }) =>
    query(`CREATE_REPLICATION_SLOT ${quoteIdentifier(name)} TEMPORARY PHYSICAL RESERVE_WAL`),
  );
  return {
    end: async () => {
      const rows = await connection.use(limits, ({ query }) => query("IDENTIFY_SYSTEM"));
      const end = parseLsn(rows[0]?.["xlogpos"] ?? "");
      if (end === undefined) throw new NoSeed(`${from.id} does not say where its WAL ends`);
      return end;
    },
    release: () => connection.end(),
  };
}
