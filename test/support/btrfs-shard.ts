// A shard whose data directories lie on datasets of a real Btrfs, set up as docs/operating/storage.md says: it is mounted at the folder of all peers. What is root's there, the
// sitters' user does by sudo.

import { rm } from "node:fs/promises";
import { join } from "node:path";
import { btrfsStorage } from "../../src/storage/btrfs/driver.ts";
import { realTimers } from "../../src/world/real/clock.ts";
import { type BtrfsDisk, openBtrfsDisk } from "./btrfs-disk.ts";
import type { TestPeer } from "./peer.ts";
import type { Runtime } from "./runtime.ts";
import { StorageOfShard, SUDO } from "./storage-shard.ts";
import { giveAway } from "./unprivileged.ts";

export class BtrfsSide extends StorageOfShard {
  readonly #disk: BtrfsDisk;
  readonly #peers: string[] = [];

  private constructor(disk: BtrfsDisk, runtime: Runtime) {
    const sudoers = `manatee-btrfs-${process.pid}-${performance.now().toFixed(0)}`;
    super({ storage: btrfsStorage({ root: disk.folder, timers: realTimers }), runtime, sudoers });
    this.#disk = disk;
  }

  /** `folder`: of all peers; the data directory of each is `NAME/data` below it. */
  static async open(
    runtime: Runtime,
    { megabytes, folder }: { megabytes: number; folder: string },
  ): Promise<BtrfsSide> {
    const side = new BtrfsSide(await openBtrfsDisk({ megabytes, folder }), runtime);
    giveAway(folder);
    await side.allow(["/usr/bin/btrfs", "/bin/btrfs"]);
    return side;
  }

  dataset({ name }: { readonly name: string }): string {
    return `${name}/data`;
  }

  section(peer: { readonly name: string }): Readonly<Record<string, unknown>> {
    return { kind: "btrfs", root: this.#disk.folder, dataset: this.dataset(peer), sudo: SUDO };
  }

  protected place(peer: { readonly name: string }): Readonly<Record<string, unknown>> {
    return { dataset: this.dataset(peer), btrfsRoot: this.#disk.folder, sudo: SUDO };
  }

  /** Its sitter makes the dataset. */
  prepare({ name }: TestPeer): Promise<void> {
    if (!this.#peers.includes(name)) this.#peers.push(name);
    return Promise.resolve();
  }

  async empty(peer: TestPeer): Promise<void> {
    for (const { name } of await this.storage.children(peer.name)) {
      for (const snapshot of await this.storage.snapshots(name))
        for (const tag of snapshot.holds) await this.storage.release(snapshot, tag);
      await this.storage.destroyDataset(name);
    }
    await rm(join(`${peer.dataDir}.manatee`), { recursive: true, force: true });
  }

  async datasets(): Promise<readonly string[]> {
    const found = await Promise.all(this.#peers.map((name) => this.storage.children(name)));
    return found.flat().map(({ name }) => name);
  }

  protected closeStorage(): Promise<void> {
    return this.#disk.close();
  }
}
