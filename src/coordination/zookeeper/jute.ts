// Jute, ZooKeeper's encoding: big-endian numbers, buffers and strings with a length before them, vectors with a count. Pure.
// The reader trusts nothing: every length is checked against what is there before anything is allocated.

/** The bytes are not what the record's definition says: the connection they came on can't be trusted any more. */
export class MalformedRecord extends Error {
  constructor(message: string) {
    super(message);
    this.name = "MalformedRecord";
  }
}

const INITIAL_BYTES = 256;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Appends values to a growing buffer; `bytes()` is what has been written. */
export class JuteWriter {
  private buffer = new Uint8Array(INITIAL_BYTES);
  private view = new DataView(this.buffer.buffer);
  private length = 0;

  int(value: number): this {
    const at = this.reserve(4);
    this.view.setInt32(at, value);
    return this;
  }

  long(value: bigint): this {
    const at = this.reserve(8);
    this.view.setBigInt64(at, value);
    return this;
  }

  bool(value: boolean): this {
    const at = this.reserve(1);
    this.view.setUint8(at, value ? 1 : 0);
    return this;
  }

  bytesField(value: Uint8Array): this {
    this.int(value.length);
    const at = this.reserve(value.length);
    this.buffer.set(value, at);
    return this;
  }

  string(value: string): this {
    return this.bytesField(encoder.encode(value));
  }

  vector<T>(values: readonly T[], write: (value: T) => void): this {
    this.int(values.length);
    for (const value of values) write(value);
    return this;
  }

  /** Bytes written so far. */
  get size(): number {
    return this.length;
  }

  /** A view of what has been written: valid until the next write. */
  bytes(): Uint8Array {
    return this.buffer.subarray(0, this.length);
  }

  private reserve(count: number): number {
    const at = this.length;
    this.length += count;
    if (this.length > this.buffer.length) {
      const larger = new Uint8Array(Math.max(this.length, this.buffer.length * 2));
      larger.set(this.buffer);
      this.buffer = larger;
      this.view = new DataView(larger.buffer);
    }
    return at;
  }
}

/** Reads values off the front. Throws {@link MalformedRecord}, and nothing else, where the bytes don't hold what is asked for. */
export class JuteReader {
  private readonly source: Uint8Array;
  private readonly view: DataView;
  private at = 0;

  constructor(source: Uint8Array) {
    this.source = source;
    this.view = new DataView(source.buffer, source.byteOffset, source.byteLength);
  }

  get remaining(): number {
    return this.source.length - this.at;
  }

  int(): number {
    return this.view.getInt32(this.take(4, "int"));
  }

  long(): bigint {
    return this.view.getBigInt64(this.take(8, "long"));
  }

  bool(): boolean {
    return this.view.getUint8(this.take(1, "bool")) !== 0;
  }

  /** A copy, so that a small value doesn't keep a large frame alive. A null buffer (length -1) reads as an empty one. */
  bytesField(): Uint8Array {
    return this.lengthPrefixed("buffer").slice();
  }

  string(): string {
    const encoded = this.lengthPrefixed("string");
    try {
      return decoder.decode(encoded);
    } catch {
      throw new MalformedRecord("a string is not UTF-8");
    }
  }

  /** A null vector (count -1) reads as an empty one. `minimumBytes`: of one element, so that a count can't promise more than is there. */
  vector<T>(minimumBytes: number, read: () => T): T[] {
    const count = this.int();
    if (count < -1 || count * minimumBytes > this.remaining)
      throw new MalformedRecord(`a vector of ${count} elements in ${this.remaining} bytes`);
    const values: T[] = [];
    for (let i = 0; i < count; i++) values.push(read());
    return values;
  }

  private lengthPrefixed(what: string): Uint8Array {
    const length = this.int();
    if (length < -1) throw new MalformedRecord(`a ${what} of ${length} bytes`);
    const size = Math.max(length, 0);
    const from = this.take(size, what);
    return this.source.subarray(from, from + size);
  }

  private take(count: number, what: string): number {
    if (count > this.remaining) throw new MalformedRecord(`${what} of ${count} bytes, but ${this.remaining} are left`);
    const from = this.at;
    this.at += count;
    return from;
  }
}
