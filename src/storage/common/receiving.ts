// Receives a stream in the hidden place, and gives what came its name when it is whole and on disk.

import { join } from "node:path";
import { isSnapshotName } from "../../base/dataset-name.ts";
import { storageError } from "../errors.ts";
import type { DatasetName, Snapshot } from "../port.ts";
import { findContent, replaceContent } from "./content.ts";
import { flushFolder, makeFolder, moveFolder } from "./files.ts";
import { type Layout, SNAPSHOTS, UNMOUNTED } from "./layout.ts";
import type { Medium, StreamStart } from "./medium.ts";
import { beginNotes } from "./notes.ts";
import type { Workplace } from "./workplace.ts";

interface Receiver {
  readonly medium: Medium;
  readonly layout: Layout;
  readonly work: Workplace;
  readonly dataset: DatasetName;
  /** Oldest first; undefined: there is no such dataset yet. */
  readonly known: readonly Snapshot[] | undefined;
  readonly signal: AbortSignal;
}

/** Its name. */
export async function receiveSnapshot(receiver: Receiver, stream: AsyncIterable<Uint8Array>): Promise<string> {
  const { medium, work, signal } = receiver;
  const place = await work.begin();
  try {
    const incoming = join(place, "incoming");
    await makeFolder(incoming);
    let start: StreamStart | undefined;
    const onStart = async (found: StreamStart) => {
      await demandFit(receiver, found);
      start = found;
    };
    const facts = await medium.receive({ into: incoming, stream, onStart, signal });
    if (!start) throw storageError("STORAGE_BAD_STREAM", `nothing came into ${receiver.dataset}`);
    await beginNotes(incoming, { properties: {}, facts });
    await flushFolder(incoming);
    const arrived = { place, incoming, name: start.name };
    await (receiver.known ? addTo(receiver, arrived) : beginDataset(receiver, arrived));
    return start.name;
  } finally {
    await work.remove(place);
  }
}

async function demandFit({ medium, layout, dataset, known }: Receiver, start: StreamStart): Promise<void> {
  if (!isSnapshotName(dataset, start.name))
    throw storageError("STORAGE_BAD_STREAM", `${JSON.stringify(start.name)} is no name of a snapshot`);
  if (start.fromGuid === undefined) {
    if (known) throw storageError("STORAGE_EXISTS", `${dataset} exists already, and the stream is a whole one`);
    return;
  }
  const newest = known?.at(-1);
  if (newest?.guid !== start.fromGuid)
    throw storageError(
      "STORAGE_BAD_STREAM",
      `the stream is the difference to a snapshot that is not ${dataset}'s newest`,
    );
  if (known?.some(({ name }) => name === start.name))
    throw storageError("STORAGE_EXISTS", `${dataset}@${start.name} exists already`);
  await demandUnchanged({ medium, layout, newest });
}

/** What was written since would be lost. */
async function demandUnchanged({
  medium,
  layout,
  newest,
}: {
  medium: Medium;
  layout: Layout;
  newest: Snapshot;
}): Promise<void> {
  const { dataset, name } = newest;
  const content = await findContent(medium, layout.placeOf(dataset));
  if (!content) return;
  if (!(await medium.changedSince({ content: content.path, snapshot: layout.snapshotContent(newest) }))) return;
  const hint = `Roll it back to ${name}, if nobody needs what was written since.`;
  throw storageError("STORAGE_FAILED", `${dataset} has changed since its newest snapshot ${name}`, { hint });
}

interface Arrived {
  readonly place: string;
  readonly incoming: string;
  readonly name: string;
}

async function beginDataset({ medium, layout, dataset }: Receiver, { place, incoming, name }: Arrived): Promise<void> {
  const made = join(place, "dataset");
  const folder = join(made, SNAPSHOTS, name);
  await beginNotes(made, { properties: {} });
  await makeFolder(join(made, SNAPSHOTS));
  await moveFolder(incoming, folder);
  await medium.copy(join(folder, name), join(made, UNMOUNTED));
  await giveName({ layout, made, dataset });
}

/** The content first: cut short in between, the same difference can be received again. */
async function addTo({ medium, layout, work, dataset }: Receiver, { incoming, name }: Arrived): Promise<void> {
  await replaceContent({ medium, work, place: layout.placeOf(dataset), source: join(incoming, name) });
  const outcome = await moveFolder(incoming, layout.snapshotFolder({ dataset, name }));
  await flushFolder(layout.snapshotsFolder(dataset));
  if (outcome !== "moved") throw storageError("STORAGE_EXISTS", `${dataset}@${name} exists already`);
}

/** The dataset that was made in the hidden place appears, or one of that name is there. Errors: `STORAGE_EXISTS`. */
export async function giveName({
  layout,
  made,
  dataset,
}: {
  layout: Layout;
  made: string;
  dataset: DatasetName;
}): Promise<void> {
  const folder = layout.datasetFolder(dataset);
  await flushFolder(made);
  await makeFolder(join(folder, ".."));
  const outcome = await moveFolder(made, folder);
  if (outcome === "exists") throw storageError("STORAGE_EXISTS", `${dataset} exists already`);
  if (outcome === "missing") throw storageError("STORAGE_NO_DATASET", `there is no dataset to be named ${dataset}`);
  await flushFolder(join(folder, ".."));
}
