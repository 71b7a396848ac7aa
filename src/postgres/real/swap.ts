// Puts a staged dataset in the place of the data directory's. A journal beside the data directory names both: whatever ends in the middle, the next look finds
// which step is due by looking at what is there. Until it has ended the data is incomplete; nothing is destroyed.

import { explainError } from "../../base/errors.ts";
import type { Context } from "./context.ts";
import { datasetAway, forkDataset, type PostgresStorage, stagedDataset } from "./dataset.ts";
import { flushFileSystem, readIfThere, removeDurably, writeDurably } from "./durable.ts";
import type { Places } from "./places.ts";

/** What a swap needs to know: a tool has no more. */
export type SwapContext = Pick<Context, "storage" | "places" | "mark" | "log">;

interface Journal {
  /** What is there now is kept as the fork of that name. */
  readonly fork: string;
  /** Where the dataset was mounted, and will be. */
  readonly folder: string;
  /** What is there now is worth nothing: it goes when the other is in place. */
  readonly worthless?: boolean;
}

/** The staged dataset is complete, durable and bears the mark that is to hold. Resolves when it is in place; else {@link settleSwap} goes on later. */
export async function swapIn(context: SwapContext, journal: Journal): Promise<void> {
  // In this order: the second alone would pass for a rewind that was cut short.
  await writeDurably(context.places.swapJournal, JSON.stringify(journal));
  await context.mark.protect();
  await settleSwap(context);
}

/** Ends what was begun. Does nothing where nothing was. Errors: those of the storage, `PG_DATASET_AWAY`. */
export async function settleSwap(context: SwapContext): Promise<void> {
  const journal = await readJournal(context);
  if (!context.storage || !journal) return;
  await renameBoth(context.storage, journal);
  const { storage, dataset } = context.storage;
  // Turned around, what was there depends on what is: it can be destroyed when nobody needs it any more.
  const placed = await storage.look(dataset);
  if (placed?.origin?.dataset === forkDataset(dataset, journal.fork)) await storage.promote(dataset);
  await storage.mount(dataset, journal.folder);
  await flushFileSystem(context.places.dataDir);
  await removeDurably(context.places.protectedMark);
  await removeDurably(context.places.swapJournal);
  const before = forkDataset(dataset, journal.fork);
  context.log.info("the dataset is in place", { dataset, ...(journal.worthless === true ? {} : { kept: before }) });
  if (journal.worthless === true)
    await storage.destroyDataset(before).catch((error: unknown) =>
      context.log.warn("what was there before, and is worth nothing, is still there", {
        dataset: before,
        reason: explainError(error),
      }),
    );
}

/** Which of the two renames is due is seen by who is there. */
async function renameBoth({ storage, dataset }: PostgresStorage, { fork }: Journal): Promise<void> {
  const [staged, aside] = [stagedDataset(dataset), forkDataset(dataset, fork)];
  const isThere = async (name: string) => (await storage.look(name)) !== undefined;
  if (await isThere(staged)) {
    // First: a clone that is mounted can keep what it depends on from being renamed.
    await storage.unmount(staged);
    if (await isThere(dataset)) {
      if (await isThere(aside)) throw datasetAway(`${dataset}, ${staged} and ${aside} are all there`);
      await storage.unmount(dataset);
      await storage.rename(dataset, aside);
    }
    await storage.rename(staged, dataset);
  } else if (!(await isThere(dataset))) {
    // Somebody has destroyed what was staged: what was there before is whole.
    if (!(await isThere(aside))) throw datasetAway(`neither ${dataset} nor ${aside} is there`);
    await storage.rename(aside, dataset);
  }
}

/** Whether a swap is under way, or was cut short. */
export async function isSwapping({ swapJournal }: Places): Promise<boolean> {
  return (await readIfThere(swapJournal)) !== undefined;
}

async function readJournal(context: SwapContext): Promise<Journal | undefined> {
  const text = await readIfThere(context.places.swapJournal);
  return text === undefined ? undefined : (JSON.parse(text) as Journal);
}
