// The store's file: a snapshot on its first line, then a line for each flush, with all that was flushed together. Each line carries
// a checksum; one that was torn by a crash can only be the last, and nothing in it was ever answered. An answer waits until what
// it tells is flushed; many wait for one flush.

import { type FileHandle, open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { z } from "zod";
import { ManateeError } from "../../base/errors.ts";
import type { Journal, JournalRecord, StoredSession } from "../memory/server.ts";
import { applyWrite, emptyTree, endSession, type Tree } from "../memory/tree.ts";
import { encodeJson, OPERATION, plainOperation } from "./wire.ts";

/** After so much has been added, the file is written anew: bounds it, and the time that the next server takes to read it. */
export const COMPACT_BYTES = 4 * 1024 * 1024;

const FORMAT = 1;
const SESSION = z.object({ id: z.string(), secret: z.string(), timeoutMs: z.number() });
const SNAPSHOT = z.object({
  kind: z.literal("snapshot"),
  format: z.literal(FORMAT),
  lastChange: z.string().transform(BigInt),
  sessions: z.array(SESSION),
  nodes: z.array(
    z.object({
      path: z.string(),
      data: z.string(),
      version: z.number(),
      createdAt: z.string().transform(BigInt),
      changedAt: z.string().transform(BigInt),
      changedWallMs: z.number(),
      ephemeralOwner: z.string().nullable(),
      nextSequence: z.number(),
    }),
  ),
});
const RECORD = z.discriminatedUnion("kind", [
  SNAPSHOT,
  SESSION.extend({ kind: z.literal("session") }),
  z.object({ kind: z.literal("end"), id: z.string() }),
  z.object({ kind: z.literal("write"), session: z.string(), wallMs: z.number(), operations: z.array(OPERATION) }),
]);

const RECORDS = z.array(RECORD);

export interface Content {
  readonly tree: Tree;
  readonly sessions: Map<string, StoredSession>;
}

/** Reads the file; an empty store where there is none. Rejects with STORE_CORRUPT. */
export async function readContent(directory: string): Promise<Content> {
  const content: Content = { tree: emptyTree(), sessions: new Map() };
  const lines = (await readIfThere(join(directory, "journal"))).split("\n");
  // What follows the last newline was never whole.
  lines.pop();
  for (const [index, line] of lines.entries()) {
    const records = recordsOf(line);
    if (records) for (const record of records) replay(content, record);
    else if (index < lines.length - 1 || index === 0) throw corrupt(directory, index + 1);
  }
  return content;
}

export interface FileJournalOptions {
  readonly directory: string;
  /** As {@link readContent} gave it; the server changes it, and this writes it anew from time to time. */
  readonly content: Content;
  /** The file can't be written: nothing more will be durable. Called once. */
  readonly onFailure: (error: unknown) => void;
}

export interface FileJournal extends Journal {
  /** After this nothing is written. Waits for the flush under way. */
  close(): Promise<void>;
}

/** Begins with a fresh file, which leaves a torn line behind. */
export async function openJournal(options: FileJournalOptions): Promise<FileJournal> {
  const handle = await writeSnapshot(options.directory, encodeSnapshot(options.content));
  return new Writer(options, handle);
}

type Item = { readonly record: unknown } | { readonly callback: () => void };

class Writer implements FileJournal {
  readonly #options: FileJournalOptions;
  #handle: FileHandle;
  #items: Item[] = [];
  #flushing: Promise<void> | undefined;
  #bytes = 0;
  #failed = false;

  constructor(options: FileJournalOptions, handle: FileHandle) {
    this.#options = options;
    this.#handle = handle;
  }

  append(record: JournalRecord): void {
    const { sessions } = this.#options.content;
    if (record.kind === "session")
      sessions.set(record.id, { id: record.id, secret: record.secret, timeoutMs: record.timeoutMs });
    if (record.kind === "end") sessions.delete(record.id);
    const plain = record.kind === "write" ? { ...record, operations: record.operations.map(plainOperation) } : record;
    this.#add({ record: plain });
  }

  whenDurable(callback: () => void): void {
    if (this.#flushing === undefined && this.#items.length === 0 && !this.#failed) callback();
    else this.#add({ callback });
  }

  async close(): Promise<void> {
    this.#failed = true;
    this.#items = [];
    await this.#flushing;
    await this.#handle.close();
  }

  #add(item: Item): void {
    if (this.#failed) return;
    this.#items.push(item);
    this.#flushing ??= this.#flushAll();
  }

  async #flushAll(): Promise<void> {
    // First let all that arrived together come in.
    await Promise.resolve();
    try {
      while (this.#items.length > 0) {
        const items = this.#items;
        this.#items = [];
        const records = items.flatMap((item) => ("record" in item ? [item.record] : []));
        if (records.length > 0) await this.#write(lineOf(records));
        if (this.#failed) break;
        for (const item of items) if ("callback" in item) item.callback();
      }
    } catch (error) {
      this.#failed = true;
      this.#items = [];
      this.#options.onFailure(error);
    }
    this.#flushing = undefined;
  }

  async #write(line: string): Promise<void> {
    this.#bytes += Buffer.byteLength(line);
    if (this.#bytes <= COMPACT_BYTES) {
      await this.#handle.appendFile(line);
      await this.#handle.datasync();
      return;
    }
    // The tree already holds what this line tells, and nothing that later ones do: no turn of the loop lies between.
    const former = this.#handle;
    this.#handle = await writeSnapshot(this.#options.directory, encodeSnapshot(this.#options.content));
    this.#bytes = 0;
    await former.close();
  }
}

async function writeSnapshot(directory: string, snapshot: string): Promise<FileHandle> {
  const draft = join(directory, "journal.new");
  const handle = await open(draft, "w", 0o600);
  try {
    await handle.writeFile(snapshot);
    await handle.sync();
    await rename(draft, join(directory, "journal"));
    const folder = await open(directory, "r");
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  } catch (error) {
    await handle.close();
    throw error;
  }
  return handle;
}

function encodeSnapshot({ tree, sessions }: Content): string {
  const nodes = [...tree.nodes].map(([path, node]) => ({ path, ...node, children: undefined }));
  return lineOf([
    {
      kind: "snapshot",
      format: FORMAT,
      lastChange: tree.lastChange,
      sessions: [...sessions.values()],
      nodes,
    },
  ]);
}

function replay(content: Content, record: z.output<typeof RECORD>): void {
  const { tree, sessions } = content;
  switch (record.kind) {
    case "snapshot":
      restoreSnapshot(content, record);
      return;
    case "session":
      sessions.set(record.id, { id: record.id, secret: record.secret, timeoutMs: record.timeoutMs });
      return;
    case "end":
      sessions.delete(record.id);
      endSession(tree, record.id);
      return;
    case "write":
      applyWrite(tree, record.operations, record);
      return;
    default:
      record satisfies never;
  }
}

function restoreSnapshot({ tree, sessions }: Content, snapshot: z.output<typeof SNAPSHOT>): void {
  tree.lastChange = snapshot.lastChange;
  for (const session of snapshot.sessions) sessions.set(session.id, session);
  for (const { path, data, ephemeralOwner, ...node } of snapshot.nodes) {
    tree.nodes.set(path, {
      ...node,
      data: new Uint8Array(Buffer.from(data, "base64")),
      ephemeralOwner: ephemeralOwner ?? undefined,
      children: new Set(),
    });
  }
  for (const path of tree.nodes.keys()) {
    const cut = path.lastIndexOf("/");
    if (path !== "/") tree.nodes.get(path.slice(0, cut) || "/")?.children.add(path.slice(cut + 1));
  }
}

function lineOf(records: readonly unknown[]): string {
  const json = encodeJson(records);
  return `${crc32(json).toString(16).padStart(8, "0")} ${json}\n`;
}

function recordsOf(line: string): readonly z.output<typeof RECORD>[] | undefined {
  const json = line.slice(9);
  if (line.slice(0, 8) !== crc32(json).toString(16).padStart(8, "0")) return undefined;
  return RECORDS.safeParse(JSON.parse(json)).data;
}

async function readIfThere(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw error;
  }
}

function corrupt(directory: string, line: number): ManateeError {
  return new ManateeError({
    code: "STORE_CORRUPT",
    message: `line ${line} of ${directory}/journal is damaged`,
    remedy: "operator",
    hint: "Move the folder of the embedded store away and let the shard be restored with `manatee-adm state restore`.",
  });
}
