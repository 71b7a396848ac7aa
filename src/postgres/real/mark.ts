// The mark `manatee.json` in the data directory: which shard and incarnation the content is, and what is under way with it.

import { join } from "node:path";
import { ManateeError } from "../../base/errors.ts";
import { isObject, parseJson } from "../../base/json.ts";
import { formatPoint, parsePoint } from "../../base/lineage.ts";
import type { DataMark } from "../../cluster/observation.ts";
import { readIfThere, removeDurably, writeDurably } from "./durable.ts";
import type { Places } from "./places.ts";

export const MARK_FILE = "manatee.json";

/** The mark of one data directory. Changes are made one after the other, each from what is there at that moment. */
export class MarkFile {
  readonly #places: Places;
  #changes: Promise<unknown> = Promise.resolve();
  #revision = 0;

  constructor(places: Places) {
    this.#places = places;
  }

  /** Another number after each change that this process has begun. */
  get revision(): number {
    return this.#revision;
  }

  /** undefined: no mark. One that can't be read is no blank database: guessing there could throw data away. */
  async read(): Promise<DataMark | "malformed" | undefined> {
    const text = (await readIfThere(this.#places.protectedMark)) ?? (await readIfThere(this.#path));
    return text === undefined ? undefined : (parseMark(text) ?? "malformed");
  }

  /** Durable when it resolves; `change` may return what it got. */
  change(change: (mark: DataMark | undefined) => DataMark): Promise<void> {
    return this.#inTurn(async () => {
      const before = await this.read();
      const after = change(before === "malformed" ? undefined : before);
      if (after === before) return;
      const protectedNow = (await readIfThere(this.#places.protectedMark)) !== undefined;
      await writeDurably(protectedNow ? this.#places.protectedMark : this.#path, formatMark(after));
    });
  }

  /** {@link change} of a mark that must be there. Errors: `PG_MARK_MISSING`. */
  update(change: (mark: DataMark) => DataMark): Promise<void> {
    return this.change((mark) => {
      if (mark === undefined) throw markMissing(this.#places);
      return change(mark);
    });
  }

  /** From here on the mark that holds stands beside the data directory: pg_rewind overwrites the one inside with the source's, and a swap moves it away. */
  protect(): Promise<void> {
    return this.#inTurn(async () => {
      const mark = await this.read();
      if (mark === undefined || mark === "malformed") throw markMissing(this.#places);
      await writeDurably(this.#places.protectedMark, formatMark({ ...mark, incomplete: true }));
    });
  }

  /** Puts the mark (back) into the data directory: `incomplete: false` once the content there is a database again, durable. */
  settle({ incomplete }: { incomplete: boolean }): Promise<void> {
    return this.#inTurn(async () => {
      const mark = await this.read();
      if (mark === undefined || mark === "malformed") throw markMissing(this.#places);
      await writeDurably(this.#path, formatMark({ ...mark, incomplete }));
      await removeDurably(this.#places.protectedMark);
    });
  }

  get #path(): string {
    return join(this.#places.dataDir, MARK_FILE);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#changes.then(work).finally(() => this.#revision++);
    this.#changes = done.catch(() => undefined);
    return done;
  }
}

/** Of content that is not (yet) this peer's; undefined: none, or none that can be understood. */
export async function markIn(folder: string): Promise<DataMark | undefined> {
  const text = await readIfThere(join(folder, MARK_FILE));
  return text === undefined ? undefined : parseMark(text);
}

export function markMissing({ dataDir }: Places): ManateeError {
  return new ManateeError({
    code: "PG_MARK_MISSING",
    message: `there is no readable mark in ${dataDir}`,
    remedy: "reobserve",
    hint: "Nothing has to be done: the peer decides afresh.",
  });
}

export function formatMark(mark: DataMark): string {
  const { leaving } = mark;
  return `${JSON.stringify({ ...mark, leaving: leaving && { ...leaving, end: formatPoint(leaving.end) } }, null, 2)}\n`;
}

export function parseMark(text: string): DataMark | undefined {
  const value = parseJson(text);
  if (!isObject(value)) return undefined;
  const { shard, incarnation, claim, founding, adopted, incomplete, source, leaving, lastDocument } = value;
  if (typeof shard !== "string" || typeof incarnation !== "string") return undefined;
  if (typeof founding !== "boolean" || typeof incomplete !== "boolean") return undefined;
  if (source !== undefined && typeof source !== "string") return undefined;
  const parsedClaim = claim === undefined ? undefined : parseClaim(claim);
  const parsedDocument = lastDocument === undefined ? undefined : parseDocument(lastDocument);
  const parsedLeaving = leaving === undefined ? undefined : parseLeaving(leaving);
  if (parsedClaim === null || parsedDocument === null || parsedLeaving === null) return undefined;
  return {
    shard,
    incarnation,
    claim: parsedClaim,
    founding,
    ...(adopted === true && { adopted }),
    incomplete,
    source,
    ...(parsedLeaving && { leaving: parsedLeaving }),
    lastDocument: parsedDocument,
  };
}

function parseClaim(value: unknown): { version: number } | null {
  return isObject(value) && typeof value["version"] === "number" ? { version: value["version"] } : null;
}

function parseLeaving(value: unknown): DataMark["leaving"] | null {
  if (!isObject(value) || typeof value["fork"] !== "string" || typeof value["end"] !== "string") return null;
  const end = parsePoint(value["end"]);
  return end ? { fork: value["fork"], end } : null;
}

function parseDocument(value: unknown): { version: number; json: string } | null {
  if (!isObject(value) || typeof value["version"] !== "number" || typeof value["json"] !== "string") return null;
  return { version: value["version"], json: value["json"] };
}
