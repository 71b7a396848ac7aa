// Takes a snapshot in the hidden place, with all that is kept beside it; its name is given by whoever called.

import { join } from "node:path";
import { storageError } from "../errors.ts";
import type { DatasetName, Properties, SnapshotName } from "../port.ts";
import { findContent } from "./content.ts";
import { flushFolder, listFolder, makeFolder } from "./files.ts";
import type { Layout } from "./layout.ts";
import type { Medium } from "./medium.ts";
import { beginNotes, readFacts } from "./notes.ts";
import { namesBelow, originOf } from "./tree.ts";

/** Into a folder that isn't there yet. Durable when it resolves. */
export async function takeSnapshot(
  { dataset, name }: SnapshotName,
  { medium, layout, folder, properties }: { medium: Medium; layout: Layout; folder: string; properties: Properties },
): Promise<void> {
  const content = await findContent(medium, layout.placeOf(dataset));
  if (!content) throw storageError("STORAGE_FAILED", `${dataset} has lost its content: only its snapshots are there`);
  await makeFolder(folder);
  const facts = await medium.take(content.path, join(folder, name), {
    name,
    mountedWithin: () => (content.mounted ? mountedWithin(medium, layout, dataset) : Promise.resolve([])),
    newestGeneration: () => newestGeneration(layout, dataset),
  });
  await beginNotes(folder, { properties, facts });
  await flushFolder(folder);
}

async function mountedWithin(medium: Medium, layout: Layout, dataset: DatasetName): Promise<readonly string[]> {
  const within: string[] = [];
  for (const name of await namesBelow(layout, dataset))
    if ((await findContent(medium, layout.placeOf(name)))?.mounted === true)
      within.push(name.slice(dataset.length + 1));
  return within;
}

/** Of its snapshots, and of the one that it is a clone of: a promotion brings that one, and what is older, under its name. */
async function newestGeneration(layout: Layout, dataset: DatasetName): Promise<number> {
  const origin = await originOf(layout, dataset);
  const names = (await listFolder(layout.snapshotsFolder(dataset))) ?? [];
  let newest = 0;
  for (const one of [...names.map((name) => ({ dataset, name })), ...(origin ? [origin] : [])])
    newest = Math.max(newest, (await readFacts(layout.snapshotFolder(one)))?.generation ?? 0);
  return newest;
}
