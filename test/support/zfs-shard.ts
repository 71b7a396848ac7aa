// A shard whose data directories lie on datasets of a real ZFS, set up as docs/operating/storage.md says. The sitters' user gets at zfs-fuse, which knows no delegation,
// by sudo.

import { execFile } from "node:child_process";
import { chown, mkdir, rm } from "node:fs/promises";
import { promisify } from "node:util";
import { zfsStorage } from "../../src/storage/zfs/driver.ts";
import { realTimers } from "../../src/world/real/clock.ts";
import type { TestPeer } from "./peer.ts";
import type { Runtime } from "./runtime.ts";
import { StorageOfShard, SUDO } from "./storage-shard.ts";
import { runAs } from "./unprivileged.ts";
import { openZfsPool, untilDone, type ZfsPool } from "./zfs-pool.ts";

const run = promisify(execFile);

export class ZfsSide extends StorageOfShard {
  readonly pool: ZfsPool;

  private constructor(pool: ZfsPool, runtime: Runtime) {
    super({ storage: zfsStorage({ program: pool.program, timers: realTimers }), runtime, sudoers: pool.name });
    this.pool = pool;
  }

  static async open(runtime: Runtime, megabytes: number): Promise<ZfsSide> {
    const side = new ZfsSide(await openZfsPool({ megabytes }), runtime);
    await side.allow([side.pool.program, "/usr/bin/chown", "/bin/chown"]);
    return side;
  }

  dataset(peer: { readonly name: string }): string {
    return `${this.pool.name}/${peer.name}`;
  }

  section(peer: { readonly name: string }): Readonly<Record<string, unknown>> {
    return { kind: "zfs", dataset: this.dataset(peer), program: this.pool.program, sudo: SUDO };
  }

  protected place(peer: { readonly name: string }): Readonly<Record<string, unknown>> {
    return { dataset: this.dataset(peer), zfsPath: this.pool.program, sudo: SUDO };
  }

  /** The dataset, at the data directory. */
  async prepare(peer: TestPeer): Promise<void> {
    await mkdir(peer.dataDir, { recursive: true });
    await run(this.pool.program, ["create", "-o", `mountpoint=${peer.dataDir}`, this.dataset(peer)]);
    const { uid, gid } = runAs().credentials;
    if (uid !== undefined && gid !== undefined) await chown(peer.dataDir, uid, gid);
  }

  async empty(peer: TestPeer): Promise<void> {
    for (const name of (await this.datasets()).filter((one) => one.startsWith(this.dataset(peer)))) {
      for (const snapshot of await this.storage.snapshots(name))
        for (const tag of snapshot.holds) await this.storage.release(snapshot, tag);
      await untilDone(() => run(this.pool.program, ["destroy", "-R", "-f", name]));
    }
    await rm(`${peer.dataDir}.manatee`, { recursive: true, force: true });
    await this.prepare(peer);
  }

  async datasets(): Promise<readonly string[]> {
    return this.#names(["-t", "filesystem", "-r", this.pool.name]);
  }

  async snapshots(dataset: string): Promise<readonly string[]> {
    return this.#names(["-t", "snapshot", "-r", "-d", "1", dataset]);
  }

  async property(snapshot: string, name: string): Promise<string> {
    const { stdout } = await run(this.pool.program, ["get", "-H", "-o", "value", name, snapshot]);
    return stdout.trim();
  }

  protected closeStorage(): Promise<void> {
    return this.pool.close();
  }

  async #names(args: readonly string[]): Promise<readonly string[]> {
    const { stdout } = await run(this.pool.program, ["list", "-H", "-o", "name", ...args]);
    return stdout.split("\n").filter((name) => name !== "");
  }
}
