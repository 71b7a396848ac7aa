// Storage whose datasets are folders below one root, and snapshots folders beside them. Which folders there are, layout.ts says; what they are made of, a medium.ts.

import { join } from "node:path";
import type { Bytes } from "../../base/units.ts";
import { storageError } from "../errors.ts";
import { demandDataset, demandProperties, demandSnapshot, demandTag } from "../names.ts";
import type { Capabilities, Dataset, DatasetName, Properties, Snapshot, SnapshotName, Storage } from "../port.ts";
import { findContent, mountContent, replaceContent, unmountContent } from "./content.ts";
import { flushFolder, listFolder, lookAt, makeFolder, moveFolder, removeText, writeText } from "./files.ts";
import { type Layout, ORIGIN, SNAPSHOTS, UNMOUNTED } from "./layout.ts";
import type { Medium } from "./medium.ts";
import { beginNotes, readFacts, readHolds, readProperties, removeHold, writeHold, writeProperties } from "./notes.ts";
import { giveName, receiveSnapshot } from "./receiving.ts";
import { heldBy, noDataset, noSnapshot, snapshotExists } from "./refusals.ts";
import { takeSnapshot } from "./taking.ts";
import { namesBelow, originOf } from "./tree.ts";
import { Workplace } from "./workplace.ts";

export class FolderStorage implements Storage {
  readonly description: string;
  readonly #medium: Medium;
  readonly #layout: Layout;
  readonly #work: Workplace;

  constructor(medium: Medium, layout: Layout) {
    this.description = medium.description;
    this.#medium = medium;
    this.#layout = layout;
    this.#work = new Workplace({ place: layout.work, removal: medium.removal });
  }

  async capabilities(): Promise<Capabilities> {
    await this.#medium.space();
    return this.#medium.capabilities();
  }

  // --- datasets

  async look(dataset: DatasetName): Promise<Dataset | undefined> {
    demandDataset(dataset);
    await this.#medium.space();
    const folder = this.#layout.datasetFolder(dataset);
    const properties = await readProperties(folder);
    if (!properties) return undefined;
    return {
      name: dataset,
      folder: this.#layout.mountPoint(dataset),
      mounted: (await findContent(this.#medium, this.#layout.placeOf(dataset)))?.mounted ?? false,
      origin: await originOf(this.#layout, dataset),
      properties,
    };
  }

  async children(dataset: DatasetName): Promise<readonly Dataset[]> {
    demandDataset(dataset);
    await this.#medium.space();
    // A parent may be a plain folder, or not there before its first child is.
    const found = await Promise.all((await namesBelow(this.#layout, dataset)).map((name) => this.look(name)));
    return found.filter((child) => child !== undefined);
  }

  async create(dataset: DatasetName, { properties = {} }: { properties?: Properties } = {}): Promise<Dataset> {
    await this.#demandFree(dataset);
    demandProperties(properties);
    await this.#make(dataset, { properties }, (content) => this.#medium.make(content));
    return this.mount(dataset);
  }

  async mount(dataset: DatasetName, folder?: string): Promise<Dataset> {
    const found = await this.#demand(dataset);
    if (folder !== undefined && folder !== found.folder)
      throw storageError("STORAGE_BAD_NAME", `${dataset} can be mounted at ${found.folder} only, not at ${folder}`);
    if (found.mounted) return found;
    await mountContent(this.#layout.placeOf(dataset));
    const mounted = await this.#demand(dataset);
    if (mounted.mounted) return mounted;
    throw storageError("STORAGE_FAILED", `${dataset} has lost its content: only its snapshots are there`);
  }

  async unmount(dataset: DatasetName): Promise<void> {
    if (!(await this.#demand(dataset)).mounted) return;
    await this.#demandNoneMountedBelow(dataset);
    await unmountContent(this.#layout.placeOf(dataset));
  }

  async setProperties(
    target: DatasetName | SnapshotName,
    properties: Readonly<Record<string, string | undefined>>,
  ): Promise<void> {
    demandProperties(properties);
    if (typeof target === "string") {
      await this.#demand(target);
      if (!(await writeProperties(this.#layout.datasetFolder(target), properties))) throw noDataset(target);
    } else {
      await this.#demandOne(target);
      if (!(await writeProperties(this.#layout.snapshotFolder(target), properties))) throw noSnapshot(target);
    }
  }

  async rename(from: DatasetName, to: DatasetName): Promise<void> {
    await this.#demandFree(to);
    await this.unmount(from);
    await this.#demandNoneMountedBelow(from);
    const folder = this.#layout.datasetFolder(from);
    await giveName({ layout: this.#layout, made: folder, dataset: to });
    await flushFolder(join(folder, ".."));
  }

  async destroyDataset(dataset: DatasetName): Promise<void> {
    if ((await this.look(dataset)) === undefined) return;
    const [child] = await namesBelow(this.#layout, dataset);
    if (child !== undefined) throw storageError("STORAGE_FAILED", `${dataset} has the dataset ${child} below it`);
    const held = (await this.snapshots(dataset)).find(({ holds }) => holds.length > 0);
    if (held) throw heldBy(held, held.holds);
    await this.unmount(dataset);
    await this.#work.discard(this.#layout.datasetFolder(dataset), async (moved) => {
      for (const name of (await listFolder(join(moved, SNAPSHOTS))) ?? []) {
        const holds = await readHolds(join(moved, SNAPSHOTS, name));
        if (holds.length > 0) return heldBy({ dataset, name }, holds);
      }
      return undefined;
    });
  }

  // --- snapshots

  /** `recursive`: one after the other. Several can't be taken at one instant. */
  async snapshot(options: SnapshotName & { properties: Properties; recursive?: boolean }): Promise<Snapshot> {
    const { dataset, name, properties, recursive = false } = options;
    demandSnapshot(options);
    demandProperties(properties);
    await this.#demand(dataset);
    const wanted = [dataset, ...(recursive ? await namesBelow(this.#layout, dataset) : [])].map((of) => ({
      dataset: of,
      name,
    }));
    for (const one of wanted) if (await lookAt(this.#layout.snapshotFolder(one))) throw snapshotExists(one);
    const place = await this.#work.begin();
    try {
      for (const [i, one] of wanted.entries())
        await takeSnapshot(one, {
          medium: this.#medium,
          layout: this.#layout,
          folder: join(place, String(i)),
          properties,
        });
      for (const [i, one] of wanted.entries()) {
        const outcome = await moveFolder(join(place, String(i)), this.#layout.snapshotFolder(one));
        if (outcome === "exists") throw snapshotExists(one);
        if (outcome === "missing") throw noDataset(one.dataset);
        await flushFolder(this.#layout.snapshotsFolder(one.dataset));
      }
    } finally {
      await this.#work.remove(place);
    }
    return this.#demandOne(options);
  }

  async snapshots(dataset: DatasetName): Promise<readonly Snapshot[]> {
    await this.#demand(dataset);
    const names = (await listFolder(this.#layout.snapshotsFolder(dataset))) ?? [];
    const found = await Promise.all(names.map((name) => this.#read({ dataset, name })));
    return found
      .filter((one) => one !== undefined)
      .sort((a, b) => a.generation - b.generation)
      .map(({ snapshot }) => snapshot);
  }

  async hold(snapshot: SnapshotName, tag: string): Promise<void> {
    demandSnapshot(snapshot);
    demandTag(tag);
    await this.#demandOne(snapshot);
    if (!(await writeHold(this.#layout.snapshotFolder(snapshot), tag))) throw noSnapshot(snapshot);
  }

  async release(snapshot: SnapshotName, tag: string): Promise<void> {
    demandSnapshot(snapshot);
    demandTag(tag);
    await this.#demandOne(snapshot);
    await removeHold(this.#layout.snapshotFolder(snapshot), tag);
  }

  async destroySnapshot(snapshot: SnapshotName): Promise<void> {
    const found = await this.#demandOne(snapshot);
    if (found.holds.length > 0) throw heldBy(found, found.holds);
    const gone = await this.#work.discard(this.#layout.snapshotFolder(snapshot), async (moved) => {
      const holds = await readHolds(moved);
      return holds.length > 0 ? heldBy(snapshot, holds) : undefined;
    });
    if (!gone) throw noSnapshot(snapshot);
  }

  async rollback(snapshot: SnapshotName, { destroyNewer }: { destroyNewer: boolean }): Promise<void> {
    await this.#demandOne(snapshot);
    const { dataset, name } = snapshot;
    const all = await this.snapshots(dataset);
    const newer = all.slice(all.findIndex((one) => one.name === name) + 1);
    if (newer.length > 0 && !destroyNewer)
      throw storageError(
        "STORAGE_NEWER_SNAPSHOTS",
        `${dataset} has ${newer.length} snapshots that are newer than ${name}`,
      );
    const held = newer.find(({ holds }) => holds.length > 0);
    if (held) throw heldBy(held, held.holds);
    await this.#demandNoneMountedBelow(dataset);
    const [place, source] = [this.#layout.placeOf(dataset), this.#layout.snapshotContent(snapshot)];
    await replaceContent({ medium: this.#medium, work: this.#work, place, source }, async () => {
      for (const one of newer.reverse()) await this.destroySnapshot(one);
    });
  }

  async clone(
    snapshot: SnapshotName,
    target: DatasetName,
    { properties = {} }: { properties?: Properties } = {},
  ): Promise<void> {
    await this.#demandFree(target);
    demandProperties(properties);
    await this.#demandOne(snapshot);
    const uuid = (await readFacts(this.#layout.snapshotFolder(snapshot)))?.uuid;
    if (uuid === undefined) throw noSnapshot(snapshot);
    const source = this.#layout.snapshotContent(snapshot);
    await this.#make(target, { properties, origin: uuid }, (content) => this.#medium.copy(source, content));
  }

  /** Clones don't depend, but roll-backs count on it that the history comes along. The origin goes last: cut short, the rest follows next time. */
  async promote(dataset: DatasetName): Promise<void> {
    const { origin } = await this.#demand(dataset);
    if (origin) {
      const all = await this.snapshots(origin.dataset);
      for (const one of all.slice(0, all.findIndex(({ name }) => name === origin.name) + 1)) {
        const to = { dataset, name: one.name };
        const outcome = await moveFolder(this.#layout.snapshotFolder(one), this.#layout.snapshotFolder(to));
        if (outcome === "exists") throw snapshotExists(to);
      }
      await flushFolder(this.#layout.snapshotsFolder(dataset));
      await flushFolder(this.#layout.snapshotsFolder(origin.dataset));
    }
    await removeText(join(this.#layout.datasetFolder(dataset), ORIGIN));
  }

  // --- streams

  /** Not known without reading all of it. */
  async estimate(snapshot: SnapshotName, from?: SnapshotName): Promise<Bytes | undefined> {
    await this.#demandOne(snapshot);
    if (from) await this.#demandOne(from);
    return undefined;
  }

  async *send(options: {
    snapshot: SnapshotName;
    from?: SnapshotName;
    resumeToken?: string;
    signal: AbortSignal;
  }): AsyncGenerator<Uint8Array> {
    const { snapshot, from, resumeToken, signal } = options;
    if (resumeToken !== undefined)
      throw storageError("STORAGE_BAD_STREAM", `${this.description} goes on from no token`);
    const found = await this.#demandOne(snapshot);
    if (from) await this.#demandOne(from);
    const source = this.#layout.snapshotContent(snapshot);
    yield* this.#medium.send({
      snapshot: found,
      source,
      from: from && this.#layout.snapshotContent(from),
      signal,
    });
  }

  async receive(options: {
    dataset: DatasetName;
    stream: AsyncIterable<Uint8Array>;
    signal: AbortSignal;
    resumable?: boolean;
  }): Promise<Snapshot> {
    const { dataset, stream, signal } = options;
    const known = (await this.look(dataset)) ? await this.snapshots(dataset) : undefined;
    if (known) await this.#demandNoneMountedBelow(dataset);
    const [medium, layout, work] = [this.#medium, this.#layout, this.#work];
    const name = await receiveSnapshot({ medium, layout, work, dataset, known, signal }, stream);
    return this.#demandOne({ dataset, name });
  }

  async resumeToken(): Promise<string | undefined> {
    return undefined;
  }

  /** A receive that is cut short removes what has come itself; here goes what processes that were killed have left. */
  async abandonReceive(dataset: DatasetName): Promise<void> {
    demandDataset(dataset);
    await this.#medium.space();
    await this.#work.sweep();
  }

  /** Of the whole file system: what one dataset takes of it can't be told without reading all its metadata. */
  async space(dataset: DatasetName): Promise<{ used: Bytes; free: Bytes }> {
    await this.#demand(dataset);
    return this.#medium.space();
  }

  // --- within

  /** In the hidden place; it appears when it is whole. */
  async #make(
    dataset: DatasetName,
    { properties, origin }: { properties: Properties; origin?: string },
    fill: (content: string) => Promise<unknown>,
  ): Promise<void> {
    const place = await this.#work.begin();
    try {
      const made = join(place, "dataset");
      await beginNotes(made, { properties });
      await makeFolder(join(made, SNAPSHOTS));
      if (origin !== undefined) await writeText(join(made, ORIGIN), origin);
      await fill(join(made, UNMOUNTED));
      await giveName({ layout: this.#layout, made, dataset });
    } finally {
      await this.#work.remove(place);
    }
  }

  async #read(snapshot: SnapshotName): Promise<{ snapshot: Snapshot; generation: number } | undefined> {
    const folder = this.#layout.snapshotFolder(snapshot);
    const [facts, properties, holds] = [await readFacts(folder), await readProperties(folder), await readHolds(folder)];
    if (!facts || !properties) return undefined;
    const { guid, createdWallMs, generation } = facts;
    const { dataset, name } = snapshot;
    const unknown = { ownBytes: undefined, referencedBytes: undefined };
    return { snapshot: { dataset, name, guid, createdWallMs, properties, holds, ...unknown }, generation };
  }

  async #demand(dataset: DatasetName): Promise<Dataset> {
    const found = await this.look(dataset);
    if (found) return found;
    throw noDataset(dataset);
  }

  /** What is mounted below it lies within its content, and would go with that; or would stay behind when its dataset is renamed. */
  async #demandNoneMountedBelow(dataset: DatasetName): Promise<void> {
    for (const name of await namesBelow(this.#layout, dataset))
      if ((await this.look(name))?.mounted === true)
        throw storageError("STORAGE_BUSY", `${name} is mounted below ${dataset}`, { hint: `Unmount ${name} first.` });
  }

  async #demandFree(dataset: DatasetName): Promise<void> {
    if (await this.look(dataset)) throw storageError("STORAGE_EXISTS", `${dataset} exists already`);
  }

  async #demandOne(snapshot: SnapshotName): Promise<Snapshot> {
    demandSnapshot(snapshot);
    await this.#medium.space();
    const found = await this.#read(snapshot);
    if (found) return found.snapshot;
    throw noSnapshot(snapshot);
  }
}
