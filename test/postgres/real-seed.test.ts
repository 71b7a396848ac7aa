// A copy by a peer's snapshot on the real server: what it does where something of it fails. Whole shards on a real ZFS are in test/integration/storage.test.ts.

import { execFileSync } from "node:child_process";
import { appendFile, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { PeerSnapshots } from "../../src/postgres/real/dataset.ts";
import { newestBeforeFork } from "../../src/snapshots/choice.ts";
import { type FolderStorage, folderStorage } from "../support/folder-storage.ts";
import {
  follow,
  leftOfAnother,
  PostgresBench,
  refusalBehindGate,
  startPrimary,
  type TestPeer,
} from "../support/postgres.ts";

const DATASET = "tank/pg";
/** The last rule of an operator's who trusts everybody. */
const OPEN_DOOR = "host all all all trust\n";

describe("a copy by a peer's snapshot (R1)", () => {
  let bench: PostgresBench;
  let storage: FolderStorage;
  let a: TestPeer;
  let b: TestPeer;
  let received: number;

  beforeEach(async () => {
    bench = await PostgresBench.open();
    storage = folderStorage(join(bench.folder, "pool"));
    await storage.create("tank");
    received = 0;
    a = await bench.peer("a");
    await startPrimary(a);
    await a.sql("create table t as select generate_series(1, 1000) as n");
  });
  afterEach(() => bench.cleanUp());

  /** As a backup server's, in backup mode, as storage without instants demands. */
  const snapshots: PeerSnapshots = {
    takeNow: () => Promise.resolve({ name: "1", guid: "1", properties: {} }),
    async receive({ dataset }) {
      received++;
      const { folder } = await storage.create(dataset);
      const client = await a.connect();
      await client.query("select pg_backup_start('seed', true)");
      execFileSync("cp", ["-a", `${a.config.dataDir}/.`, folder]);
      const { rows } = await client.query<{ labelfile: string }>("select labelfile from pg_backup_stop(false)");
      await client.end();
      await writeFile(join(folder, "backup_label"), rows[0]?.labelfile ?? "");
      return storage.snapshot({ dataset, name: "1", properties: {} });
    },
  };

  async function emptyPeer(peers: PeerSnapshots): Promise<void> {
    const dataDir = join(bench.folder, "pool", "datasets", "tank", "pg");
    b = await bench.peer(
      "b",
      { dataDir, socketDir: join(bench.folder, "s") },
      { storage, dataset: DATASET, chooseSnapshot: newestBeforeFork, peers },
    );
  }

  /** Datasets of ours beside the one (folders of the driver's own lie there as well). */
  const beside = async () =>
    (await storage.children("tank")).map(({ name }) => name).filter((name) => name.startsWith(`${DATASET}-`));

  const copy = () => b.perform({ kind: "copy", from: a.self, incarnation: "two" });

  async function holdsAll(): Promise<void> {
    await follow(b, a);
    expect(await b.sql("select count(*)::int as n from t")).toEqual([{ n: 1000 }]);
  }

  it("puts what was received in the dataset's place, under its new incarnation, and keeps nothing that was empty", async () => {
    await emptyPeer(snapshots);
    const { data } = await copy();
    expect(data).toMatchObject({ kind: "present", mark: { incarnation: "two", source: a.self.id, incomplete: false } });
    expect(received).toBe(1);
    expect(await beside()).toEqual([]);
    await holdsAll();
    expect(await a.sql("select slot_name from pg_replication_slots")).toEqual([]);
  });

  it("brings nothing along that belongs to the server it was taken of: it can only start as a standby, behind its gate (P1)", async () => {
    await a.sql("select pg_create_physical_replication_slot('left', true)");
    await emptyPeer({
      ...snapshots,
      async receive(options) {
        const received = await snapshots.receive(options);
        const { dataDir } = b.config;
        const { folder } = (await storage.look(options.dataset)) ?? { folder: dataDir };
        await appendFile(join(folder, "pg_hba.conf"), OPEN_DOOR);
        await writeFile(join(folder, "recovery.signal"), "");
        const names = await readdir(folder);
        expect(names, "as it was received").toEqual(expect.arrayContaining(["postmaster.pid", "recovery.signal"]));
        expect(names).not.toContain("standby.signal");
        expect(await readdir(join(folder, "pg_replslot"))).toContain("left");
        return received;
      },
    });
    const { data } = await copy();
    expect(received).toBe(1);
    expect(data).toMatchObject({ kind: "present", standbySignal: true });
    expect(await leftOfAnother(b)).toEqual([]);
    expect(await readFile(join(b.config.dataDir, "pg_hba.conf"), "utf8")).toContain(OPEN_DOOR);
    expect(await refusalBehindGate(b, a)).toMatch(/pg_hba.conf rejects/);
    await holdsAll();
    expect(await b.sql("select slot_name from pg_replication_slots")).toEqual([]);
  });

  it("is a base backup where the snapshot can't be had, whatever the reason", async () => {
    await emptyPeer({ ...snapshots, takeNow: () => Promise.reject(new Error("all replication slots are in use")) });
    const { data } = await copy();
    expect(data).toMatchObject({ kind: "present", mark: { incarnation: "two" } });
    expect(received).toBe(0);
    await holdsAll();
  });

  it("that was cut short while it took the dataset's place is gone on with, and no base backup comes in between", async () => {
    await emptyPeer(snapshots);
    storage.failAfter(0, "rename");
    await expect(copy()).rejects.toThrow("rename fails");
    const { data } = await b.until("the swap is over", (seen) => seen.data.kind === "present");
    expect(data).toMatchObject({ mark: { incarnation: "two", incomplete: false } });
    expect(received).toBe(1);
    expect(await beside()).toEqual([]);
    await holdsAll();
  });
});
