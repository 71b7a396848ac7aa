// The mark `manatee.json` in the data directory: which shard and incarnation the content is, and what is under way with it.

import { join } from "node:path";
import type { DataMark } from "../../cluster/observation.ts";
import { readIfThere, removeDurably, writeDurably } from "./durable.ts";
import type { Places } from "./places.ts";

export const MARK_FILE = "manatee.json";

/** undefined: no mark. A mark that can't be read is an error of its own: guessing there could be taken for a blank database. */
export async function readMark(places: Places): Promise<DataMark | "malformed" | undefined> {
  const text = (await readIfThere(places.rewindJournal)) ?? (await readIfThere(join(places.dataDir, MARK_FILE)));
  return text === undefined ? undefined : (parseMark(text) ?? "malformed");
}

/** Durable when it resolves. */
export async function writeMark(places: Places, mark: DataMark): Promise<void> {
  await writeDurably(join(places.dataDir, MARK_FILE), `${JSON.stringify(mark, null, 2)}\n`);
}

/** For the time of a rewind the mark that holds stands beside the data directory, because pg_rewind overwrites the one inside. */
export async function protectMark(places: Places, mark: DataMark): Promise<void> {
  await writeDurably(places.rewindJournal, `${JSON.stringify(mark, null, 2)}\n`);
}

export async function endProtection(places: Places, mark: DataMark): Promise<void> {
  await writeMark(places, mark);
  await removeDurably(places.rewindJournal);
}

export function parseMark(text: string): DataMark | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isRecord(value)) return undefined;
  const { shard, incarnation, claim, founding, incomplete, source, lastDocument } = value;
  if (typeof shard !== "string" || typeof incarnation !== "string") return undefined;
  if (typeof founding !== "boolean" || typeof incomplete !== "boolean") return undefined;
  if (source !== undefined && typeof source !== "string") return undefined;
  const parsedClaim = claim === undefined ? undefined : parseClaim(claim);
  const parsedDocument = lastDocument === undefined ? undefined : parseDocument(lastDocument);
  if (parsedClaim === null || parsedDocument === null) return undefined;
  return { shard, incarnation, claim: parsedClaim, founding, incomplete, source, lastDocument: parsedDocument };
}

function parseClaim(value: unknown): { version: number } | null {
  return isRecord(value) && typeof value["version"] === "number" ? { version: value["version"] } : null;
}

function parseDocument(value: unknown): { version: number; json: string } | null {
  if (!isRecord(value) || typeof value["version"] !== "number" || typeof value["json"] !== "string") return null;
  return { version: value["version"], json: value["json"] };
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
