// Where things lie below the root. The content of a dataset lies at its name while it is mounted, so that what others keep beside it (DATADIR.manatee) stays where it is. All else of
// it lies in a hidden plain folder, where the content is as well while it is not mounted: one rename moves the dataset. A snapshot has a plain folder likewise, for what is
// read-only can't be moved to another folder by itself. What is ours begins with a dot or an @, and names don't.
//
//   ROOT/manatee/pg                                    the content, mounted
//   ROOT/.manatee/datasets/manatee/pg/.data            the same, not mounted
//   ROOT/.manatee/datasets/manatee/pg/.properties/     one file a property
//   ROOT/.manatee/datasets/manatee/pg/.origin          of a clone: the UUID of the snapshot that it was made of
//   ROOT/.manatee/datasets/manatee/pg/.snapshots/1/    .properties/, .holds/ (one file a hold), .facts.json, and the snapshot, of the same name
//   ROOT/.manatee/work/                                what is being made, or removed

import { join } from "node:path";
import type { DatasetName, SnapshotName } from "../port.ts";

export const UNMOUNTED = ".data";
/** What takes the content's place when it is rolled back: the first letter says whether that was mounted. */
export const NEXT_MOUNTED = "@next";
export const NEXT_UNMOUNTED = ".next";
/** What was the content until then. */
export const PREVIOUS = ".previous";
export const SNAPSHOTS = ".snapshots";
export const PROPERTIES = ".properties";
export const HOLDS = ".holds";
export const FACTS = ".facts.json";
export const ORIGIN = ".origin";

export class Layout {
  readonly root: string;
  readonly datasets: string;
  readonly work: string;

  constructor(root: string) {
    this.root = root;
    this.datasets = join(root, ".manatee", "datasets");
    this.work = join(root, ".manatee", "work");
  }

  /** Where its content is when it is mounted. */
  mountPoint(dataset: DatasetName): string {
    return join(this.root, ...dataset.split("/"));
  }

  /** Where all else of it is. */
  datasetFolder(dataset: DatasetName): string {
    return join(this.datasets, ...dataset.split("/"));
  }

  placeOf(dataset: DatasetName): { mountPoint: string; folder: string } {
    return { mountPoint: this.mountPoint(dataset), folder: this.datasetFolder(dataset) };
  }

  snapshotsFolder(dataset: DatasetName): string {
    return join(this.datasetFolder(dataset), SNAPSHOTS);
  }

  snapshotFolder({ dataset, name }: SnapshotName): string {
    return join(this.snapshotsFolder(dataset), name);
  }

  /** Its content: of the snapshot's name, which a stream of it bears. */
  snapshotContent(snapshot: SnapshotName): string {
    return join(this.snapshotFolder(snapshot), snapshot.name);
  }
}
