// What Btrfs knows of a subvolume: reads what `btrfs subvolume show` prints.

import { lookAt } from "../common/files.ts";
import type { Facts } from "../common/notes.ts";
import { storageError } from "../errors.ts";
import type { BtrfsCommand, Rewording } from "./command.ts";

export interface Subvolume {
  readonly uuid: string;
  /** Of what it was received from, when all of it has come. */
  readonly receivedUuid: string | undefined;
  readonly createdWallMs: number;
  /** Number of the file system's transaction: grows with time, and is finer than it. */
  readonly createdGeneration: number;
  /** Of the last change that is on disk. */
  readonly changedGeneration: number;
  readonly readonly: boolean;
}

/** The inode of every subvolume's uppermost folder. */
const SUBVOLUME_INODE = 256;

export async function isSubvolume(path: string): Promise<boolean> {
  const found = await lookAt(path);
  return found?.isFolder === true && found.inode === SUBVOLUME_INODE;
}

export function factsOf({ uuid, receivedUuid, createdWallMs, createdGeneration }: Subvolume): Facts {
  return { uuid, guid: receivedUuid ?? uuid, createdWallMs, generation: createdGeneration };
}

export async function showSubvolume(btrfs: BtrfsCommand, path: string, rewording?: Rewording): Promise<Subvolume> {
  const shown = parseSubvolume(await btrfs.run(["subvolume", "show", path], rewording));
  if (shown) return shown;
  throw storageError("STORAGE_FAILED", `btrfs subvolume show says nothing that is understood of ${path}`);
}

/** undefined: something that is needed is missing. */
function parseSubvolume(output: string): Subvolume | undefined {
  const fields = new Map<string, string>();
  for (const line of output.split("\n")) {
    const [, name, value] = /^\t([A-Z][^:]*):\s*(.*?)\s*$/.exec(line) ?? [];
    if (name !== undefined && value !== undefined && value !== "-" && !fields.has(name)) fields.set(name, value);
  }
  const uuid = fields.get("UUID");
  const createdGeneration = Number(fields.get("Gen at creation") ?? "none");
  const changedGeneration = Number(fields.get("Generation") ?? "none");
  const [, day, time, hours, minutes] = /^(\S+) (\S+) ([+-]\d\d)(\d\d)$/.exec(fields.get("Creation time") ?? "") ?? [];
  const createdWallMs = Date.parse(`${day}T${time}${hours}:${minutes}`);
  if (uuid === undefined || [createdGeneration, changedGeneration, createdWallMs].some(Number.isNaN)) return undefined;
  return {
    uuid,
    receivedUuid: fields.get("Received UUID"),
    createdWallMs,
    createdGeneration,
    changedGeneration,
    readonly: /\breadonly\b/.test(fields.get("Flags") ?? ""),
  };
}
