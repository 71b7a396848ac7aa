import { describe, expect, it } from "vitest";
import { formatLsn, lsn } from "../../src/base/lsn.ts";
import { decodeFacts } from "../../src/snapshots/facts.ts";
import type { LocalSitter, WalPosition } from "../../src/snapshotter/local-sitter.ts";
import { snapshotTaker } from "../../src/snapshotter/take.ts";
import type { Properties, SnapshotName, Storage } from "../../src/storage/port.ts";
import { DATASET, quietLog } from "../support/backup.ts";

/** A machine on which every wait passes at once, and that does one thing after the other. */
function machine({ atomic = true, looks = true, rewinds = false } = {}) {
  let wallMs = 1_700_000_000_000;
  let snapshots: (SnapshotName & { properties: Properties })[] = [];
  const steps: string[] = [];
  const storage: Partial<Storage> = {
    description: "a test's",
    capabilities: () => Promise.resolve({ atomic, shared: true, incremental: true, resume: true, format: "zfs" }),
    snapshot: async ({ dataset, name, properties }) => {
      steps.push("begin");
      await Promise.resolve();
      wallMs += 100;
      snapshots.push({ dataset, name, properties });
      steps.push("made");
      return {
        dataset,
        name,
        properties,
        guid: name,
        createdWallMs: wallMs,
        holds: [],
        ownBytes: 0,
        referencedBytes: 0,
      };
    },
    setProperties: (target, properties) => {
      const { name } = target as SnapshotName;
      snapshots = snapshots.map((one) => (one.name === name ? { ...one, properties: properties as Properties } : one));
      return Promise.resolve();
    },
    destroySnapshot: ({ name }) => Promise.resolve(void (snapshots = snapshots.filter((one) => one.name !== name))),
  };
  let lookedWallMs = wallMs;
  const sitter: LocalSitter = {
    peerAddresses: () => Promise.resolve(new Set()),
    place: () => Promise.resolve(undefined),
    walPosition: () =>
      Promise.resolve({
        lookedWallMs,
        timeline: 1,
        walEnd: formatLsn(lsn(BigInt(lookedWallMs))),
        role: "async",
        generation: 1,
        systemIdentifier: "1",
        // Other content is put there while the snapshot is made.
        incarnation: rewinds && steps.includes("made") ? "two" : "one",
      } satisfies WalPosition),
  };
  const take = snapshotTaker({
    storage: storage as Storage,
    dataset: DATASET,
    sitter,
    clock: { now: () => wallMs, wall: () => wallMs },
    timers: {
      after: (delayMs, callback) => {
        wallMs += delayMs;
        // It looks once a second.
        if (looks && wallMs - lookedWallMs >= 1_000) lookedWallMs = wallMs;
        queueMicrotask(callback);
        return () => undefined;
      },
    },
    log: quietLog,
  });
  return { take, steps, snapshots: () => snapshots };
}

describe("a snapshot on demand", () => {
  it("has a position that was read after it was made, and is named by the time", async () => {
    const { take, snapshots } = machine();
    const { name, properties, createdWallMs } = await take();
    expect(name).toBe("1700000000000");
    expect(decodeFacts(properties)?.lsn).toBeGreaterThan(BigInt(createdWallMs));
    expect(decodeFacts(properties)).toMatchObject({ why: "on demand", role: "async", systemIdentifier: "1" });
    expect(snapshots()).toEqual([{ dataset: DATASET, name, properties }]);
  });

  it("is none where other content was put there meanwhile: what the server says is of that", async () => {
    const { take, snapshots } = machine({ rewinds: true });
    await expect(take()).rejects.toMatchObject({ code: "SNAPSHOT_SITTER_SILENT" });
    expect(snapshots()).toEqual([]);
  });

  it("is begun after it was asked for, and shared by those who ask while another one is made", async () => {
    const { take, snapshots } = machine();
    const first = take();
    await Promise.resolve();
    const names = (await Promise.all([first, take(), take(), take()])).map(({ name }) => name);
    expect(new Set(names).size).toBe(2);
    expect(names[1]).toBe(names[3]);
    expect(snapshots()).toHaveLength(2);
  });

  it("is thrown away where its position can't be had, and the next one is taken all the same", async () => {
    const { take, snapshots } = machine({ looks: false });
    await expect(take()).rejects.toMatchObject({ code: "SNAPSHOT_SITTER_SILENT" });
    expect(snapshots()).toEqual([]);
    await expect(take()).rejects.toMatchObject({ code: "SNAPSHOT_SITTER_SILENT" });
  });

  it("is refused where it would not show one instant", async () => {
    const { take, steps } = machine({ atomic: false });
    await expect(take()).rejects.toMatchObject({ code: "SNAPSHOT_NOT_ATOMIC" });
    expect(steps).toEqual([]);
  });
});
