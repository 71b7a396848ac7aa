// Watches a stream of `btrfs send` pass: what it carries, before anything of it is let through, and that it is whole. btrfs receive takes a stream that ends between two
// commands for a whole one in some versions. The format: linux/fs/btrfs/send.h.

import type { StreamStart } from "../common/medium.ts";
import { storageError } from "../errors.ts";

const MAGIC = "btrfs-stream\0";
/** The magic and a version. */
const HEADER_BYTES = MAGIC.length + 4;
/** Length of the data, kind, checksum. */
const COMMAND_BYTES = 4 + 2 + 4;
const FIRST_COMMAND_MAX_BYTES = 64 * 1024;

const SUBVOLUME = 1;
const SNAPSHOT = 2;
const END = 21;
const [UUID, PATH, CLONE_UUID] = [1, 15, 20];

/** The same bytes. `onStart` may refuse by throwing. Errors: `STORAGE_BAD_STREAM`, before the last of it is let through. */
export async function* watchStream(
  stream: AsyncIterable<Uint8Array>,
  onStart: (start: StreamStart) => Promise<void>,
): AsyncGenerator<Uint8Array> {
  let held: Buffer | undefined = Buffer.alloc(0);
  const frames = new Frames();
  for await (const chunk of stream) {
    if (held === undefined) {
      frames.pass(chunk);
      yield chunk;
      continue;
    }
    held = Buffer.concat([held, chunk]);
    const start = readStart(held);
    if (start === undefined) continue;
    await onStart(start);
    frames.pass(held.subarray(HEADER_BYTES));
    yield held;
    held = undefined;
  }
  if (!frames.ended) throw bad("it breaks off");
}

/** undefined: more has to come. */
function readStart(bytes: Buffer): StreamStart | undefined {
  if (bytes.length < HEADER_BYTES + COMMAND_BYTES) return undefined;
  if (bytes.toString("latin1", 0, MAGIC.length) !== MAGIC) throw bad("it is none of Btrfs");
  const length = bytes.readUInt32LE(HEADER_BYTES);
  const kind = bytes.readUInt16LE(HEADER_BYTES + 4);
  if ((kind !== SUBVOLUME && kind !== SNAPSHOT) || length > FIRST_COMMAND_MAX_BYTES)
    throw bad("it doesn't begin with a subvolume");
  if (bytes.length < HEADER_BYTES + COMMAND_BYTES + length) return undefined;
  const attributes = readAttributes(bytes.subarray(HEADER_BYTES + COMMAND_BYTES).subarray(0, length));
  const [name, guid, fromGuid] = [attributes.get(PATH), attributes.get(UUID), attributes.get(CLONE_UUID)];
  if (name === undefined || guid?.length !== 16 || (kind === SNAPSHOT) !== (fromGuid?.length === 16))
    throw bad("it doesn't say what it carries");
  return { name: name.toString("utf8"), guid: formatUuid(guid), fromGuid: fromGuid && formatUuid(fromGuid) };
}

function readAttributes(data: Buffer): ReadonlyMap<number, Buffer> {
  const attributes = new Map<number, Buffer>();
  for (let at = 0; at + 4 <= data.length; ) {
    const length = data.readUInt16LE(at + 2);
    attributes.set(data.readUInt16LE(at), data.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return attributes;
}

function formatUuid(bytes: Buffer): string {
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** Where commands begin and end in what passes. */
class Frames {
  ended = false;
  #head = Buffer.alloc(0);
  /** Of the command's data, still to come. */
  #left = 0;

  pass(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length; ) {
      if (this.ended) throw bad("something follows its end");
      if (this.#left > 0) {
        const part = Math.min(this.#left, chunk.length - at);
        this.#left -= part;
        at += part;
        continue;
      }
      const part = chunk.subarray(at, at + COMMAND_BYTES - this.#head.length);
      this.#head = Buffer.concat([this.#head, part]);
      at += part.length;
      if (this.#head.length < COMMAND_BYTES) return;
      this.#left = this.#head.readUInt32LE(0);
      this.ended = this.#head.readUInt16LE(4) === END && this.#left === 0;
      this.#head = Buffer.alloc(0);
    }
  }
}

function bad(why: string): Error {
  return storageError("STORAGE_BAD_STREAM", `what came is no stream of a snapshot: ${why}`);
}
