// Cuts a stream of bytes into frames: four bytes of length, then so many bytes. Pure. Holds at most one incomplete frame.

import { MalformedRecord } from "./jute.ts";

const LENGTH_BYTES = 4;

export interface FrameSplitter {
  /** The frames that these bytes complete, in order. Throws {@link MalformedRecord} on a length below 0 or above the limit. */
  push(chunk: Uint8Array): Uint8Array[];
  /** Frames longer than this are refused as soon as their length is seen. */
  limitTo(maximumBytes: number): void;
}

export function frameSplitter(maximumBytes: number): FrameSplitter {
  let limit = maximumBytes;
  let chunks: Uint8Array[] = [];
  let held = 0;
  /** Of the frame that is under way; undefined: its length is not complete. */
  let wanted: number | undefined;

  /** Takes `count` bytes, which must be there, off the front. */
  const take = (count: number): Uint8Array => {
    const [first] = chunks;
    held -= count;
    if (first !== undefined && first.length >= count) {
      if (first.length === count) chunks.shift();
      else chunks[0] = first.subarray(count);
      return first.subarray(0, count);
    }
    const whole = new Uint8Array(held + count);
    let at = 0;
    for (const chunk of chunks) {
      whole.set(chunk, at);
      at += chunk.length;
    }
    chunks = held === 0 ? [] : [whole.subarray(count)];
    return whole.subarray(0, count);
  };

  return {
    push(chunk) {
      if (chunk.length > 0) chunks.push(chunk);
      held += chunk.length;
      const frames: Uint8Array[] = [];
      for (;;) {
        if (wanted === undefined) {
          if (held < LENGTH_BYTES) return frames;
          const prefix = take(LENGTH_BYTES);
          wanted = new DataView(prefix.buffer, prefix.byteOffset, LENGTH_BYTES).getInt32(0);
          if (wanted < 0 || wanted > limit) throw new MalformedRecord(`a frame of ${wanted} bytes, limit ${limit}`);
        }
        if (held < wanted) return frames;
        frames.push(take(wanted));
        wanted = undefined;
      }
    },
    limitTo(maximumBytes) {
      limit = maximumBytes;
    },
  };
}

/** The frame around a message. */
export function framed(message: Uint8Array): Uint8Array {
  const frame = new Uint8Array(LENGTH_BYTES + message.length);
  new DataView(frame.buffer).setInt32(0, message.length);
  frame.set(message, LENGTH_BYTES);
  return frame;
}
