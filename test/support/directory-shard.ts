// A shard whose data directories lie on datasets in plain folders, below the folder of all peers. Nothing of it is root's.

import { rm } from "node:fs/promises";
import { join } from "node:path";
import { directoryStorage } from "../../src/storage/directory/driver.ts";
import type { TestPeer } from "./peer.ts";
import type { Runtime } from "./runtime.ts";
import { StorageOfShard } from "./storage-shard.ts";

export class DirectorySide extends StorageOfShard {
  readonly #root: string;
  readonly #peers: string[] = [];

  /** `root`: the folder of all peers; the data directory of each is `NAME/data` below it. */
  constructor(runtime: Runtime, root: string) {
    super({ storage: directoryStorage({ root }), runtime, sudoers: "manatee-directory-needs-none" });
    this.#root = root;
  }

  dataset({ name }: { readonly name: string }): string {
    return `${name}/data`;
  }

  section(peer: { readonly name: string }): Readonly<Record<string, unknown>> {
    return { kind: "directory", root: this.#root, dataset: this.dataset(peer) };
  }

  protected place(peer: { readonly name: string }): Readonly<Record<string, unknown>> {
    return { dataset: this.dataset(peer), directoryRoot: this.#root };
  }

  /** Its sitter makes the dataset. */
  prepare({ name }: TestPeer): Promise<void> {
    if (!this.#peers.includes(name)) this.#peers.push(name);
    return Promise.resolve();
  }

  async empty(peer: TestPeer): Promise<void> {
    await rm(join(this.#root, ".manatee/datasets", peer.name), { recursive: true, force: true });
    for (const path of [peer.dataDir, `${peer.dataDir}.manatee`]) await rm(path, { recursive: true, force: true });
  }

  async datasets(): Promise<readonly string[]> {
    const found = await Promise.all(this.#peers.map((name) => this.storage.children(name)));
    return found.flat().map(({ name }) => name);
  }

  protected closeStorage(): Promise<void> {
    return Promise.resolve();
  }
}
