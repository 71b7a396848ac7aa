// Which datasets there are, seen by the folders alone.

import { join } from "node:path";
import type { DatasetName, SnapshotName } from "../port.ts";
import { isFolder, listFolder, readText } from "./files.ts";
import { type Layout, ORIGIN } from "./layout.ts";
import { readFacts, readProperties } from "./notes.ts";

/** At any depth. A folder that is no dataset can have some below it. */
export async function namesBelow(layout: Layout, dataset: DatasetName): Promise<readonly DatasetName[]> {
  const names: DatasetName[] = [];
  for (const part of await partsIn(layout.datasetFolder(dataset))) {
    const child = `${dataset}/${part}`;
    const folder = layout.datasetFolder(child);
    if (!(await isFolder(folder))) continue;
    if ((await readProperties(folder)) !== undefined) names.push(child);
    names.push(...(await namesBelow(layout, child)));
  }
  return names;
}

/** Of a clone. The snapshot may have moved with its dataset, or to another by a promotion: it is found by what it is. */
export async function originOf(layout: Layout, dataset: DatasetName): Promise<SnapshotName | undefined> {
  const uuid = await readText(join(layout.datasetFolder(dataset), ORIGIN));
  if (uuid === undefined) return undefined;
  for (const top of await partsIn(layout.datasets))
    for (const other of [top, ...(await namesBelow(layout, top))]) {
      if (other === dataset) continue;
      for (const name of (await listFolder(layout.snapshotsFolder(other))) ?? [])
        if ((await readFacts(layout.snapshotFolder({ dataset: other, name })))?.uuid === uuid)
          return { dataset: other, name };
    }
  return undefined;
}

async function partsIn(folder: string): Promise<readonly string[]> {
  return ((await listFolder(folder)) ?? []).filter((name) => /^[A-Za-z0-9]/.test(name));
}
