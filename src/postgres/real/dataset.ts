// The dataset that a data directory lies on, where its storage takes snapshots that cost nothing: names of what the driver keeps there, and whether it is in place.

import { ManateeError } from "../../base/errors.ts";
import type { TimelineSegment } from "../../base/lineage.ts";
import type { PeerAddress } from "../../cluster/state.ts";
import type { Amount } from "../amount.ts";
import type { Dataset, DatasetName, Snapshot, SnapshotName, Storage } from "../../storage/port.ts";

/** Handed in where the configuration names one. */
export interface PostgresStorage {
  readonly storage: Storage;
  /** Its folder is the data directory. It has a parent, in which forks stand beside it. */
  readonly dataset: DatasetName;
  /** R1: the newest snapshot whose content ends within what this peer and its source share (the last one's end is the fork); undefined: none serves. */
  readonly chooseSnapshot: (snapshots: readonly Snapshot[], shared: readonly TimelineSegment[]) => Snapshot | undefined;
  /** undefined: peers are copied by base backup alone. */
  readonly peers?: PeerSnapshots | undefined;
}

/** A snapshot that a peer's backup server has. */
export interface PeerSnapshot {
  readonly name: string;
  readonly guid: string;
  readonly properties: Readonly<Record<string, string>>;
}

export interface ReceiveProgress extends Amount {
  /** Place in the sender's queue; 0: it sends. */
  readonly position: number;
}

/** How snapshots of other peers come here. Each call rejects with a ManateeError. */
export interface PeerSnapshots {
  /** One that is begun after this call. undefined: what that peer sends, this storage can't receive. */
  takeNow(from: PeerAddress, signal: AbortSignal): Promise<PeerSnapshot | undefined>;
  /** Into a dataset that nothing has. Resolves when it is there, durable, and the one that was asked for; otherwise nothing of it is left. */
  receive(options: {
    from: PeerAddress;
    snapshot: PeerSnapshot;
    dataset: DatasetName;
    signal: AbortSignal;
    onProgress: (progress: ReceiveProgress) => void;
  }): Promise<SnapshotName>;
}

/** Of the holds that the driver puts on snapshots. */
export const HOLD_TAG = "manatee-sitter";

const FORK_SNAPSHOT = "fork-";

export function forkSnapshot(name: string): string {
  return FORK_SNAPSHOT + name;
}

/** The name of the fork that a snapshot keeps; undefined: it keeps none. */
export function forkNameOf({ name }: { readonly name: string }): string | undefined {
  return name.startsWith(FORK_SNAPSHOT) ? name.slice(FORK_SNAPSHOT.length) : undefined;
}

/** What was there before a roll-back. */
export function forkDataset(dataset: DatasetName, name: string): DatasetName {
  return `${dataset}-fork-${name}`;
}

/** What is to take the dataset's place, until it does. Worth nothing while the dataset is there. */
export function stagedDataset(dataset: DatasetName): DatasetName {
  return `${dataset}-staged`;
}

/** A clone of a fork, while an operator's command reads it. */
export function lookDataset(dataset: DatasetName): DatasetName {
  return `${dataset}-look`;
}

/** A writable copy that an operator asked for. */
export function cloneDataset(dataset: DatasetName, name: string): DatasetName {
  return `${dataset}-clone-${name}`;
}

/** A dataset that is mounted there is the data directory: what lay beside it in the dataset would go back with a roll-back. Errors: `PG_DATASET_AWAY`. */
export function demandInPlace(folder: string, dataDir: string): void {
  if (folder !== dataDir) throw datasetAway(`it is mounted at ${folder}, and the data directory is ${dataDir}`);
}

/** The forks that are kept, with their names: as datasets beside the dataset, and as snapshots, of it and of those. */
export async function storedForks({ storage, dataset }: Pick<PostgresStorage, "storage" | "dataset">): Promise<{
  readonly datasets: readonly { readonly fork: string; readonly dataset: DatasetName }[];
  readonly snapshots: readonly { readonly fork: string; readonly snapshot: Snapshot }[];
}> {
  const beside = (await forkDatasets({ storage, dataset })).map(({ name }) => name);
  const prefix = forkDataset(dataset, "");
  const holders = [...((await storage.look(dataset)) ? [dataset] : []), ...beside];
  const snapshots: { fork: string; snapshot: Snapshot }[] = [];
  for (const holder of holders)
    for (const snapshot of await storage.snapshots(holder)) {
      const fork = forkNameOf(snapshot);
      if (fork !== undefined) snapshots.push({ fork, snapshot });
    }
  return { datasets: beside.map((name) => ({ fork: name.slice(prefix.length), dataset: name })), snapshots };
}

export async function keptForkNames(kept: PostgresStorage): Promise<string[]> {
  const { datasets, snapshots } = await storedForks(kept);
  return [...new Set([...datasets, ...snapshots].map(({ fork }) => fork))].sort();
}

export function forkDatasets(kept: Pick<PostgresStorage, "storage" | "dataset">): Promise<readonly Dataset[]> {
  return datasetsBeside(kept, forkDataset(kept.dataset, ""));
}

/** None where nothing can stand beside it. */
export async function cloneDatasets(kept: Pick<PostgresStorage, "storage" | "dataset">): Promise<readonly Dataset[]> {
  if (!kept.dataset.includes("/")) return [];
  return datasetsBeside(kept, cloneDataset(kept.dataset, ""));
}

async function datasetsBeside(
  { storage, dataset }: Pick<PostgresStorage, "storage" | "dataset">,
  prefix: string,
): Promise<readonly Dataset[]> {
  const parent = dataset.slice(0, Math.max(0, dataset.lastIndexOf("/")));
  if (parent === "") throw datasetAway(`${dataset} has no parent, in which forks could stand beside it`);
  return (await storage.children(parent)).filter(
    ({ name }) => name.startsWith(prefix) && !name.slice(prefix.length).includes("/"),
  );
}

export function datasetAway(what: string): ManateeError {
  return new ManateeError({
    code: "PG_DATASET_AWAY",
    message: `the dataset of the data directory is not in place: ${what}`,
    remedy: "operator",
    hint: "Mount it, or rename what it was back; the peer goes on by itself then. To begin with nothing, destroy (or rename) the forks beside it.",
  });
}
