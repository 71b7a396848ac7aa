// What is kept beside a dataset or snapshot: properties and holds, a file each, so that two processes that set different ones don't undo each other's work;
// and what never changes of a snapshot. Extended attributes can't be set on what is read-only, and files that belong to the data would be sent along.

import { join } from "node:path";
import { parseJson } from "../../base/json.ts";
import { storageError } from "../errors.ts";
import type { Properties } from "../port.ts";
import { listFolder, makeFolder, readText, removeText, writeText } from "./files.ts";
import { FACTS, HOLDS, PROPERTIES } from "./layout.ts";

/** undefined: it isn't there. */
export async function readProperties(folder: string): Promise<Properties | undefined> {
  const names = await listFolder(join(folder, PROPERTIES));
  if (!names) return undefined;
  const properties: Record<string, string> = {};
  for (const name of names) {
    // Dots: being written.
    const value = name.startsWith(".") ? undefined : await readText(join(folder, PROPERTIES, name));
    if (value !== undefined) properties[name] = value;
  }
  return properties;
}

/** false: it isn't there. */
export async function writeProperties(
  folder: string,
  properties: Readonly<Record<string, string | undefined>>,
): Promise<boolean> {
  for (const [name, value] of Object.entries(properties)) {
    const path = join(folder, PROPERTIES, name);
    if (value === undefined) await removeText(path);
    else if (!(await writeText(path, value))) return false;
  }
  return true;
}

export async function readHolds(folder: string): Promise<readonly string[]> {
  return ((await listFolder(join(folder, HOLDS))) ?? []).filter((name) => !name.startsWith("."));
}

/** false: it isn't there. */
export function writeHold(folder: string, tag: string): Promise<boolean> {
  return writeText(join(folder, HOLDS, tag), "");
}

export function removeHold(folder: string, tag: string): Promise<void> {
  return removeText(join(folder, HOLDS, tag));
}

/** Of a snapshot. */
export interface Facts {
  /** Its own. */
  readonly uuid: string;
  /** The same on every copy that was sent and received. */
  readonly guid: string;
  readonly createdWallMs: number;
  /** Grows with each snapshot of a dataset: their order. */
  readonly generation: number;
}

/** Into a folder that has no name yet. */
export async function beginNotes(
  folder: string,
  { properties, facts }: { properties: Properties; facts?: Facts },
): Promise<void> {
  await makeFolder(join(folder, PROPERTIES));
  await writeProperties(folder, properties);
  if (!facts) return;
  await makeFolder(join(folder, HOLDS));
  await writeText(join(folder, FACTS), JSON.stringify(facts));
}

/** undefined: there is no snapshot there. */
export async function readFacts(folder: string): Promise<Facts | undefined> {
  const path = join(folder, FACTS);
  const text = await readText(path);
  if (text === undefined) return undefined;
  const facts = parseJson(text);
  if (isFacts(facts)) return facts;
  throw storageError("STORAGE_FAILED", `${path} is not what was written there`);
}

function isFacts(value: unknown): value is Facts {
  if (typeof value !== "object" || value === null) return false;
  const { uuid, guid, createdWallMs, generation } = value as Record<string, unknown>;
  return [uuid, guid].every((id) => typeof id === "string") && [createdWallMs, generation].every(Number.isFinite);
}
