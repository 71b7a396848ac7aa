// BASE_BACKUP over the replication protocol, as a query object for `pg`: hands on archives, their data, the manifest, in order and with
// back-pressure. From 15 on all comes in one stream of tagged messages; before, each archive and the manifest are streams of their own.

import type { Client } from "pg";

export interface BackupSink {
  /** Bytes to come, about; tablespaces beside the main one. */
  announced(total: { bytes: number; tablespaces: readonly string[] }): void;
  archiveData(chunk: Buffer): Promise<void>;
  manifestData(chunk: Buffer): Promise<void>;
}

/** Chunks that wait for the disk at most before the socket is paused. */
const QUEUE_LIMIT = 64;

interface Connection {
  query(text: string): void;
  readonly stream: { pause(): void; resume(): void };
  on(event: "copyOutResponse", listener: () => void): void;
}

/** Resolves when the server has sent all and the sink has taken all. The server's errors reject as they are. */
export function streamBackup(client: Client, command: string, sink: BackupSink, tagged: boolean): Promise<void> {
  const connection = (client as unknown as { connection: Connection }).connection;
  return new Promise((resolve, reject) => {
    const query = new BackupQuery({ command, sink, tagged, resolve, reject });
    connection.on("copyOutResponse", () => query.handleCopyOut());
    client.query(query as never);
  });
}

class BackupQuery {
  readonly #command: string;
  readonly #sink: BackupSink;
  readonly #tagged: boolean;
  readonly #resolve: () => void;
  readonly #reject: (error: unknown) => void;
  #connection: Connection | undefined;
  #resultSets = 0;
  #announced = false;
  #tablespaces: { path: string | null; size: number }[] = [];
  #archives = 0;
  #manifest = false;
  #queued = 0;
  #work: Promise<void> = Promise.resolve();
  #failure: unknown;

  constructor(options: {
    command: string;
    sink: BackupSink;
    tagged: boolean;
    resolve: () => void;
    reject: (error: unknown) => void;
  }) {
    this.#command = options.command;
    this.#sink = options.sink;
    this.#tagged = options.tagged;
    this.#resolve = options.resolve;
    this.#reject = options.reject;
  }

  submit(connection: Connection): void {
    this.#connection = connection;
    connection.query(this.#command);
  }

  handleRowDescription(): void {
    this.#resultSets++;
  }

  /** The first result is the start position, the second the tablespaces (the main one without oid), the last the end position. */
  handleDataRow(message: { fields: readonly (Buffer | string | null)[] }): void {
    if (this.#resultSets !== 2) return;
    const [oid, path, size] = message.fields.map((field) => (field === null ? null : field.toString()));
    this.#tablespaces.push({ path: oid === null ? null : (path ?? null), size: Number(size ?? 0) });
  }

  handleCopyOut(): void {
    if (!this.#announced) {
      this.#announced = true;
      this.#sink.announced({
        bytes: this.#tablespaces.reduce((sum, { size }) => sum + size * 1024, 0),
        tablespaces: this.#tablespaces.map(({ path }) => path).filter((path) => path !== null),
      });
    }
    if (this.#tagged) return;
    // One stream an archive, then one for the manifest.
    this.#archives++;
    if (this.#archives > this.#tablespaces.length) this.#manifest = true;
  }

  handleCopyData(message: { chunk: Buffer }): void {
    let { chunk } = message;
    if (this.#tagged) {
      const tag = String.fromCharCode(chunk[0] as number);
      if (tag === "m") this.#manifest = true;
      if (tag !== "d") return;
      chunk = chunk.subarray(1);
    }
    this.#enqueue(chunk, this.#manifest);
  }

  #enqueue(chunk: Buffer, manifest: boolean): void {
    if (this.#failure !== undefined) return;
    // The parser reuses its buffer for what comes next.
    const copy = Buffer.from(chunk);
    if (++this.#queued === QUEUE_LIMIT) this.#connection?.stream.pause();
    this.#work = this.#work
      .then(() =>
        this.#failure === undefined
          ? manifest
            ? this.#sink.manifestData(copy)
            : this.#sink.archiveData(copy)
          : undefined,
      )
      .catch((error: unknown) => {
        this.#failure ??= error;
        this.#reject(error);
      })
      .finally(() => {
        if (--this.#queued === QUEUE_LIMIT / 2) this.#connection?.stream.resume();
      });
  }

  handleCommandComplete(): void {
    // Said of each result set: the end of all is ReadyForQuery.
  }

  handleError(error: unknown): void {
    this.#failure ??= error;
    this.#reject(error);
  }

  handleReadyForQuery(): void {
    void this.#work.then(() => {
      if (this.#failure === undefined) this.#resolve();
    });
  }
}
