// Copies another peer's database into an empty data directory, over the replication protocol, and verifies it. An own client: pg_basebackup is not in
// every installation, and would take over what must not be (the source's mark).

import { createWriteStream, type WriteStream } from "node:fs";
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { once } from "node:events";
import { dirname, join, normalize } from "node:path";
import { ManateeError } from "../../base/errors.ts";
import type { Bytes, Ms } from "../../base/units.ts";
import type { Timers } from "../../world/port.ts";
import { streamBackup } from "./backup-stream.ts";
import { crc32c } from "./crc32c.ts";
import { manifestProblem, type ReceivedFile } from "./manifest.ts";
import { MARK_FILE } from "./mark.ts";
import { type SqlSession, type SqlTarget, withConnection } from "./sql.ts";
import { type TarEntry, TarReader, type TarSink } from "./tar.ts";

export interface BaseBackup {
  readonly source: SqlTarget;
  readonly dataDir: string;
  /** Of the own programs: a copy of another version would be of no use. */
  readonly major: number;
  readonly signal: AbortSignal;
  readonly timers: Timers;
  readonly onProgress: (progress: { received: Bytes; total: Bytes }) => void;
  /** Called before anything is written; throws where there is no room for that much. */
  readonly demandSpace: (bytes: Bytes) => Promise<void>;
}

/** A copy takes as long as it takes; its end is the other side's, or cancelJob(). */
const COPY_LIMIT_MS: Ms = 2_000_000_000;

/**
 * Whether that server lets us in for a copy or a rewind, and is of the own programs' major version; tells the timeline that it is on. Errors: `PG_COPY_FAILED`,
 * `PG_VERSION_DIFFERS`.
 */
export async function demandServing(
  source: SqlTarget,
  { major, ...limits }: { major: number; limitMs: Ms; timers: Timers },
): Promise<{ timeline: number }> {
  const { timeline, theirs } = await withConnection(
    { ...source, replication: "database" },
    limits,
    async ({ query }) => ({
      timeline: Number((await query("IDENTIFY_SYSTEM"))[0]?.["timeline"]),
      theirs: await majorOf(query),
    }),
  ).catch((error: unknown) => {
    throw copyFailed(source, error);
  });
  demandMajor(theirs, major);
  return { timeline };
}

/**
 * The folder holds nothing but the mark. When it resolves, the copy is complete and verified; flushing it is the caller's. Errors: `PG_COPY_FAILED`,
 * `PG_COPY_DAMAGED`, `PG_TABLESPACES`, `PG_VERSION_DIFFERS`.
 */
export async function takeBaseBackup(backup: BaseBackup): Promise<void> {
  const { source, timers, signal } = backup;
  const files = new FileWriter(backup.dataDir);
  const tar = new TarReader(files);
  const manifest: Buffer[] = [];
  let total = 0;
  let refused: ManateeError | undefined;
  // What is being written when the copy is cut short must have ended before somebody else writes there.
  let over = false;
  let writing: Promise<void> = Promise.resolve();
  const stall = new StallWatch(timers, signal);
  const take = async (chunk: Buffer): Promise<void> => {
    if (refused) throw refused;
    if (over) return;
    if (files.received === 0) await backup.demandSpace(total);
    await tar.write(chunk);
    stall.progressed();
    backup.onProgress({ received: files.received, total });
  };
  try {
    await withConnection(
      { ...source, replication: "true" },
      { limitMs: COPY_LIMIT_MS, timers, signal: stall.signal },
      async ({ client, query }) => {
        const major = await majorOf(query);
        demandMajor(major, backup.major);
        const tagged = major >= 15;
        await streamBackup(
          client,
          backupCommand(tagged),
          {
            announced({ bytes, tablespaces }) {
              total = bytes;
              if (tablespaces.length > 0) refused = tablespacesError(tablespaces);
            },
            archiveData(chunk) {
              writing = take(chunk);
              return writing;
            },
            manifestData(chunk) {
              manifest.push(chunk);
              return Promise.resolve();
            },
          },
          tagged,
        );
      },
    );
    tar.finish();
    await files.settle();
  } catch (error) {
    over = true;
    stall.end();
    await writing.catch(() => undefined);
    await files.abandon();
    if (error instanceof ManateeError && !stall.stalled) throw error;
    throw copyFailed(source, error);
  }
  stall.end();
  const problem = manifestProblem(Buffer.concat(manifest).toString("utf8"), files.all);
  if (problem !== undefined) throw copyDamaged(source, problem);
  await writeFile(join(backup.dataDir, "backup_manifest"), Buffer.concat(manifest), { mode: 0o600 });
}

/** A source that sends nothing for so long is lost: a fast checkpoint comes before the first byte, and may take minutes. */
const STALL_LIMIT_MS: Ms = 300_000;

class StallWatch {
  readonly #timers: Timers;
  readonly #abort = new AbortController();
  readonly signal: AbortSignal;
  stalled = false;
  #cancel: () => void = () => undefined;
  #progressed = false;

  constructor(timers: Timers, outer: AbortSignal) {
    this.#timers = timers;
    this.signal = AbortSignal.any([outer, this.#abort.signal]);
    this.#watch();
  }

  progressed(): void {
    this.#progressed = true;
  }

  end(): void {
    this.#cancel();
  }

  #watch(): void {
    this.#cancel = this.#timers.after(STALL_LIMIT_MS, () => {
      if (this.#progressed) {
        this.#progressed = false;
        this.#watch();
        return;
      }
      this.stalled = true;
      this.#abort.abort();
    });
  }
}

/** With the WAL that it needs to become consistent, so that the source may vanish as soon as the copy is here. */
function backupCommand(tagged: boolean): string {
  return tagged
    ? "BASE_BACKUP (LABEL 'manatee', PROGRESS true, CHECKPOINT 'fast', WAL true, WAIT false, MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C')"
    : "BASE_BACKUP LABEL 'manatee' PROGRESS FAST WAL NOWAIT MANIFEST 'yes' MANIFEST_CHECKSUMS 'CRC32C'";
}

/** Files up to this size are held whole; so many are being written at once. */
const SMALL_MAX: Bytes = 256 * 1024;
const SMALL_AT_ONCE = 16;

/** Writes entries below a folder; nothing leaves it. */
class FileWriter implements TarSink {
  readonly all = new Map<string, ReceivedFile>();
  received: Bytes = 0;
  readonly #folder: string;
  #path = "";
  #file: WriteStream | undefined;
  #failure: unknown;
  #crc = 0;
  #size = 0;
  #isFile = false;
  /** Content of a small file, which is written at once, beside others: a database is a thousand of them. */
  #small: Buffer[] | undefined;
  readonly #writes = new Set<Promise<void>>();
  readonly #folders = new Set<string>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  async begin(entry: TarEntry): Promise<void> {
    this.#path = normalize(entry.path).replace(/^\.\//, "");
    if (this.#path.startsWith("/") || this.#path.split("/").includes(".."))
      throw new Error(`the copy names a path outside: ${entry.path}`);
    this.#isFile = entry.kind === "file";
    this.#crc = 0;
    this.#size = 0;
    const target = join(this.#folder, this.#path);
    if (entry.kind === "folder") {
      await this.#makeFolder(target);
      return;
    }
    if (entry.kind === "link") throw new Error(`the copy holds a link: ${entry.path}`);
    // The source's mark would make this peer's data pass for the source's. It is verified like the rest, and not written.
    if (this.#path === MARK_FILE) return;
    await this.#makeFolder(dirname(target));
    if (entry.size <= SMALL_MAX) {
      this.#small = [];
      return;
    }
    this.#file = createWriteStream(target, { mode: 0o600 });
    this.#file.on("error", (error) => (this.#failure ??= error));
  }

  async data(chunk: Buffer): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    this.#crc = crc32c(chunk, this.#crc);
    this.#size += chunk.length;
    this.received += chunk.length;
    if (this.#small) this.#small.push(chunk);
    else if (this.#file && !this.#file.write(chunk)) await once(this.#file, "drain");
  }

  async end(): Promise<void> {
    if (!this.#isFile) return;
    const [file, small] = [this.#file, this.#small];
    this.#file = undefined;
    this.#small = undefined;
    if (small) await this.#writeSmall(join(this.#folder, this.#path), Buffer.concat(small));
    if (file) {
      file.end();
      await once(file, "close");
    }
    if (this.#failure !== undefined) throw this.#failure;
    this.all.set(this.#path, { size: this.#size, crc32c: this.#crc });
  }

  /** Throws where a file could not be written. */
  async settle(): Promise<void> {
    await Promise.all(this.#writes);
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Resolves when nothing is written any more. */
  async abandon(): Promise<void> {
    await Promise.all(this.#writes);
    const file = this.#file;
    if (!file || file.closed) return;
    file.destroy();
    await once(file, "close").catch(() => undefined);
  }

  async #writeSmall(target: string, content: Buffer): Promise<void> {
    const write = writeFile(target, content, { mode: 0o600 }).catch((error: unknown) => {
      this.#failure ??= error;
    });
    this.#writes.add(write);
    void write.finally(() => this.#writes.delete(write));
    if (this.#writes.size >= SMALL_AT_ONCE) await Promise.race(this.#writes);
  }

  async #makeFolder(path: string): Promise<void> {
    if (this.#folders.has(path)) return;
    await mkdir(path, { recursive: true, mode: 0o700 });
    this.#folders.add(path);
  }
}

/** What came from another server, whole, becomes a standby's. */
export async function finishCopiedFolder(dataDir: string): Promise<void> {
  await chmod(dataDir, 0o700);
  await writeFile(join(dataDir, "standby.signal"), "", { mode: 0o600 });
}

async function majorOf(query: SqlSession["query"]): Promise<number> {
  return Math.floor(Number((await query("SHOW server_version_num"))[0]?.["server_version_num"]) / 10_000);
}

function demandMajor(source: number, own: number): void {
  if (source === own) return;
  throw new ManateeError({
    code: "PG_VERSION_DIFFERS",
    message: `the source runs PostgreSQL ${source}, and the programs here are of ${own}`,
    remedy: "operator",
    hint: `Install PostgreSQL ${source} on this peer, or configure its folder.`,
  });
}

function tablespacesError(tablespaces: readonly string[]): ManateeError {
  return new ManateeError({
    code: "PG_TABLESPACES",
    message: `the source has tablespaces outside its data directory (${tablespaces.join(", ")})`,
    remedy: "operator",
    hint: "Move their tables to pg_default and drop the tablespaces: a copy of them is not supported.",
  });
}

function copyFailed(source: SqlTarget, cause: unknown): ManateeError {
  return new ManateeError({
    code: "PG_COPY_FAILED",
    message: `the copy from ${source.host}:${source.port} was cut short (${cause instanceof Error ? cause.message : String(cause)})`,
    remedy: "retry",
    hint: rejectedByHba(cause)
      ? "If the source saw another address than this peer's ip, set ip to the one it saw; otherwise look at the source's log."
      : "Look at the source's log, at the network between, and at the space on this disk.",
    cause,
  });
}

/** Each peer is admitted by the address that is its `ip`; PostgreSQL says `no pg_hba.conf entry` or `pg_hba.conf rejects`. */
function rejectedByHba(cause: unknown): boolean {
  return cause instanceof Error && "code" in cause && cause.code === "28000" && cause.message.includes("pg_hba.conf");
}

function copyDamaged(source: SqlTarget, problem: string): ManateeError {
  return new ManateeError({
    code: "PG_COPY_DAMAGED",
    message: `the copy from ${source.host}:${source.port} does not match its manifest: ${problem}`,
    remedy: "retry",
    hint: "Check disk and memory on both machines if it happens again.",
  });
}
