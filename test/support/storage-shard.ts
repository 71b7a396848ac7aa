// What stands beside the sitters of a shard whose data directories lie on storage that takes snapshots: backup servers, and (where a story wants one) a snapshotter.

import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Storage } from "../../src/storage/port.ts";
import type { TestPeer } from "./peer.ts";
import { waitGone } from "./processes.ts";
import type { Runtime } from "./runtime.ts";
import { giveAway, runAs } from "./unprivileged.ts";

export const SUDO = ["sudo", "-n"];

export abstract class StorageOfShard {
  readonly storage: Storage;
  readonly #runtime: Runtime;
  readonly #sudoers: string;
  readonly #services = new Map<string, ChildProcess>();

  /** `sudoers`: the name of the file that lets the sitters' user run these programs as root. */
  protected constructor(options: { storage: Storage; runtime: Runtime; sudoers: string }) {
    this.storage = options.storage;
    this.#runtime = options.runtime;
    this.#sudoers = `/etc/sudoers.d/${options.sudoers}`;
  }

  protected async allow(programs: readonly string[]): Promise<void> {
    const line = `${runAs().userName} ALL=(root) NOPASSWD: ${programs.join(", ")}\n`;
    await writeFile(this.#sudoers, line, { mode: 0o440 });
  }

  abstract dataset(peer: { readonly name: string }): string;
  /** The part `storage` of the peer's configuration. */
  abstract section(peer: { readonly name: string }): Readonly<Record<string, unknown>>;
  /** What the other two processes are told of where the data lies. */
  protected abstract place(peer: { readonly name: string }): Readonly<Record<string, unknown>>;
  /** Before its sitter starts for the first time. */
  abstract prepare(peer: TestPeer): Promise<void>;
  /** As a new machine: nothing of what the peer had is left. Nothing of it may run. */
  abstract empty(peer: TestPeer): Promise<void>;
  /** Every one that there is. */
  abstract datasets(): Promise<readonly string[]>;
  protected abstract closeStorage(): Promise<void>;

  async startBackupServer(peer: TestPeer): Promise<void> {
    await this.#start(peer, "manatee-backupserver", {
      backupSenderCfg: this.place(peer),
      backupServerCfg: {
        host: peer.ip,
        port: peer.port + 2,
        sitterPort: peer.port + 1,
        credentialFile: join(peer.folder, "../../replication-password"),
      },
    });
  }

  async startSnapshotter(peer: TestPeer, config: Readonly<Record<string, unknown>> = {}): Promise<void> {
    await this.#start(peer, "manatee-snapshotter", {
      ...this.place(peer),
      sitterPort: peer.port + 1,
      stateDir: join(peer.folder, "snapshotter"),
      ...config,
    });
  }

  /** By its program's name. */
  async kill(peer: TestPeer, program: string, signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const key = `${peer.name} ${program}`;
    const pid = this.#services.get(key)?.pid;
    this.#services.delete(key);
    if (pid === undefined) throw new Error(`${program} of ${peer.name} does not run`);
    process.kill(pid, signal);
    if (!(await waitGone(pid, 20_000))) throw new Error(`${program} of ${peer.name} survives ${signal}`);
  }

  async serviceLog(peer: TestPeer, program: string): Promise<string> {
    return readFile(join(peer.folder, `${program}.log`), "utf8").catch(() => "");
  }

  /** Tags of all holds, as the driver tells them: zfs-fuse can't list its own. */
  async holds(): Promise<readonly string[]> {
    const found: string[] = [];
    for (const name of await this.datasets())
      for (const { holds } of await this.storage.snapshots(name)) found.push(...holds);
    return found;
  }

  /** The processes beside the sitters. */
  async stopServices(): Promise<void> {
    for (const child of this.#services.values()) if (child.pid !== undefined) child.kill("SIGTERM");
    for (const [key, child] of this.#services)
      if (child.pid !== undefined && !(await waitGone(child.pid, 20_000))) throw new Error(`${key} does not end`);
    this.#services.clear();
  }

  async close(): Promise<void> {
    await rm(this.#sudoers, { force: true });
    await this.closeStorage();
  }

  async #start(peer: TestPeer, program: string, config: object): Promise<void> {
    const file = join(peer.folder, `${program}.json`);
    await writeFile(file, JSON.stringify(config));
    giveAway(file);
    const log = openSync(join(peer.folder, `${program}.log`), "a");
    const child = spawn(this.#runtime.node, [join(this.#runtime.folder, "bin", program), "-f", file, "-v"], {
      ...runAs().credentials,
      cwd: peer.folder,
      env: { PATH: process.env["PATH"] ?? "/usr/bin:/bin", HOME: peer.folder, LANG: "C.UTF-8" },
      stdio: ["ignore", log, log],
      detached: true,
    });
    closeSync(log);
    this.#services.set(`${peer.name} ${program}`, child);
  }
}
