// What the contract doesn't ask of every driver: what is left when a process ends in the middle, and what copies and streams of files would let pass.

import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Dataset, Snapshot, Storage } from "../../../src/storage/port.ts";
import { directoryStorage } from "../../../src/storage/directory/driver.ts";
import { noXfs, openXfsDisk } from "../../support/xfs-disk.ts";

const signal = () => new AbortController().signal;
const MEGABYTE = 1024 * 1024;

describe("plain folders, beyond the contract", () => {
  let root: string;
  let storage: Storage;
  let dataset: Dataset;
  let container: string;

  beforeEach(async () => {
    root = mkdtempSync(join(tmpdir(), "manatee-directory-"));
    storage = directoryStorage({ root });
    dataset = await storage.create("shard/pg");
    container = join(root, ".manatee/datasets", dataset.name);
    write("one");
  });
  // Nothing stays in the hidden place, whatever a test did.
  afterEach(() => {
    expect(readdirSync(join(root, ".manatee/work"))).toEqual([]);
    rmSync(root, { recursive: true });
  });

  const write = (content: string) => writeFileSync(join(dataset.folder, "file"), content);
  const read = async (name = dataset.name) => readFileSync(join((await storage.mount(name)).folder, "file"), "utf8");
  const snap = (name: string) => storage.snapshot({ dataset: dataset.name, name, properties: {} });
  const names = async (of: string) => (await storage.snapshots(of)).map(({ name }) => name);
  const content = (snapshot: string) => join(container, ".snapshots", snapshot, snapshot);
  const sent = async (snapshot: Snapshot) => {
    const chunks: Uint8Array[] = [];
    for await (const chunk of storage.send({ snapshot, signal: signal() })) chunks.push(chunk);
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
  const copySnapshot = (to: string) => execFileSync("cp", ["-a", content("1"), join(container, to)]);
  const moveAway = (mounted: boolean) =>
    renameSync(mounted ? dataset.folder : join(container, ".data"), join(container, ".previous"));

  it("say that their snapshots show no one instant, so that none is taken of a running server", async () => {
    expect(await storage.capabilities()).toMatchObject({ atomic: false, incremental: false, format: "tar" });
    expect(readdirSync(root).sort()).toEqual([".manatee", "shard"]);
  });

  it("keep rights, times, and links of both kinds in snapshots, clones and streams", async () => {
    const [empty, linked] = [join(dataset.folder, "empty"), join(dataset.folder, "linked")];
    mkdirSync(empty, { mode: 0o700 });
    chmodSync(dataset.folder, 0o700);
    symlinkSync("/somewhere/else", join(dataset.folder, "link"));
    linkSync(join(dataset.folder, "file"), linked);
    writeFileSync(join(dataset.folder, "-rf"), "a name like an option");
    utimesSync(join(dataset.folder, "file"), 1_000_000_000, 1_000_000_000.125);
    const first = await snap("1");
    await storage.clone(first, "shard/clone");
    await receive("shard/copy", await sent(first));
    for (const name of ["shard/clone", "shard/copy"]) {
      const { folder } = await storage.mount(name);
      const mode = (path: string) => lstatSync(join(folder, path)).mode & 0o777;
      expect([mode("."), mode("empty")]).toEqual([0o700, 0o700]);
      expect(readlinkSync(join(folder, "link"))).toBe("/somewhere/else");
      expect(lstatSync(join(folder, "linked")).ino).toBe(lstatSync(join(folder, "file")).ino);
      expect(lstatSync(join(folder, "file")).mtimeMs).toBe(1_000_000_000_125);
      expect(readdirSync(folder).sort()).toEqual(["-rf", "empty", "file", "link", "linked"]);
    }
  });

  it("take a snapshot without what other datasets have mounted within, however deep", async () => {
    mkdirSync(join(dataset.folder, "below"), { mode: 0o750 });
    writeFileSync(join(dataset.folder, "below/own"), "own");
    for (const name of ["wal", "below/wal"])
      writeFileSync(join((await storage.create(`${dataset.name}/${name}`)).folder, "theirs"), "theirs");
    await snap("1");
    expect(readdirSync(content("1")).sort()).toEqual(["below", "file"]);
    expect(readdirSync(join(content("1"), "below"))).toEqual(["own"]);
    expect(lstatSync(join(content("1"), "below")).mode & 0o777).toBe(0o750);
    await storage.unmount(`${dataset.name}/wal`);
    await storage.unmount(`${dataset.name}/below/wal`);
  });

  it.each([
    ["mounted", "@next"],
    ["not mounted", ".next"],
  ])("end a roll-back that was cut short between its renames, whoever looks: %s", async (state, next) => {
    await snap("1");
    write("two");
    if (state !== "mounted") await storage.unmount(dataset.name);
    copySnapshot(next);
    moveAway(state === "mounted");
    expect((await storage.look(dataset.name))?.mounted).toBe(state === "mounted");
    expect(await read()).toBe("one");
    await storage.rollback({ dataset: dataset.name, name: "1" }, { destroyNewer: false });
    expect(existsSync(join(container, ".previous"))).toBe(false);
  });

  it("never take for the content what was made for a dataset mounted below, between the renames of a roll-back", async () => {
    await snap("1");
    write("two");
    copySnapshot("@next");
    moveAway(true);
    mkdirSync(join(dataset.folder, "wal"), { recursive: true });
    expect((await storage.look(dataset.name))?.mounted).toBe(false);
    rmSync(dataset.folder, { recursive: true });
    expect(await read()).toBe("one");
  });

  it("have not been rolled back where that was cut short before its renames", async () => {
    await snap("1");
    write("two");
    copySnapshot("@next");
    expect(await read()).toBe("two");
    await storage.rollback({ dataset: dataset.name, name: "1" }, { destroyNewer: false });
    expect(await read()).toBe("one");
    expect(existsSync(join(container, "@next"))).toBe(false);
  });

  it("lose what a process that was killed left, but for what is held", async () => {
    const namespace = readlinkSync("/proc/self/ns/pid").replace(/\D/g, "");
    // As it is named by a process whose number another one has now: this one, which began at another time.
    const gone = join(root, ".manatee/work", `${namespace}-${process.pid}-1-0123456789abcdef`, "incoming");
    mkdirSync(join(gone, "1"), { recursive: true });
    await storage.abandonReceive(dataset.name);
    expect(existsSync(join(gone, ".."))).toBe(false);
    mkdirSync(join(gone, ".holds"), { recursive: true });
    writeFileSync(join(gone, ".holds/transfer"), "");
    await storage.abandonReceive(dataset.name);
    expect(existsSync(gone)).toBe(true);
    rmSync(join(gone, ".holds"), { recursive: true });
    await storage.abandonReceive(dataset.name);
  });

  it("list snapshots in their order also under a clock that went back, and a clone's after its origin's", async () => {
    const facts = join(container, ".snapshots/9/.facts.json");
    const first = await snap("9");
    const later = { ...(JSON.parse(readFileSync(facts, "utf8")) as object), generation: Date.now() + 3_600_000 };
    writeFileSync(facts, JSON.stringify(later));
    await snap("5");
    expect(await names(dataset.name)).toEqual(["9", "5"]);
    await storage.clone(first, "shard/clone");
    await storage.snapshot({ dataset: "shard/clone", name: "1", properties: {} });
    await storage.promote("shard/clone");
    expect(await names("shard/clone")).toEqual(["9", "1"]);
    expect(await names(dataset.name)).toEqual(["5"]);
  });

  it("send a stream that can be unpacked by hand, and is received in whatever pieces", async () => {
    const whole = await sent(await snap("1"));
    const by = mkdtempSync(join(root, "by-hand-"));
    execFileSync("tar", ["-xf", "-", "-C", by], { input: whole.subarray(whole.indexOf("\n") + 1) });
    expect(readFileSync(join(by, "file"), "utf8")).toBe("one");
    expect(await receive("shard/copy", ...[...whole].map((byte) => Buffer.from([byte])))).toMatchObject({ name: "1" });
    expect(await read("shard/copy")).toBe("one");
  });

  it("take no stream that ends early, goes on, says nothing, or names its snapshot so that it would lie elsewhere", async () => {
    const whole = await sent(await snap("aaaaaaaa"));
    const bent = Buffer.from(whole.toString("latin1").replace("aaaaaaaa", "../../up"), "latin1");
    const line = Buffer.from('manatee-tar-1 {"name":"1"}\n');
    for (const pieces of [
      [whole.subarray(0, -1)],
      [whole, Buffer.from("x")],
      [whole, whole],
      [bent],
      [line],
      [whole.subarray(0, 40)],
      [Buffer.alloc(8192, whole.subarray(0, 20))],
      [],
    ])
      await expect(receive("shard/copy", ...pieces)).rejects.toMatchObject({ code: "STORAGE_BAD_STREAM" });
    expect(await storage.look("shard/copy")).toBeUndefined();
  });

  it("send no difference", async () => {
    const [first, second] = [await snap("1"), await snap("2")];
    const sending = async () => {
      for await (const _ of storage.send({ snapshot: second, from: first, signal: signal() }));
    };
    await expect(sending()).rejects.toMatchObject({ code: "STORAGE_BAD_STREAM" });
  });

  it.each([1, 2, 9])("send no end of a snapshot that goes while it is sent, after chunk %i", async (last) => {
    for (let i = 0; i < 40; i++) writeFileSync(join(dataset.folder, `large-${i}`), Buffer.alloc(MEGABYTE / 2, "x"));
    const first = await snap("1");
    const stream = async function* () {
      let count = 0;
      for await (const chunk of storage.send({ snapshot: first, signal: signal() })) {
        yield chunk;
        if (++count === last) await storage.destroySnapshot(first);
      }
    };
    await expect(storage.receive({ dataset: "shard/copy", stream: stream(), signal: signal() })).rejects.toMatchObject({
      code: "STORAGE_NO_SNAPSHOT",
    });
    expect(await storage.look("shard/copy")).toBeUndefined();
  });

  it("are unavailable, not empty, where their root is not there", async () => {
    const elsewhere = directoryStorage({ root: join(root, "nowhere") });
    const unavailable = { code: "STORAGE_UNAVAILABLE" };
    await expect(elsewhere.capabilities()).rejects.toMatchObject(unavailable);
    await expect(elsewhere.look("tank")).rejects.toMatchObject(unavailable);
    await expect(elsewhere.create("tank")).rejects.toMatchObject(unavailable);
    expect(existsSync(join(root, "nowhere"))).toBe(false);
  });
});

describe.skipIf(process.getuid?.() !== 0)(
  "plain folders on a disk without shared blocks (mounting one is root's)",
  () => {
    it("leave nothing of a snapshot or clone for which there is no room", async () => {
      const root = mkdtempSync(join(tmpdir(), "manatee-directory-"));
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=16m", "tmpfs", root]);
      try {
        const storage = directoryStorage({ root });
        const { name, folder } = await storage.create("pg");
        writeFileSync(join(folder, "large"), Buffer.alloc(6 * MEGABYTE, "x"));
        expect((await storage.capabilities()).shared).toBe(false);
        const first = await storage.snapshot({ dataset: name, name: "1", properties: {} });
        const full = { code: "STORAGE_NO_SPACE" };
        await expect(storage.snapshot({ dataset: name, name: "2", properties: {} })).rejects.toMatchObject(full);
        await expect(storage.clone(first, "clone")).rejects.toMatchObject(full);
        await expect(storage.rollback(first, { destroyNewer: true })).rejects.toMatchObject(full);
        expect(await storage.snapshots(name)).toEqual([first]);
        expect(await storage.look("clone")).toBeUndefined();
        expect(readFileSync(join(folder, "large")).length).toBe(6 * MEGABYTE);
        expect(readdirSync(join(root, ".manatee/work"))).toEqual([]);
      } finally {
        execFileSync("umount", [root]);
        rmSync(root, { recursive: true });
      }
    });
  },
);

describe.skipIf(noXfs !== undefined)(noXfs ?? "plain folders on a real XFS", () => {
  it("share blocks: a snapshot takes no space of its own", async () => {
    const disk = await openXfsDisk({ megabytes: 320 });
    try {
      const storage = directoryStorage({ root: disk.folder });
      expect((await storage.capabilities()).shared).toBe(true);
      const { name, folder } = await storage.create("pg");
      writeFileSync(join(folder, "large"), Buffer.alloc(64 * MEGABYTE, "x"));
      execFileSync("sync", ["-f", folder]);
      const before = await storage.space(name);
      await storage.snapshot({ dataset: name, name: "1", properties: {} });
      expect((await storage.space(name)).used - before.used).toBeLessThan(8 * MEGABYTE);
    } finally {
      await disk.close();
    }
  });
});
