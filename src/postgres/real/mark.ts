// The mark `manatee.json` in the data directory: which shard and incarnation the content is, and what is under way with it.

import { join } from "node:path";
import { ManateeError } from "../../base/errors.ts";
import type { DataMark } from "../../cluster/observation.ts";
import { readIfThere, removeDurably, writeDurably } from "./durable.ts";
import type { Places } from "./places.ts";

export const MARK_FILE = "manatee.json";

/** The mark of one data directory. Changes are made one after the other, each from what is there at that moment. */
export class MarkFile {
  readonly #places: Places;
  #changes: Promise<unknown> = Promise.resolve();

  constructor(places: Places) {
    this.#places = places;
  }

  /** undefined: no mark. One that can't be read is no blank database: guessing there could throw data away. */
  async read(): Promise<DataMark | "malformed" | undefined> {
    const text = (await readIfThere(this.#places.rewindJournal)) ?? (await readIfThere(this.#path));
    return text === undefined ? undefined : (parseMark(text) ?? "malformed");
  }

  /** Durable when it resolves; `change` may return what it got. */
  change(change: (mark: DataMark | undefined) => DataMark): Promise<void> {
    return this.#inTurn(async () => {
      const before = await this.read();
      const after = change(before === "malformed" ? undefined : before);
      if (after === before) return;
      const protectedNow = (await readIfThere(this.#places.rewindJournal)) !== undefined;
      await writeDurably(protectedNow ? this.#places.rewindJournal : this.#path, format(after));
    });
  }

  /** From here on the mark that holds stands beside the data directory: pg_rewind overwrites the one inside with the source's. */
  protect(): Promise<void> {
    return this.#inTurn(async () => {
      const mark = await this.read();
      if (mark === undefined || mark === "malformed") throw markMissing(this.#places);
      await writeDurably(this.#places.rewindJournal, format({ ...mark, incomplete: true }));
    });
  }

  /** Puts the mark (back) into the data directory: `incomplete: false` once the content there is a database again, durable. */
  settle({ incomplete }: { incomplete: boolean }): Promise<void> {
    return this.#inTurn(async () => {
      const mark = await this.read();
      if (mark === undefined || mark === "malformed") throw markMissing(this.#places);
      await writeDurably(this.#path, format({ ...mark, incomplete }));
      await removeDurably(this.#places.rewindJournal);
    });
  }

  get #path(): string {
    return join(this.#places.dataDir, MARK_FILE);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#changes.then(work);
    this.#changes = done.catch(() => undefined);
    return done;
  }
}

export function markMissing({ dataDir }: Places): ManateeError {
  return new ManateeError({
    code: "PG_MARK_MISSING",
    message: `there is no readable mark in ${dataDir}`,
    remedy: "reobserve",
    hint: "Nothing has to be done: the peer decides afresh.",
  });
}

function format(mark: DataMark): string {
  return `${JSON.stringify(mark, null, 2)}\n`;
}

export function parseMark(text: string): DataMark | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isRecord(value)) return undefined;
  const { shard, incarnation, claim, founding, adopted, incomplete, source, lastDocument } = value;
  if (typeof shard !== "string" || typeof incarnation !== "string") return undefined;
  if (typeof founding !== "boolean" || typeof incomplete !== "boolean") return undefined;
  if (source !== undefined && typeof source !== "string") return undefined;
  const parsedClaim = claim === undefined ? undefined : parseClaim(claim);
  const parsedDocument = lastDocument === undefined ? undefined : parseDocument(lastDocument);
  if (parsedClaim === null || parsedDocument === null) return undefined;
  return {
    shard,
    incarnation,
    claim: parsedClaim,
    founding,
    ...(adopted === true && { adopted }),
    incomplete,
    source,
    lastDocument: parsedDocument,
  };
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
