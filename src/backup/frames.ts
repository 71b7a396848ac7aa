// The body of a pulled stream, in frames: `KIND LENGTH PAYLOAD TAG`. Each tag is made with the key of this one request over head and payload, numbered from 0, so
// that a receiver notices any byte that changed, is missing, came twice or is another stream's, before it hands on a byte of that frame; and a body
// without the frame that ends it is not whole, however the connection ended.

import { ManateeError } from "../base/errors.ts";
import type { Crypto } from "../world/port.ts";

/** `begin`: what comes. `wait`: nothing to send yet. `end`: all of it was sent. `error`: the sender gives up. All but `data` are JSON. */
export type FrameKind = keyof typeof CODES;

export interface Frame {
  readonly kind: FrameKind;
  /** The payload in pieces, as it came. */
  readonly parts: readonly Uint8Array[];
  readonly bytes: number;
}

const CODES = { begin: 1, wait: 2, data: 3, end: 4, error: 5 } as const;
const HEAD_BYTES = 5;
const TAG_BYTES = 16;
/** A receiver holds one whole frame in memory. */
export const FRAME_BYTES_MAX = 1 << 20;

export interface Seal {
  readonly key: Uint8Array;
  readonly crypto: Crypto;
}

export interface FrameWriter {
  /** The pieces themselves, not copies, between what frames them; together FRAME_BYTES_MAX at most. */
  data(pieces: readonly Uint8Array[]): Uint8Array[];
  json(kind: Exclude<FrameKind, "data">, value: object): Uint8Array[];
}

export function frameWriter({ key, crypto }: Seal): FrameWriter {
  let number = 0;
  const one = (kind: FrameKind, pieces: readonly Uint8Array[]): Uint8Array[] => {
    const head = new Uint8Array(HEAD_BYTES);
    head[0] = CODES[kind];
    new DataView(head.buffer).setUint32(
      1,
      pieces.reduce((sum, piece) => sum + piece.length, 0),
    );
    const parts = [head, ...pieces];
    parts.push(crypto.tag(key, number++, parts));
    return parts;
  };
  return {
    data: (pieces) => one("data", pieces),
    json: (kind, value) => one(kind, [new TextEncoder().encode(JSON.stringify(value))]),
  };
}

/** The frames of a body, each checked. Ends where the body ends, which only an `end` frame makes complete. @throws `BACKUP_CORRUPT` */
export async function* readFrames(body: AsyncIterable<Uint8Array>, { key, crypto }: Seal): AsyncGenerator<Frame> {
  const input = new ByteReader(body);
  try {
    for (let number = 0; ; number++) {
      const headParts = await input.take(HEAD_BYTES);
      if (headParts === undefined) return;
      const head = joined(headParts, HEAD_BYTES);
      const bytes = new DataView(head.buffer).getUint32(1);
      const kind = (Object.keys(CODES) as FrameKind[]).find((name) => CODES[name] === head[0]);
      if (kind === undefined || bytes > FRAME_BYTES_MAX) throw corrupt(number);
      const parts = await input.take(bytes);
      const tag = await input.take(TAG_BYTES);
      if (parts === undefined || tag === undefined) return;
      if (!crypto.equal(joined(tag, TAG_BYTES), crypto.tag(key, number, [head, ...parts]))) throw corrupt(number);
      yield { kind, parts, bytes };
    }
  } finally {
    await input.leave();
  }
}

export function jsonOf({ parts, bytes }: Frame): unknown {
  return JSON.parse(new TextDecoder().decode(joined(parts, bytes)));
}

/** Takes exact numbers of bytes from chunks of any size, without copying them. */
class ByteReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array(0);

  constructor(body: AsyncIterable<Uint8Array>) {
    this.#chunks = body[Symbol.asyncIterator]();
  }

  /** undefined: the body ended before. */
  async take(bytes: number): Promise<Uint8Array[] | undefined> {
    const parts: Uint8Array[] = [];
    for (let missing = bytes; missing > 0; ) {
      if (this.#rest.length === 0) {
        const next = await this.#chunks.next();
        if (next.done) return undefined;
        this.#rest = next.value;
        continue;
      }
      const part = this.#rest.subarray(0, missing);
      this.#rest = this.#rest.subarray(part.length);
      missing -= part.length;
      parts.push(part);
    }
    return parts;
  }

  async leave(): Promise<void> {
    await this.#chunks.return?.();
  }
}

/** A copy: for heads, tags and small payloads. */
function joined(parts: readonly Uint8Array[], bytes: number): Uint8Array {
  const whole = new Uint8Array(bytes);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function corrupt(number: number): ManateeError {
  return new ManateeError({
    code: "BACKUP_CORRUPT",
    message: `frame ${number} of the stream is not what the backup server sent`,
    remedy: "retry",
    hint: "Try again; if it happens again, check the memory and the network cards of both machines.",
  });
}
