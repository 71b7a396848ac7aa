// The hidden place for what has no name yet, or no longer: what is made there gets its name by one rename when it is whole, and what is destroyed loses it by one.
// What a process leaves that ends in the middle is swept by the next.

import { randomBytes } from "node:crypto";
import { readlink } from "node:fs/promises";
import { basename, join } from "node:path";
import { flushFolder, listFolder, lookAt, makeFolder, moveFolder, readText, removeAll } from "./files.ts";
import { SNAPSHOTS } from "./layout.ts";
import type { Removal } from "./medium.ts";
import { readHolds } from "./notes.ts";

export class Workplace {
  readonly #place: string;
  readonly #removal: Removal;
  #swept: Promise<void> | undefined;

  constructor({ place, removal }: { place: string; removal: Removal }) {
    this.#place = place;
    this.#removal = removal;
  }

  /** A folder of one's own, to be given its name or removed. */
  async begin(): Promise<string> {
    // Once a process. What can't be removed now hinders nobody.
    this.#swept ??= this.sweep().catch(() => undefined);
    await this.#swept;
    const folder = join(this.#place, `${await ownerOf("self")}-${randomBytes(8).toString("hex")}`);
    await makeFolder(folder);
    return folder;
  }

  /** With all that is in it. Idempotent. */
  async remove(folder: string): Promise<void> {
    const contents = await this.#removal.contentsIn(folder);
    if (contents.length > 0) await this.#removal.remove(contents);
    await removeAll(folder);
  }

  /** A writable content: out of sight at once, and removed. Idempotent. */
  async drop(content: string): Promise<void> {
    const place = await this.begin();
    try {
      await moveFolder(content, join(place, basename(content)));
    } finally {
      await this.remove(place);
    }
  }

  /**
   * Takes a folder out of sight at once, and removes it. `refusal` looks at it when nobody can change it by its name any more. Where that refuses, or nothing
   * can be removed, it gets its name back. false: it is not there.
   */
  async discard(folder: string, refusal: (moved: string) => Promise<Error | undefined>): Promise<boolean> {
    const place = await this.begin();
    const moved = join(place, basename(folder));
    try {
      if ((await moveFolder(folder, moved)) !== "moved") return false;
      const before = await this.#removal.contentsIn(moved);
      try {
        const error = await refusal(moved);
        if (error) throw error;
        if (before[0] !== undefined) await this.#removal.remove([before[0]]);
      } catch (error) {
        if ((await this.#removal.contentsIn(moved)).length === before.length) await moveFolder(moved, folder);
        await flushFolder(join(folder, ".."));
        throw error;
      }
      await flushFolder(join(folder, ".."));
      await this.remove(moved);
      return true;
    } finally {
      if (!(await lookAt(moved))) await removeAll(place);
    }
  }

  /** What processes that are gone have left. A hold is respected even there. */
  async sweep(): Promise<void> {
    for (const name of (await listFolder(this.#place)) ?? []) {
      const owner = /^(\d+-(\d+)-\d+)-/.exec(name);
      // Processes of another container can't be seen from here: what they left is theirs to sweep.
      if (!owner?.[1]?.startsWith(`${await namespace()}-`) || (await ownerOf(owner[2] as string)) === owner[1])
        continue;
      const folder = join(this.#place, name);
      if (!(await hasHold(folder))) await this.remove(folder);
    }
  }
}

/** In which the numbers of processes mean something. */
async function namespace(): Promise<string> {
  return (await readlink("/proc/self/ns/pid").catch(() => "")).replace(/\D/g, "") || "0";
}

/** Namespace, number and start of a process: numbers come again. */
async function ownerOf(process: string): Promise<string | undefined> {
  const stat = await readText(`/proc/${process}/stat`);
  if (stat === undefined) return undefined;
  const startedTicks = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  return `${await namespace()}-${stat.slice(0, stat.indexOf(" "))}-${startedTicks}`;
}

/** In what is left of a dataset, or of a snapshot. */
async function hasHold(place: string): Promise<boolean> {
  for (const name of (await listFolder(place)) ?? []) {
    const left = join(place, name);
    const snapshots = (await listFolder(join(left, SNAPSHOTS))) ?? [];
    for (const folder of [left, ...snapshots.map((snapshot) => join(left, SNAPSHOTS, snapshot))])
      if ((await readHolds(folder)).length > 0) return true;
  }
  return false;
}
