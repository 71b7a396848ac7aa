// The forks that a peer keeps, for an operator: which there are, what they hold that the shard lacks, and how one goes. Works without the sitter.

import { rename, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ManateeError } from "../../base/errors.ts";
import { formatLsn, type Lsn, parseLsn, type Timeline } from "../../base/lsn.ts";
import type { PostgresConfig } from "../../config/types.ts";
import type { DatasetName, SnapshotName, Storage } from "../../storage/port.ts";
import type { ForkCommit, ForkContent, Forks, KeptFork } from "../forks.ts";
import { findBinaries } from "./binaries.ts";
import { readControlFile } from "./control-file.ts";
import { newestTimeline } from "./data-directory.ts";
import { HOLD_TAG, lookDataset, type PostgresStorage, storedForks } from "./dataset.ts";
import { flushFolder, readIfThere, removeTree } from "./durable.ts";
import { keptFolders, PARTIAL } from "./forks.ts";
import { type Places, placesOf } from "./places.ts";
import { runProgram } from "./programs.ts";
import { isSwapping } from "./swap.ts";
import { newestPast } from "./timeline-history.ts";

const LOOK_SNAPSHOT = "look";

export interface KeptForksOptions {
  readonly config: PostgresConfig;
  readonly storage: Pick<PostgresStorage, "storage" | "dataset"> | undefined;
}

/** As it is shown, and where it is. */
type Found =
  | { readonly kind: "folder"; readonly shown: KeptFork; readonly folder: string }
  | { readonly kind: "snapshot"; readonly shown: KeptFork; readonly snapshot: SnapshotName }
  | { readonly kind: "dataset"; readonly shown: KeptFork; readonly dataset: DatasetName };

export class KeptForks implements Forks {
  readonly #config: PostgresConfig;
  readonly #places: Places;
  readonly #storage: KeptForksOptions["storage"];

  constructor({ config, storage }: KeptForksOptions) {
    this.#config = config;
    this.#places = placesOf(config);
    this.#storage = storage;
  }

  async list(): Promise<readonly KeptFork[]> {
    return (await this.#all()).map(({ shown }) => shown);
  }

  async content(name: string): Promise<ForkContent> {
    const fork = await this.#find(name);
    if (fork.kind === "folder") return this.#read(fork.folder);
    if (fork.kind === "snapshot") return this.#readClone(fork.snapshot);
    // Not mounted itself: it may be made to lie where the data directory is.
    const { storage } = this.#demandStorage();
    const snapshot = { dataset: fork.dataset, name: LOOK_SNAPSHOT };
    const left = (await storage.snapshots(fork.dataset)).some((one) => one.name === LOOK_SNAPSHOT);
    if (!left) await storage.snapshot({ ...snapshot, properties: {} });
    try {
      return await this.#readClone(snapshot);
    } finally {
      await storage.destroySnapshot(snapshot);
    }
  }

  async drop(name: string): Promise<void> {
    const fork = await this.#find(name);
    if (await isSwapping(this.#places))
      throw forkError(
        "PG_FORK_IN_USE",
        "the peer is putting a dataset in its place just now",
        "Wait until it has ended.",
      );
    if (fork.kind === "folder") {
      // Renamed first: cut short, it is none that is kept.
      const aside = fork.folder + PARTIAL;
      await removeTree(aside);
      await rename(fork.folder, aside);
      await flushFolder(dirname(fork.folder));
      await removeTree(aside);
      return;
    }
    const { storage } = this.#demandStorage();
    if (fork.kind === "snapshot") return destroyKept(storage, fork.snapshot);
    for (const snapshot of await storage.snapshots(fork.dataset)) await storage.release(snapshot, HOLD_TAG);
    await storage.unmount(fork.dataset);
    await storage.destroyDataset(fork.dataset);
  }

  /** By name. */
  async #all(): Promise<readonly Found[]> {
    const found = [...(await this.#folders()), ...(await this.#stored())];
    return found.sort((a, b) => (a.shown.name < b.shown.name ? -1 : 1));
  }

  async #find(name: string): Promise<Found> {
    const all = await this.#all();
    const found = all.filter(({ shown }) => shown.name === name);
    // A roll-back keeps what was there as a dataset, in which the snapshot lies that a try before it kept: all of it.
    const best = found.find(({ kind }) => kind === "dataset") ?? found[0];
    if (best) return best;
    const names = [...new Set(all.map(({ shown }) => shown.name))];
    throw forkError(
      "PG_FORK_UNKNOWN",
      `no fork ${JSON.stringify(name)} is kept here`,
      names.length === 0 ? "There is none." : `There is: ${names.join(", ")}.`,
    );
  }

  async #folders(): Promise<Found[]> {
    return Promise.all(
      (await keptFolders(this.#places)).map(async (name): Promise<Found> => {
        const folder = join(this.#places.forksDir, name);
        const { ctimeMs } = await stat(folder);
        const kind = "folder";
        return { kind, folder, shown: { name, kind, place: folder, keptWallMs: ctimeMs, ownBytes: undefined } };
      }),
    );
  }

  async #stored(): Promise<Found[]> {
    if (!this.#storage) return [];
    const { storage } = this.#storage;
    const { datasets, snapshots } = await storedForks(this.#storage);
    const whole = await Promise.all(
      datasets.map(async ({ fork, dataset }): Promise<Found> => {
        const keptWallMs = (await storage.snapshots(dataset)).at(-1)?.createdWallMs;
        const { used } = await storage.space(dataset);
        const kind = "dataset";
        return { kind, dataset, shown: { name: fork, kind, place: dataset, keptWallMs, ownBytes: used } };
      }),
    );
    return [
      ...whole,
      ...snapshots.map(({ fork, snapshot }): Found => {
        const { dataset, name, createdWallMs, ownBytes } = snapshot;
        const kind = "snapshot";
        const place = `${dataset}@${name}`;
        return { kind, snapshot, shown: { name: fork, kind, place, keptWallMs: createdWallMs, ownBytes } };
      }),
    ];
  }

  async #readClone(snapshot: SnapshotName): Promise<ForkContent> {
    const { storage, dataset } = this.#demandStorage();
    const clone = lookDataset(dataset);
    const remove = async () => {
      if (!(await storage.look(clone))) return;
      await storage.unmount(clone);
      await storage.destroyDataset(clone);
    };
    // Of one that was cut short.
    await remove();
    await storage.clone(snapshot, clone);
    try {
      const { folder } = await storage.mount(clone);
      return await this.#read(folder);
    } finally {
      await remove();
    }
  }

  async #read(folder: string): Promise<ForkContent> {
    const timeline = newestTimeline(await readControlFile(folder));
    const past = await newestPast(this.#places.dataDir);
    const fork = past.find((segment) => segment.timeline === timeline)?.end;
    if (fork === undefined)
      throw unreadable(`it is on timeline ${timeline}, which the data that this peer has now has not left`);
    return { timeline, fork, commits: await this.#commits(join(folder, "pg_wal"), { timeline, fork }) };
  }

  async #commits(wal: string, { timeline, fork }: { timeline: Timeline; fork: Lsn }): Promise<ForkCommit[]> {
    const major = Number.parseInt((await readIfThere(join(this.#places.dataDir, "PG_VERSION"))) ?? "", 10);
    const { postgres } = await findBinaries({ binDir: this.#config.binDir, major });
    const commits: ForkCommit[] = [];
    let last = "";
    try {
      await runProgram({
        program: join(dirname(postgres), "pg_waldump"),
        args: ["-p", wal, "-t", String(timeline), "-s", formatLsn(fork), "-r", "Transaction"],
        folder: this.#places.own,
        signal: new AbortController().signal,
        failure: { code: "PG_FORK_UNREADABLE", what: "pg_waldump", remedy: "operator", hint: "" },
        onLine: (line) => {
          const commit = parseCommit(line);
          if (commit) commits.push(commit);
          last = line;
        },
      });
    } catch (error) {
      // It reads until the WAL ends, which is where it finds a record that is none; it says so, and fails.
      if (
        !/(invalid|incorrect|could not find a valid|record with) /.test(last) ||
        /could not (open|find) file/.test(last)
      )
        throw unreadable("its WAL can't be read", error);
    }
    return commits.filter(({ lsn }) => (parseLsn(lsn) as Lsn) >= fork);
  }

  #demandStorage(): { readonly storage: Storage; readonly dataset: DatasetName } {
    if (this.#storage) return this.#storage;
    throw unreadable("no storage is configured");
  }
}

/** `rmgr: Transaction len …, tx: 737, lsn: 0/0152C2E8, prev 0/0152C2B0, desc: COMMIT 2026-01-01 10:00:00.000000 UTC; …` */
function parseCommit(line: string): ForkCommit | undefined {
  const match =
    /\btx: +(\d+), lsn: ([0-9A-F]+\/[0-9A-F]+), .*desc: COMMIT(?:_PREPARED)? (?:xid: (\d+): )?(\d{4}-[^;]+?)(?:;|$)/.exec(
      line,
    );
  if (!match) return undefined;
  const [, xid, lsn, prepared, committedAt] = match as unknown as [string, string, string, string | undefined, string];
  return { xid: prepared ?? xid, lsn, committedAt: committedAt.trim() };
}

async function destroyKept(storage: Storage, snapshot: SnapshotName): Promise<void> {
  await storage.release(snapshot, HOLD_TAG);
  await storage.destroySnapshot(snapshot);
}

function unreadable(what: string, cause?: unknown): ManateeError {
  return new ManateeError({
    code: "PG_FORK_UNREADABLE",
    message: `what the fork holds can't be told: ${what}`,
    remedy: "operator",
    hint: "Start PostgreSQL on a copy of it, and look (docs/operating/deposed-peer.md).",
    cause,
  });
}

function forkError(code: string, message: string, hint: string): ManateeError {
  return new ManateeError({ code, message, remedy: "operator", hint });
}
