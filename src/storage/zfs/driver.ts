// Storage on ZFS: OpenZFS 2.1 and later, illumos, FreeBSD, and the older feature set of zfs-fuse. What a zfs can do is found by asking it.

import { stat } from "node:fs/promises";
import { userInfo } from "node:os";
import { ManateeError } from "../../base/errors.ts";
import type { Bytes } from "../../base/units.ts";
import type { Timers } from "../../world/port.ts";
import { pause } from "../../world/waiting.ts";
import { readFrom, writeTo } from "../common/program.ts";
import { storageError } from "../errors.ts";
import { demandDataset, demandProperties, demandSnapshot, demandTag, formatSnapshot } from "../names.ts";
import type { Capabilities, Dataset, DatasetName, Properties, Snapshot, SnapshotName, Storage } from "../port.ts";
import { meaningOf } from "./answers.ts";
import { ZfsCommand } from "./command.ts";
import { COLUMNS, datasetOf, holdProperty, holdsOf, parseTable, snapshotOf } from "./properties.ts";

export interface ZfsOptions {
  /** `zfs`, or where it lies. */
  readonly program?: string | undefined;
  /** What goes before a command that this user may not run: `["sudo", "-n"]`. */
  readonly sudo?: readonly string[] | undefined;
  readonly timers: Timers;
}

export function zfsStorage(options: ZfsOptions): Storage {
  return new ZfsStorage(options);
}

/** Arguments of one command: names are at most 200 characters. */
const NAMES_A_COMMAND = 200;
const LOOKS_MAX = 50;
const LOOK_EVERY_MS = 100;

class ZfsStorage implements Storage {
  readonly description: string;
  readonly #zfs: ZfsCommand;
  readonly #timers: Timers;
  #capabilities: Promise<Capabilities> | undefined;

  constructor({ program = "zfs", sudo, timers }: ZfsOptions) {
    this.#zfs = new ZfsCommand({ program, sudo, timers });
    this.#timers = timers;
    this.description = `ZFS (${program})`;
  }

  capabilities(): Promise<Capabilities> {
    this.#capabilities ??= this.#findCapabilities().catch((error: unknown) => {
      this.#capabilities = undefined;
      throw error;
    });
    return this.#capabilities;
  }

  async #findCapabilities(): Promise<Capabilities> {
    // Without arguments it prints all properties that it knows, as an error.
    const { stderr } = await this.#zfs.answer(["get"]);
    return {
      atomic: true,
      shared: true,
      incremental: true,
      resume: /^\s*receive_resume_token\b/m.test(stderr),
      format: "zfs",
    };
  }

  // --- datasets

  async look(dataset: DatasetName): Promise<Dataset | undefined> {
    demandDataset(dataset);
    const args = ["get", ...COLUMNS, "all", dataset];
    const answer = await this.#zfs.answer(args);
    if (answer.status !== 0) {
      if (meaningOf(answer) === "STORAGE_NO_DATASET") return undefined;
      throw this.#zfs.refusal(args, answer, dataset);
    }
    const row = parseTable(answer.stdout).get(dataset);
    return row && datasetOf(dataset, row);
  }

  async children(dataset: DatasetName): Promise<readonly Dataset[]> {
    demandDataset(dataset);
    const listed = await this.#zfs.run(["list", "-H", "-t", "filesystem", "-o", "name", "-r", dataset], dataset);
    const names = listed.split("\n").filter((name) => name !== "" && name !== dataset);
    const rows = await this.#rows(names, dataset);
    return names.flatMap((name) => {
      const row = rows.get(name);
      return row ? [datasetOf(name, row)] : [];
    });
  }

  async create(dataset: DatasetName, { properties = {} }: { properties?: Properties } = {}): Promise<Dataset> {
    demandDataset(dataset);
    demandProperties(properties);
    await this.#zfs.run(["create", "-o", "canmount=noauto", ...optionsOf(properties), dataset], dataset);
    const made = await this.mount(dataset);
    const { uid, username } = userInfo();
    if (uid !== 0 && (await stat(made.folder)).uid !== uid) await this.#zfs.runOther(["chown", username, made.folder]);
    return made;
  }

  async mount(dataset: DatasetName, folder?: string): Promise<Dataset> {
    if (folder !== undefined && !/^(\/[^/\s]+)+$/.test(folder))
      throw storageError("STORAGE_BAD_NAME", `${JSON.stringify(folder)} is no folder to mount at`);
    const found = await this.#demand(dataset);
    if (found.mounted && (folder === undefined || folder === found.folder)) return found;
    if (found.mounted) await this.unmount(dataset);
    if (folder !== undefined && folder !== found.folder)
      await this.#zfs.run(["set", `mountpoint=${folder}`, dataset], dataset);
    const args = ["mount", dataset];
    const answer = await this.#zfs.answer(args);
    if (answer.status !== 0 && !/already mounted/.test(answer.stderr)) throw this.#zfs.refusal(args, answer, dataset);
    await this.#zfs.run(["set", "canmount=on", dataset], dataset);
    const mounted = await this.#demand(dataset);
    if (mounted.mounted) return mounted;
    throw storageError("STORAGE_FAILED", `${dataset} is not mounted after zfs mount`);
  }

  async unmount(dataset: DatasetName): Promise<void> {
    if (!(await this.#demand(dataset)).mounted) return;
    const args = ["unmount", dataset];
    const answer = await this.#zfs.answer(args);
    if (answer.status !== 0 && !/not currently mounted/.test(answer.stderr))
      throw this.#zfs.refusal(args, answer, dataset);
  }

  async setProperties(
    target: DatasetName | SnapshotName,
    properties: Readonly<Record<string, string | undefined>>,
  ): Promise<void> {
    demandProperties(properties);
    const [name, about] = nameOf(target);
    const missing = typeof target === "string" ? "STORAGE_NO_DATASET" : "STORAGE_NO_SNAPSHOT";
    for (const [property, value] of Object.entries(properties)) {
      const args = value === undefined ? ["inherit", property, name] : ["set", `${property}=${value}`, name];
      await this.#zfs.run(args, about, { dataset: missing });
    }
  }

  async rename(from: DatasetName, to: DatasetName): Promise<void> {
    demandDataset(to);
    if (await this.look(to)) throw storageError("STORAGE_EXISTS", `${to} exists already`);
    await this.unmount(from);
    await this.#zfs.run(["set", "canmount=noauto", from], from);
    await this.#zfs.run(["rename", from, to], from);
  }

  async destroyDataset(dataset: DatasetName): Promise<void> {
    if ((await this.look(dataset)) === undefined) return;
    const [child] = await this.children(dataset);
    if (child) throw storageError("STORAGE_FAILED", `${dataset} has the dataset ${child.name} below it`);
    const held = (await this.snapshots(dataset)).find(({ holds }) => holds.length > 0);
    if (held) throw heldBy(held);
    await this.unmount(dataset);
    await this.#zfs.run(["destroy", "-r", dataset], dataset);
  }

  // --- snapshots

  async snapshot(options: SnapshotName & { properties: Properties; recursive?: boolean }): Promise<Snapshot> {
    demandSnapshot(options);
    demandProperties(options.properties);
    const depth = options.recursive === true ? ["-r"] : [];
    const name = formatSnapshot(options);
    await this.#zfs.run(["snapshot", ...depth, ...optionsOf(options.properties), name], options.dataset);
    return this.#demandOne(options);
  }

  async snapshots(dataset: DatasetName): Promise<readonly Snapshot[]> {
    demandDataset(dataset);
    const listed = await this.#zfs.run(
      ["list", "-H", "-t", "snapshot", "-o", "name", "-s", "creation", "-r", "-d", "1", dataset],
      dataset,
    );
    const names = listed.split("\n").filter((name) => name.startsWith(`${dataset}@`));
    const rows = await this.#rows(names, dataset);
    const guids = await this.#rows(names, dataset, "guid");
    return names.flatMap((name) => {
      const row = rows.get(name);
      const guid = guids.get(name)?.get("guid")?.value;
      return row && guid !== undefined ? [snapshotOf(name, row, { guid, holds: holdsOf(row) })] : [];
    });
  }

  async hold(snapshot: SnapshotName, tag: string): Promise<void> {
    demandSnapshot(snapshot);
    demandTag(tag);
    const name = formatSnapshot(snapshot);
    const args = ["hold", tag, name];
    await this.#demandOne(snapshot);
    // Told before it is made, and until it is gone: cut short between the two, it can be seen and released.
    await this.setProperties(snapshot, { [holdProperty(tag)]: "1" });
    const answer = await this.#zfs.answer(args);
    if (answer.status !== 0 && !/tag already exists/.test(answer.stderr))
      throw this.#zfs.refusal(args, answer, snapshot.dataset, { dataset: "STORAGE_NO_SNAPSHOT" });
  }

  async release(snapshot: SnapshotName, tag: string): Promise<void> {
    demandSnapshot(snapshot);
    demandTag(tag);
    const args = ["release", tag, formatSnapshot(snapshot)];
    const answer = await this.#zfs.answer(args);
    if (answer.status !== 0 && !/no such tag/.test(answer.stderr))
      throw this.#zfs.refusal(args, answer, snapshot.dataset, { dataset: "STORAGE_NO_SNAPSHOT" });
    await this.setProperties(snapshot, { [holdProperty(tag)]: undefined });
  }

  async destroySnapshot(snapshot: SnapshotName): Promise<void> {
    const found = await this.#demandOne(snapshot);
    // It would be told as busy, and waited for.
    if (found.holds.length > 0) throw heldBy(found);
    await this.#zfs.run(["destroy", formatSnapshot(snapshot)], snapshot.dataset, { dataset: "STORAGE_NO_SNAPSHOT" });
  }

  async rollback(snapshot: SnapshotName, { destroyNewer }: { destroyNewer: boolean }): Promise<void> {
    await this.#demandOne(snapshot);
    if (destroyNewer) {
      const all = await this.snapshots(snapshot.dataset);
      const newer = all.slice(all.findIndex(({ name }) => name === snapshot.name) + 1);
      const held = newer.find(({ holds }) => holds.length > 0);
      if (held) throw heldBy(held);
    }
    const args = ["rollback", ...(destroyNewer ? ["-r"] : []), formatSnapshot(snapshot)];
    await this.#zfs.run(args, snapshot.dataset);
  }

  async clone(
    snapshot: SnapshotName,
    target: DatasetName,
    { properties = {} }: { properties?: Properties } = {},
  ): Promise<void> {
    demandDataset(target);
    demandProperties(properties);
    await this.#demandOne(snapshot);
    const options = ["-o", "canmount=noauto", ...optionsOf(properties)];
    await this.#zfs.run(["clone", ...options, formatSnapshot(snapshot), target], snapshot.dataset);
    // zfs-fuse mounts it all the same.
    await this.unmount(target);
  }

  async promote(dataset: DatasetName): Promise<void> {
    if ((await this.#demand(dataset)).origin === undefined) return;
    await this.#zfs.run(["promote", dataset], dataset);
  }

  // --- streams

  async estimate(snapshot: SnapshotName, from?: SnapshotName): Promise<Bytes | undefined> {
    await this.#demandOne(snapshot);
    const answer = await this.#zfs.answer(["send", "-nP", ...since(from), formatSnapshot(snapshot)]);
    const size = /^size\s+(\d+)$/m.exec(`${answer.stdout}\n${answer.stderr}`)?.[1];
    return answer.status === 0 && size !== undefined ? Number(size) : undefined;
  }

  async *send(options: {
    snapshot: SnapshotName;
    from?: SnapshotName;
    resumeToken?: string;
    signal: AbortSignal;
  }): AsyncGenerator<Uint8Array> {
    const { snapshot, from, resumeToken, signal } = options;
    await this.#demandOne(snapshot);
    if (from) await this.#demandOne(from);
    if (resumeToken !== undefined && !/^[A-Za-z0-9-]+$/.test(resumeToken))
      throw storageError("STORAGE_BAD_STREAM", "this is no token to go on from");
    const args =
      resumeToken === undefined ? ["send", ...since(from), formatSnapshot(snapshot)] : ["send", "-t", resumeToken];
    const failed = (answer: Parameters<ZfsCommand["refusal"]>[1]) =>
      this.#zfs.refusal(["send", formatSnapshot(snapshot)], answer, snapshot.dataset);
    yield* readFrom(this.#zfs.stream(args), { signal, failed });
  }

  async receive(options: {
    dataset: DatasetName;
    stream: AsyncIterable<Uint8Array>;
    signal: AbortSignal;
    resumable?: boolean;
  }): Promise<Snapshot> {
    const { dataset, stream, signal } = options;
    demandDataset(dataset);
    const existed = (await this.look(dataset)) !== undefined;
    const known = new Set(existed ? (await this.snapshots(dataset)).map(({ name }) => name) : []);
    const resumable = options.resumable === true && (await this.capabilities()).resume;
    const args = ["receive", "-u", ...(resumable ? ["-s"] : []), dataset];
    const failed = (answer: Parameters<ZfsCommand["refusal"]>[1]) => this.#zfs.refusal(args, answer, dataset);
    try {
      await writeTo(this.#zfs.stream(args), stream, { signal, failed });
    } catch (error) {
      const taken = error instanceof ManateeError && error.code === "STORAGE_EXISTS";
      if (!existed && !resumable && !taken) await this.#untilGone(dataset);
      throw error;
    }
    const came = (await this.snapshots(dataset)).filter(({ name }) => !known.has(name)).at(-1);
    if (came === undefined) throw storageError("STORAGE_BAD_STREAM", `nothing came into ${dataset}`);
    if (!existed) await this.#zfs.run(["set", "canmount=noauto", dataset], dataset);
    return came;
  }

  async resumeToken(dataset: DatasetName): Promise<string | undefined> {
    if (!(await this.capabilities()).resume) return undefined;
    const args = ["get", "-Hp", "-o", "value", "receive_resume_token", dataset];
    const answer = await this.#zfs.answer(args);
    if (answer.status !== 0) return undefined;
    const token = answer.stdout.trim();
    return token === "-" || token === "" ? undefined : token;
  }

  async abandonReceive(dataset: DatasetName): Promise<void> {
    if ((await this.resumeToken(dataset)) === undefined) return;
    await this.#zfs.run(["receive", "-A", dataset], dataset);
  }

  async space(dataset: DatasetName): Promise<{ used: Bytes; free: Bytes }> {
    demandDataset(dataset);
    const row = (await this.#rows([dataset], dataset)).get(dataset);
    const [used, free] = [Number(row?.get("used")?.value), Number(row?.get("available")?.value)];
    if (Number.isNaN(used) || Number.isNaN(free))
      throw storageError("STORAGE_FAILED", `zfs does not say how much space ${dataset} has`);
    return { used, free };
  }

  // --- within

  /** Of what is still there. "all" knows not all: guids must be asked for by name. */
  async #rows(names: readonly string[], about: DatasetName, property = "all"): Promise<ReturnType<typeof parseTable>> {
    const rows = new Map<string, NonNullable<ReturnType<ReturnType<typeof parseTable>["get"]>>>();
    for (let i = 0; i < names.length; i += NAMES_A_COMMAND) {
      const some = names.slice(i, i + NAMES_A_COMMAND);
      const args = ["get", ...COLUMNS, property, ...some];
      const answer = await this.#zfs.answer(args);
      // Of several, one may have been destroyed since it was listed.
      if (answer.status !== 0 && some.length === 1) throw this.#zfs.refusal(args, answer, about);
      if (answer.status !== 0 && answer.stdout === "" && meaningOf(answer) !== "STORAGE_NO_DATASET")
        throw this.#zfs.refusal(args, answer, about);
      for (const [name, row] of parseTable(answer.stdout)) rows.set(name, row);
    }
    return rows;
  }

  /** What a receive that was cut short has begun is removed by ZFS itself, which takes zfs-fuse a second. Never by us: somebody else may have made it meanwhile. */
  async #untilGone(dataset: DatasetName): Promise<void> {
    for (let looks = 0; looks < LOOKS_MAX; looks++) {
      if ((await this.look(dataset)) === undefined) return;
      await pause(this.#timers, LOOK_EVERY_MS);
    }
  }

  async #demand(dataset: DatasetName): Promise<Dataset> {
    const found = await this.look(dataset);
    if (found) return found;
    throw storageError("STORAGE_NO_DATASET", `there is no dataset ${dataset}`);
  }

  async #demandOne(snapshot: SnapshotName): Promise<Snapshot> {
    demandSnapshot(snapshot);
    const name = formatSnapshot(snapshot);
    const args = ["get", ...COLUMNS, "all", name];
    const answer = await this.#zfs.answer(args);
    if (answer.status !== 0)
      throw this.#zfs.refusal(args, answer, snapshot.dataset, { dataset: "STORAGE_NO_SNAPSHOT" });
    const row = parseTable(answer.stdout).get(name);
    const guid = (await this.#rows([name], snapshot.dataset, "guid")).get(name)?.get("guid")?.value;
    if (!row || guid === undefined) throw storageError("STORAGE_NO_SNAPSHOT", `there is no snapshot ${name}`);
    return snapshotOf(name, row, { guid, holds: holdsOf(row) });
  }
}

function optionsOf(properties: Properties): string[] {
  return Object.entries(properties).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
}

function since(from: SnapshotName | undefined): string[] {
  return from ? ["-i", formatSnapshot(from)] : [];
}

function nameOf(target: DatasetName | SnapshotName): [name: string, dataset: DatasetName] {
  if (typeof target === "string") {
    demandDataset(target);
    return [target, target];
  }
  demandSnapshot(target);
  return [formatSnapshot(target), target.dataset];
}

function heldBy(snapshot: Snapshot): Error {
  return storageError("STORAGE_HELD", `${formatSnapshot(snapshot)} is held by ${snapshot.holds.join(", ")}`);
}
