// What the contract doesn't ask of every driver: what is left when a process ends in the middle, and what Btrfs alone would let pass.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { btrfsStorage } from "../../../src/storage/btrfs/driver.ts";
import type { Dataset, Snapshot, Storage } from "../../../src/storage/port.ts";
import { realTimers } from "../../../src/world/real/clock.ts";
import { type BtrfsDisk, noBtrfs, openBtrfsDisk } from "../../support/btrfs-disk.ts";

const NOBODY = 65534;
const signal = () => new AbortController().signal;

/** Length, kind and checksum: it has no data. */
const END_COMMAND_BYTES = 10;

describe.skipIf(noBtrfs !== undefined)(noBtrfs ?? "Btrfs, beyond the contract", () => {
  let disk: BtrfsDisk;
  let storage: Storage;
  let dataset: Dataset;
  let container: string;
  let count = 0;

  beforeAll(async () => {
    disk = await openBtrfsDisk({ megabytes: 256 });
    storage = btrfsStorage({ root: disk.folder, timers: realTimers });
  });
  afterAll(() => disk?.close());
  beforeEach(async () => {
    dataset = await storage.create(`tank/d${++count}`);
    container = join(disk.folder, ".manatee/datasets", dataset.name);
    write("one");
  });
  // Nothing stays in the hidden place, whatever a test did.
  afterEach(() => expect(readdirSync(join(disk.folder, ".manatee/work"))).toEqual([]));

  const write = (content: string) => writeFileSync(join(dataset.folder, "file"), content);
  const read = async (name = dataset.name) => readFileSync(join((await storage.mount(name)).folder, "file"), "utf8");
  const snap = (name: string) => storage.snapshot({ dataset: dataset.name, name, properties: {} });
  const names = async (of: string) => (await storage.snapshots(of)).map(({ name }) => name);
  const btrfs = (...args: string[]) => execFileSync("btrfs", args, { stdio: ["ignore", "ignore", "inherit"] });
  const sent = async (snapshot: Snapshot, from?: Snapshot) => {
    const chunks: Uint8Array[] = [];
    for await (const chunk of storage.send({ snapshot, ...(from && { from }), signal: signal() })) chunks.push(chunk);
    return Buffer.concat(chunks);
  };
  const receive = (name: string, ...pieces: Buffer[]) =>
    storage.receive({
      dataset: name,
      stream: (async function* () {
        yield* pieces;
      })(),
      signal: signal(),
    });
  const copySnapshot = (to: string) =>
    btrfs("subvolume", "snapshot", join(container, ".snapshots/1/1"), join(container, to));

  it.each([
    ["mounted", "@next"],
    ["not mounted", ".next"],
  ])("a roll-back that was cut short between its renames is ended by whoever looks: %s", async (state, next) => {
    await snap("1");
    write("two");
    if (state !== "mounted") await storage.unmount(dataset.name);
    copySnapshot(next);
    renameSync(state === "mounted" ? dataset.folder : join(container, ".data"), join(container, ".previous"));
    expect((await storage.look(dataset.name))?.mounted).toBe(state === "mounted");
    expect(await read()).toBe("one");
    await storage.rollback({ dataset: dataset.name, name: "1" }, { destroyNewer: false });
    expect(existsSync(join(container, ".previous"))).toBe(false);
  });

  it("a roll-back that was cut short before its renames has not been", async () => {
    await snap("1");
    write("two");
    copySnapshot("@next");
    expect(await read()).toBe("two");
    await storage.rollback({ dataset: dataset.name, name: "1" }, { destroyNewer: false });
    expect(await read()).toBe("one");
    await storage.destroyDataset(dataset.name);
  });

  it("a stream that ends between two commands, or goes on behind its end, is not whole", async () => {
    const whole = await sent(await snap("1"));
    const target = `${dataset.name}-copy`;
    const bad = { code: "STORAGE_BAD_STREAM" };
    await expect(receive(target, whole.subarray(0, -END_COMMAND_BYTES))).rejects.toMatchObject(bad);
    await expect(receive(target, whole, whole)).rejects.toMatchObject(bad);
    await expect(receive(target)).rejects.toMatchObject(bad);
    expect(await storage.look(target)).toBeUndefined();
    const bytes = [...whole].map((byte) => Buffer.from([byte]));
    expect(await receive(target, ...bytes)).toMatchObject({ name: "1" });
    expect(await read(target)).toBe("one");
  });

  it("a stream that would put its snapshot elsewhere is refused before anything of it is let through", async () => {
    const whole = await sent(await snap("aaaaaaaa"));
    const bent = Buffer.from(whole.toString("latin1").replace("aaaaaaaa", "../../up"), "latin1");
    await expect(receive(`${dataset.name}-copy`, bent)).rejects.toMatchObject({
      code: "STORAGE_BAD_STREAM",
      message: expect.stringContaining("is no name of a snapshot"),
    });
  });

  it("a difference is not received over what was written since, nor to another snapshot than the newest", async () => {
    const first = await snap("1");
    write("two");
    const second = await snap("2");
    const target = `${dataset.name}-copy`;
    await receive(target, await sent(first));
    const difference = await sent(second, first);
    const { folder } = await storage.mount(target);
    writeFileSync(join(folder, "file"), "mine");
    await expect(receive(target, difference)).rejects.toMatchObject({
      code: "STORAGE_FAILED",
      message: expect.stringContaining("has changed since"),
    });
    expect(await read(target)).toBe("mine");
    await storage.rollback({ dataset: target, name: "1" }, { destroyNewer: false });
    await receive(target, difference);
    expect(await read(target)).toBe("two");
    await expect(receive(target, difference)).rejects.toMatchObject({ code: "STORAGE_BAD_STREAM" });
    expect(await names(target)).toEqual(["1", "2"]);
  });

  it("what a process that was killed left is removed, but for what is held", async () => {
    const gone = join(disk.folder, ".manatee/work", ownerThatIsGone(), "incoming");
    mkdirSync(gone, { recursive: true });
    btrfs("subvolume", "create", join(gone, "1"));
    await storage.abandonReceive(dataset.name);
    expect(existsSync(join(gone, ".."))).toBe(false);
    mkdirSync(join(gone, ".holds"), { recursive: true });
    writeFileSync(join(gone, ".holds/transfer"), "");
    btrfs("subvolume", "create", join(gone, "1"));
    await storage.abandonReceive(dataset.name);
    expect(existsSync(join(gone, "1"))).toBe(true);
    rmSync(join(gone, ".holds"), { recursive: true });
    await storage.abandonReceive(dataset.name);
  });

  it("a dataset in which somebody works is busy", async () => {
    const worker = spawn("sleep", ["60"], { cwd: dataset.folder });
    await once(worker, "spawn");
    try {
      await expect(storage.unmount(dataset.name)).rejects.toMatchObject({ code: "STORAGE_BUSY" });
      await expect(storage.destroyDataset(dataset.name)).rejects.toMatchObject({ code: "STORAGE_BUSY" });
    } finally {
      await end(worker);
    }
    expect(await read()).toBe("one");
    await storage.destroyDataset(dataset.name);
  });

  it("a dataset with one mounted below it is busy, since that lies within", async () => {
    await snap("1");
    const child = await storage.create(`${dataset.name}/wal`);
    const busy = { code: "STORAGE_BUSY" };
    await expect(storage.unmount(dataset.name)).rejects.toMatchObject(busy);
    await expect(storage.rollback({ dataset: dataset.name, name: "1" }, { destroyNewer: false })).rejects.toMatchObject(
      busy,
    );
    expect(existsSync(child.folder)).toBe(true);
    await storage.unmount(child.name);
    await storage.unmount(dataset.name);
    await storage.mount(child.name);
    await expect(storage.rename(dataset.name, `${dataset.name}-moved`)).rejects.toMatchObject(busy);
    await storage.unmount(child.name);
    await storage.rename(dataset.name, `${dataset.name}-moved`);
    expect((await storage.children(`${dataset.name}-moved`)).map(({ name }) => name)).toEqual([
      `${dataset.name}-moved/wal`,
    ]);
  });

  it("what stands at its place is never mounted over, and what is kept beside it stays", async () => {
    writeFileSync(`${dataset.folder}.manatee`, "mark");
    await storage.unmount(dataset.name);
    expect(existsSync(dataset.folder)).toBe(false);
    mkdirSync(join(dataset.folder, "somebody"), { recursive: true });
    await expect(storage.mount(dataset.name)).rejects.toMatchObject({ code: "STORAGE_EXISTS" });
    rmSync(dataset.folder, { recursive: true });
    expect(await read()).toBe("one");
    await storage.rename(dataset.name, `${dataset.name}-aside`);
    expect(readFileSync(`${dataset.folder}.manatee`, "utf8")).toBe("mark");
  });

  it("a snapshot that is being sent is busy, and keeps its name", async () => {
    writeFileSync(join(dataset.folder, "large"), Buffer.alloc(8 * 1024 * 1024, "x"));
    const first = await snap("1");
    for await (const _ of storage.send({ snapshot: first, signal: signal() })) {
      await expect(storage.destroySnapshot(first)).rejects.toMatchObject({ code: "STORAGE_BUSY" });
      expect(await names(dataset.name)).toEqual(["1"]);
      break;
    }
    await storage.destroySnapshot(first);
  });

  it("a clone knows what it came from under whatever name, and takes the older ones along", async () => {
    await snap("1");
    write("two");
    const second = await snap("2");
    await snap("3");
    const [aside, clone] = [`${dataset.name}-fork`, `${dataset.name}-staged`];
    await storage.clone(second, clone);
    await storage.rename(dataset.name, aside);
    await storage.rename(clone, dataset.name);
    expect((await storage.look(dataset.name))?.origin).toEqual({ dataset: aside, name: "2" });
    await storage.promote(dataset.name);
    expect(await names(dataset.name)).toEqual(["1", "2"]);
    expect(await names(aside)).toEqual(["3"]);
    expect((await storage.look(dataset.name))?.origin).toBeUndefined();
  });

  it("a user who may not do what is root's is told so, and what to configure", async () => {
    const root = join(disk.folder, "other");
    mkdirSync(root);
    const other = btrfsStorage({ root, timers: realTimers });
    const snapshot = await other.snapshot({ dataset: (await other.create("pg")).name, name: "1", properties: {} });
    for (const path of [
      "",
      ".manatee/work",
      ".manatee/datasets",
      ...["", "/.snapshots", "/.snapshots/1"].map((of) => `.manatee/datasets/pg${of}`),
    ])
      chownSync(join(root, path), NOBODY, -1);
    process.seteuid?.(NOBODY);
    try {
      const refused = { code: "STORAGE_NOT_PERMITTED", hint: expect.stringContaining("storage.sudo") };
      await expect(other.destroySnapshot(snapshot)).rejects.toMatchObject(refused);
      expect(await other.snapshots("pg")).toEqual([snapshot]);
      expect(readdirSync(join(root, ".manatee/work"))).toEqual([]);
      expect(statSync((await other.create("own")).folder).uid).toBe(NOBODY);
    } finally {
      process.seteuid?.(0);
    }
  });

  it("what is created, mounted or destroyed at a place that is not Btrfs is unavailable, not missing", async () => {
    const folder = mkdtempSync(join(tmpdir(), "manatee-no-btrfs-"));
    const unavailable = { code: "STORAGE_UNAVAILABLE" };
    try {
      for (const root of ["/proc/self", join(folder, "nowhere")]) {
        const elsewhere = btrfsStorage({ root, timers: realTimers });
        await expect(elsewhere.capabilities()).rejects.toMatchObject(unavailable);
        await expect(elsewhere.look("tank")).rejects.toMatchObject(unavailable);
        await expect(elsewhere.children("tank")).rejects.toMatchObject(unavailable);
        await expect(elsewhere.destroyDataset("tank")).rejects.toMatchObject(unavailable);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
    const without = btrfsStorage({ root: disk.folder, program: "/nonexistent/btrfs", timers: realTimers });
    await expect(without.create("tank/new")).rejects.toMatchObject(unavailable);
    expect(await storage.look("tank/new")).toBeUndefined();
  });
});

/** As the folder of a process is named whose number has another process now: this one, which began at another time. */
function ownerThatIsGone(): string {
  const namespace = execFileSync("readlink", ["/proc/self/ns/pid"], { encoding: "utf8" }).replace(/\D/g, "");
  return `${namespace}-${process.pid}-1-0123456789abcdef`;
}

async function end(child: ChildProcess): Promise<void> {
  const gone = once(child, "exit");
  child.kill("SIGKILL");
  await gone;
}
