// Reads a tar stream as PostgreSQL's BASE_BACKUP sends it (ustar, no extensions): a parser fed with chunks.

export interface TarEntry {
  readonly path: string;
  readonly kind: "file" | "folder" | "link";
  readonly size: number;
}

export interface TarSink {
  begin(entry: TarEntry): Promise<void>;
  data(chunk: Buffer): Promise<void>;
  end(): Promise<void>;
}

const BLOCK = 512;

export class TarReader {
  readonly #sink: TarSink;
  #pending: Buffer = Buffer.alloc(0);
  #remaining = 0;
  #padding = 0;
  #over = false;

  constructor(sink: TarSink) {
    this.#sink = sink;
  }

  /** Chunks of any size, in order, one at a time. */
  async write(chunk: Buffer): Promise<void> {
    let rest = this.#pending.length > 0 ? Buffer.concat([this.#pending, chunk]) : chunk;
    this.#pending = Buffer.alloc(0);
    while (rest.length > 0) {
      if (this.#remaining > 0) {
        const part = rest.subarray(0, this.#remaining);
        await this.#sink.data(part);
        this.#remaining -= part.length;
        rest = rest.subarray(part.length);
        if (this.#remaining === 0) await this.#sink.end();
      } else if (this.#padding > 0) {
        const skipped = Math.min(this.#padding, rest.length);
        this.#padding -= skipped;
        rest = rest.subarray(skipped);
      } else if (this.#over) {
        return;
      } else if (rest.length < BLOCK) {
        this.#pending = Buffer.from(rest);
        return;
      } else {
        await this.#header(rest.subarray(0, BLOCK));
        rest = rest.subarray(BLOCK);
      }
    }
  }

  /** Throws where the stream ended inside an entry. */
  finish(): void {
    if (this.#remaining > 0 || this.#pending.length > 0) throw new Error("the tar stream ended inside an entry");
  }

  async #header(block: Buffer): Promise<void> {
    if (block.every((byte) => byte === 0)) {
      this.#over = true;
      return;
    }
    const entry = parseHeader(block);
    await this.#sink.begin(entry);
    this.#remaining = entry.size;
    this.#padding = (BLOCK - (entry.size % BLOCK)) % BLOCK;
    if (entry.size === 0) await this.#sink.end();
  }
}

function parseHeader(block: Buffer): TarEntry {
  const sum = block.reduce((total, byte, index) => total + (index >= 148 && index < 156 ? 32 : byte), 0);
  if (sum !== number(block, 148, 8)) throw new Error("a tar header has a wrong checksum");
  const type = String.fromCharCode(block[156] as number);
  const kind = type === "5" ? "folder" : type === "2" ? "link" : type === "0" || type === "\0" ? "file" : undefined;
  if (kind === undefined) throw new Error(`a tar entry has the unknown type ${JSON.stringify(type)}`);
  const prefix = text(block, 345, 155);
  const name = text(block, 0, 100);
  return {
    path: (prefix === "" ? name : `${prefix}/${name}`).replace(/\/+$/, ""),
    kind,
    size: kind === "file" ? number(block, 124, 12) : 0,
  };
}

/** Octal digits, or base 256 where the first bit is set (files of 8 GB and more). */
function number(block: Buffer, offset: number, length: number): number {
  if (((block[offset] as number) & 0x80) === 0) return Number.parseInt(text(block, offset, length).trim() || "0", 8);
  let value = (block[offset] as number) & 0x7f;
  for (let i = 1; i < length; i++) value = value * 256 + (block[offset + i] as number);
  return value;
}

function text(block: Buffer, offset: number, length: number): string {
  const field = block.subarray(offset, offset + length);
  const end = field.indexOf(0);
  return field.subarray(0, end < 0 ? length : end).toString("utf8");
}
