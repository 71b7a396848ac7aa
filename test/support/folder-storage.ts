// A storage of plain folders for tests of what stands on the port: datasets, snapshots and clones are copies (of blocks, where the file system shares them), and outlive
// whoever uses them. It keeps no stream.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { join } from "node:path";
import type { Dataset, Properties, Snapshot, SnapshotName, Storage } from "../../src/storage/port.ts";

interface Notes {
  properties: Properties;
  holds: string[];
  createdWallMs: number;
}

const failed = (code: string, message: string) => Object.assign(new Error(message), { code });

export interface FolderStorage extends Storage {
  /** The call of that method after so many others fails before it does anything. */
  failAfter(calls: number, method: "rename" | "mount" | "clone"): void;
}

export function folderStorage(root: string): FolderStorage {
  const at = (dataset: string) => join(root, "datasets", ...dataset.split("/"));
  const snapshotsOf = (dataset: string) => join(root, "snapshots", dataset.replaceAll("/", "%"));
  const notesOf = (path: string): Notes => JSON.parse(readFileSync(`${path}.json`, "utf8")) as Notes;
  const note = (path: string, notes: Notes) => writeFileSync(`${path}.json`, JSON.stringify(notes));
  const copy = (from: string, to: string) =>
    execFileSync("cp", ["-a", "--reflink=auto", from, to], { stdio: ["ignore", "ignore", "inherit"] });
  const failing = new Map<string, number>();
  const step = (method: string) => {
    const left = failing.get(method);
    if (left === undefined) return;
    if (left > 0) failing.set(method, left - 1);
    else failing.delete(method);
    if (left === 0) throw failed("STORAGE_FAILED", `${method} fails for the test`);
  };
  const look = (name: string): Dataset | undefined =>
    existsSync(at(name)) ? { name, folder: at(name), mounted: true, origin: undefined, properties: {} } : undefined;
  const pathOf = ({ dataset, name }: SnapshotName) => join(snapshotsOf(dataset), name);
  const describe = (dataset: string, name: string): Snapshot => {
    const notes = notesOf(pathOf({ dataset, name }));
    return { dataset, name, guid: name, ...notes, ownBytes: undefined, referencedBytes: undefined };
  };
  const unsupported = () => Promise.reject(failed("STORAGE_FAILED", "not by folders"));
  mkdirSync(join(root, "datasets"), { recursive: true });
  return {
    failAfter: (calls, method) => void failing.set(method, calls),
    description: "folders of a test",
    capabilities: () =>
      Promise.resolve({ atomic: false, shared: true, incremental: false, resume: false, format: "tar" }),
    look: (name) => Promise.resolve(look(name)),
    children: (name) =>
      Promise.resolve(
        existsSync(at(name)) ? readdirSync(at(name)).map((child) => look(`${name}/${child}`) as Dataset) : [],
      ),
    async create(name) {
      mkdirSync(at(name), { recursive: true, mode: 0o700 });
      return look(name) as Dataset;
    },
    async mount(name) {
      step("mount");
      const found = look(name);
      if (!found) throw failed("STORAGE_NO_DATASET", name);
      return found;
    },
    unmount: () => Promise.resolve(),
    async setProperties(target, properties) {
      if (typeof target === "string") return;
      const notes = notesOf(pathOf(target));
      note(pathOf(target), { ...notes, properties: { ...notes.properties, ...properties } as Properties });
    },
    async rename(from, to) {
      step("rename");
      if (existsSync(at(to))) throw failed("STORAGE_EXISTS", to);
      renameSync(at(from), at(to));
      if (existsSync(snapshotsOf(from))) renameSync(snapshotsOf(from), snapshotsOf(to));
    },
    async destroyDataset(name) {
      rmSync(at(name), { recursive: true, force: true });
      rmSync(snapshotsOf(name), { recursive: true, force: true });
    },
    async snapshot({ dataset, name, properties }) {
      mkdirSync(snapshotsOf(dataset), { recursive: true });
      copy(at(dataset), pathOf({ dataset, name }));
      note(pathOf({ dataset, name }), { properties, holds: [], createdWallMs: Date.now() });
      return describe(dataset, name);
    },
    async snapshots(dataset) {
      if (!existsSync(snapshotsOf(dataset))) return [];
      const names = readdirSync(snapshotsOf(dataset)).filter((name) => name.endsWith(".json"));
      return names
        .map((name) => describe(dataset, name.slice(0, -5)))
        .sort((a, b) => a.createdWallMs - b.createdWallMs);
    },
    async hold(snapshot, tag) {
      const notes = notesOf(pathOf(snapshot));
      note(pathOf(snapshot), { ...notes, holds: [...notes.holds, tag] });
    },
    async release(snapshot, tag) {
      const notes = notesOf(pathOf(snapshot));
      note(pathOf(snapshot), { ...notes, holds: notes.holds.filter((held) => held !== tag) });
    },
    async destroySnapshot(snapshot) {
      rmSync(pathOf(snapshot), { recursive: true, force: true });
      rmSync(`${pathOf(snapshot)}.json`);
    },
    async clone(snapshot, target) {
      step("clone");
      copy(pathOf(snapshot), at(target));
    },
    promote: () => Promise.resolve(),
    rollback: unsupported,
    estimate: () => Promise.resolve(undefined),
    send: () => {
      throw failed("STORAGE_FAILED", "not by folders");
    },
    receive: unsupported,
    resumeToken: () => Promise.resolve(undefined),
    abandonReceive: () => Promise.resolve(),
    space: async (name) => {
      const { bavail, bsize } = await statfs(root);
      const used = execFileSync("du", ["-sB1", at(name)], { encoding: "utf8" });
      return { used: Number.parseInt(used, 10), free: bavail * bsize };
    },
  };
}
