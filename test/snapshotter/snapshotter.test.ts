import { beforeEach, describe, expect, it } from "vitest";
import { ManateeError } from "../../src/base/errors.ts";
import { formatLsn, lsn } from "../../src/base/lsn.ts";
import { readSnapshotterConfig, type SnapshotterConfig } from "../../src/config/snapshotter.ts";
import { decodeFacts, refusalOf, verdictOf } from "../../src/snapshots/facts.ts";
import type { LocalSitter, ShardPlace } from "../../src/snapshotter/local-sitter.ts";
import { Snapshotter } from "../../src/snapshotter/snapshotter.ts";
import { storageError } from "../../src/storage/errors.ts";
import type { Dataset, Snapshot, SnapshotName, Storage } from "../../src/storage/port.ts";
import type { Log, LogFields } from "../../src/world/port.ts";
import { DATASET, quietLog } from "../support/backup.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** A machine whose time passes when it is told to, with a storage that remembers. */
class Machine {
  now = 0;
  wallMs = Date.UTC(2026, 0, 5);
  place: ShardPlace | undefined = { role: "sync", generation: 3, begin: { timeline: 1, lsn: lsn(1n) } };
  sitterAnswers = true;
  percentFree = 50;
  snapshots: Snapshot[] = [];
  clones: string[] = [];
  trouble: ManateeError | undefined;
  verdict: { passed: boolean; text: string } | Error = { passed: true, text: "started" };
  verified: string[] = [];
  readonly lines: { message: string; fields: LogFields | undefined }[] = [];

  readonly log: Log = {
    ...quietLog,
    warn: (message, fields) => this.lines.push({ message, fields }),
    error: (message, fields) => this.lines.push({ message, fields }),
  };
  readonly clock = { now: () => this.now, wall: () => this.wallMs };
  readonly timers = {
    after: (delayMs: number, callback: () => void) => {
      this.pass(delayMs);
      queueMicrotask(callback);
      return () => undefined;
    },
  };
  readonly sitter: LocalSitter = {
    peerAddresses: () => Promise.resolve(new Set()),
    place: () => (this.sitterAnswers ? Promise.resolve(this.place) : Promise.reject(new Error("no sitter"))),
    walPosition: () =>
      this.sitterAnswers
        ? Promise.resolve({
            lookedWallMs: this.wallMs,
            timeline: 1,
            walEnd: formatLsn(lsn(BigInt(this.wallMs))),
            role: this.place?.role,
            generation: this.place?.generation,
            systemIdentifier: "7",
            incarnation: "one",
          })
        : Promise.reject(new Error("no sitter")),
  };
  readonly storage: Partial<Storage> = {
    description: "a test's",
    capabilities: () =>
      Promise.resolve({ atomic: true, shared: true, incremental: true, resume: true, format: "zfs" as const }),
    snapshots: async () => (await this.#step(), [...this.snapshots]),
    snapshot: async ({ dataset, name, properties }) => {
      await this.#step();
      if (this.snapshots.some((one) => one.name === name)) throw storageError("STORAGE_EXISTS", name);
      const made: Snapshot = {
        dataset,
        name,
        properties,
        guid: name,
        createdWallMs: this.wallMs,
        holds: [],
        ownBytes: 0,
        referencedBytes: 0,
      };
      this.snapshots.push(made);
      return made;
    },
    setProperties: async (target, properties) => {
      await this.#step();
      const { name } = target as SnapshotName;
      this.snapshots = this.snapshots.map((one) =>
        one.name === name ? { ...one, properties: { ...one.properties, ...(properties as object) } } : one,
      );
    },
    destroySnapshot: async ({ name }) => {
      await this.#step();
      if (this.snapshots.find((one) => one.name === name)?.holds.length) throw storageError("STORAGE_HELD", name);
      this.snapshots = this.snapshots.filter((one) => one.name !== name);
    },
    space: async () => (await this.#step(), { used: 100 - this.percentFree, free: this.percentFree }),
    look: (dataset) =>
      Promise.resolve(this.clones.includes(dataset) ? ({ name: dataset, folder: "/clone" } as Dataset) : undefined),
    clone: (_, target) => Promise.resolve(void this.clones.push(target)),
    mount: (dataset) => Promise.resolve({ name: dataset, folder: "/clone" } as Dataset),
    unmount: () => Promise.resolve(),
    destroyDataset: (dataset) => Promise.resolve(void (this.clones = this.clones.filter((one) => one !== dataset))),
  };

  /** Of clones, when their time is over. */
  cloneEnds: number[] = [];
  clonesLooked = 0;

  endClones(): Promise<{ ended: string[]; nextWallMs: number | undefined }> {
    this.clonesLooked++;
    const ended = this.cloneEnds.filter((until) => until <= this.wallMs);
    this.cloneEnds = this.cloneEnds.filter((until) => until > this.wallMs);
    const nextWallMs = this.cloneEnds.length === 0 ? undefined : Math.min(...this.cloneEnds);
    return this.trouble ? Promise.reject(this.trouble) : Promise.resolve({ ended: ended.map(String), nextWallMs });
  }

  pass(ms: number): void {
    this.now += ms;
    this.wallMs += ms;
  }

  get names(): string[] {
    return this.snapshots.map(({ name }) => name);
  }

  #step(): Promise<void> {
    return this.trouble ? Promise.reject(this.trouble) : Promise.resolve();
  }
}

describe("the snapshotter", () => {
  let machine: Machine;
  let snapshotter: Snapshotter;

  function begin(overrides: Partial<SnapshotterConfig> = {}): void {
    const read = readSnapshotterConfig({ json: JSON.stringify({ dataset: DATASET }), file: "f" });
    if (read.kind === "invalid") throw new Error("not valid");
    snapshotter = new Snapshotter({
      config: { ...read.config, retention: { newest: 5, hourly: 0, daily: 0, weekly: 0 }, ...overrides },
      storage: machine.storage as Storage,
      sitter: machine.sitter,
      verify: () => {
        machine.verified.push(machine.names.at(-1) ?? "");
        return machine.verdict instanceof Error ? Promise.reject(machine.verdict) : Promise.resolve(machine.verdict);
      },
      endLeftovers: () => Promise.resolve(),
      endClones: () => machine.endClones(),
      clock: machine.clock,
      timers: machine.timers,
      log: machine.log,
    });
  }

  /** A tick a second, as `run` has them; what goes on beside is waited for. */
  async function go(ms: number, every = 1_000): Promise<void> {
    for (let passed = 0; passed < ms; passed += every) {
      machine.pass(every);
      await snapshotter.tick();
      for (let i = 0; i < 50; i++) await Promise.resolve();
    }
  }

  beforeEach(() => {
    machine = new Machine();
    begin();
  });

  it("takes one at once where there is none, and then each interval, and keeps a bounded number", async () => {
    await go(1_000);
    expect(machine.names).toHaveLength(1);
    await go(2 * HOUR_MS, MINUTE_MS);
    expect(machine.names).toHaveLength(3);
    await go(10 * HOUR_MS, MINUTE_MS);
    // The verified one stays beside the newest five.
    expect(machine.names.length).toBeLessThanOrEqual(6);
    expect(decodeFacts(machine.snapshots.at(-1)?.properties ?? {})).toMatchObject({ why: "periodic", role: "sync" });
  });

  it("goes on in the former's rhythm after a restart", async () => {
    await go(1_000);
    await go(50 * MINUTE_MS, MINUTE_MS);
    begin();
    await go(5 * MINUTE_MS, MINUTE_MS);
    expect(machine.names).toHaveLength(1);
    await go(10 * MINUTE_MS, MINUTE_MS);
    expect(machine.names).toHaveLength(2);
  });

  it("takes one at each change of role or generation, and says which", async () => {
    await go(2_000);
    machine.place = { ...(machine.place as ShardPlace), role: "primary", generation: 4 };
    await go(2_000);
    expect(machine.snapshots.map(({ properties }) => properties["manatee:why"])).toEqual([
      "periodic",
      "role: sync to primary, generation 4",
    ]);
  });

  it("ends clones when their time is over, and looks seldom until then", async () => {
    machine.cloneEnds = [machine.wallMs + 2 * HOUR_MS + 30_000];
    await go(2 * HOUR_MS, 1_000);
    expect(machine.clonesLooked).toBeLessThanOrEqual(121);
    expect(machine.cloneEnds).toHaveLength(1);
    await go(31_000);
    expect(machine.cloneEnds).toEqual([]);
  });

  it("takes one when asked", async () => {
    await go(2_000);
    snapshotter.request("on demand");
    await go(2_000);
    expect(machine.snapshots.at(-1)?.properties["manatee:why"]).toBe("on demand");
  });

  it("is not confused by a clock that jumps", async () => {
    await go(2_000);
    machine.wallMs += 365 * 24 * HOUR_MS;
    await go(2 * HOUR_MS, MINUTE_MS);
    machine.wallMs -= 365 * 24 * HOUR_MS;
    await go(2 * HOUR_MS, MINUTE_MS);
    expect(machine.names).toHaveLength(5);
    begin();
    await go(3_000);
    // The newest is from the past of this clock or not: it takes one rather than none.
    expect(machine.names.length).toBeGreaterThanOrEqual(5);
  });

  it("takes them without a sitter too, says so, and removes none that is held", async () => {
    machine.sitterAnswers = false;
    await go(1_000);
    expect(machine.names).toHaveLength(1);
    expect(decodeFacts(machine.snapshots[0]?.properties ?? {})).toBeUndefined();
    expect(machine.lines.some(({ message }) => message.includes("position is not known"))).toBe(true);
    machine.snapshots = machine.snapshots.map((one) => ({ ...one, holds: ["mine"] }));
    machine.sitterAnswers = true;
    await go(20 * HOUR_MS, MINUTE_MS);
    expect(machine.snapshots[0]?.holds).toEqual(["mine"]);
  });

  it("goes on when a dataset that was gone is back, and tells of it once a minute", async () => {
    await go(2_000);
    machine.trouble = storageError("STORAGE_NO_DATASET", "tank/pg is gone");
    await go(2 * HOUR_MS, 10_000);
    const told = machine.lines.filter(({ fields }) => fields?.["code"] === "STORAGE_NO_DATASET");
    expect(told.length).toBeGreaterThan(100);
    expect(told.length).toBeLessThan(400);
    machine.trouble = undefined;
    await go(2 * HOUR_MS, MINUTE_MS);
    expect(machine.names.length).toBeGreaterThan(2);
  });

  it("thins out where space runs short, and takes none where it is gone", async () => {
    await go(6 * HOUR_MS, MINUTE_MS);
    const before = machine.names.length;
    machine.percentFree = 10;
    await go(MINUTE_MS + 2_000);
    expect(machine.names.length).toBeLessThan(before);
    await go(2 * MINUTE_MS);
    const verified = machine.snapshots.filter(({ properties }) => verdictOf(properties)?.passed);
    expect(verified).toHaveLength(1);
    machine.percentFree = 3;
    await go(2 * MINUTE_MS);
    const least = machine.names;
    await go(3 * HOUR_MS, MINUTE_MS);
    expect(machine.names).toEqual(least);
    expect(machine.lines.some(({ fields }) => fields?.["code"] === "SNAPSHOT_SPACE_SHORT")).toBe(true);
    machine.percentFree = 50;
    await go(2 * HOUR_MS, MINUTE_MS);
    expect(machine.names.length).toBeGreaterThan(least.length);
  });

  it("verifies the newest one a day, and leaves no clone", async () => {
    await go(3_000);
    expect(verdictOf(machine.snapshots[0]?.properties ?? {})).toMatchObject({ passed: true, text: "started" });
    await go(23 * HOUR_MS, MINUTE_MS);
    expect(machine.verified).toHaveLength(1);
    await go(2 * HOUR_MS, MINUTE_MS);
    expect(machine.verified).toHaveLength(2);
    expect(machine.clones).toEqual([]);
    begin();
    await go(3 * HOUR_MS, MINUTE_MS);
    expect(machine.verified).toHaveLength(2);
  });

  it("keeps one that failed, reports it, and takes none for good that is not", async () => {
    machine.verdict = { passed: false, text: "invalid page" };
    await go(3_000);
    const bad = machine.names[0];
    expect(machine.lines.some(({ fields }) => fields?.["code"] === "SNAPSHOT_UNSOUND")).toBe(true);
    await go(30 * HOUR_MS, MINUTE_MS);
    expect(machine.names[0]).toBe(bad);
  });

  it("makes no verdict of what it could not find out", async () => {
    machine.verdict = new Error("no memory");
    await go(3_000);
    expect(machine.verified).toHaveLength(1);
    expect(verdictOf(machine.snapshots[0]?.properties ?? {})).toBeUndefined();
    expect(machine.clones).toEqual([]);
  });

  it("writes down why one can't be verified, which is no verdict", async () => {
    machine.verdict = new ManateeError({
      code: "SNAPSHOT_LEADS_OUT",
      message: "pg_wal leads out",
      remedy: "operator",
      hint: "Move it.",
    });
    await go(3_000);
    const properties = machine.snapshots[0]?.properties ?? {};
    expect(refusalOf(properties)).toBe("pg_wal leads out");
    expect(verdictOf(properties)).toBeUndefined();
    expect(machine.lines.some(({ fields }) => fields?.["code"] === "SNAPSHOT_LEADS_OUT")).toBe(true);
    expect(machine.clones).toEqual([]);
    machine.verdict = { passed: true, text: "started" };
    await go(25 * HOUR_MS, MINUTE_MS);
    expect(machine.snapshots.some((one) => verdictOf(one.properties)?.passed)).toBe(true);
  });

  it("removes at its start what a verification that was killed has left", async () => {
    machine.clones = [`${DATASET}-verify`];
    await go(2_000);
    expect(machine.clones).toEqual([]);
    expect(machine.verified).toHaveLength(1);
  });
});
