// A pulled stream: the transfer in frames, written at the receiver's pace. While there is nothing to send it says so every few seconds, so that a receiver can
// tell a slow storage from a dead server; and a receiver that takes nothing for long is given up, so that it doesn't block the queue.

import type { HttpBindings } from "@hono/node-server";
import type * as z from "zod";
import { ManateeError } from "../base/errors.ts";
import type { Bytes, Ms } from "../base/units.ts";
import type { Timers } from "../world/port.ts";
import { FRAME_BYTES_MAX, type FrameWriter, frameWriter, type Seal } from "./frames.ts";
import { problemOf } from "./problem.ts";
import { readAhead } from "./read-ahead.ts";
import type { Transfer } from "./transfer.ts";
import { type beginSchema, type endSchema, STREAM_PROTOCOL, type waitSchema } from "./wire.ts";

/** Well within the client's SILENCE_LIMIT_MS. */
const ALIVE_MS: Ms = 5_000;
/** Of what the storage sends, before the receiver has room. */
const READ_AHEAD_BYTES: Bytes = 2 << 20;

type Outgoing = HttpBindings["outgoing"] | HttpBindings["incoming"]["socket"];

export interface PullOptions {
  readonly transfer: Transfer;
  readonly seal: Seal;
  readonly format: "zfs" | "btrfs" | "tar";
  readonly timers: Timers;
  /** Of a receiver that takes nothing. */
  readonly stallLimitMs: Ms;
  readonly aliveMs?: Ms;
}

/** Writes the head of the answer. Where the body goes then: bare, where the receiver asked for it, since HTTP would copy each byte at its end. */
export function answerWith({ incoming, outgoing }: HttpBindings): Outgoing {
  if (incoming.headers.upgrade === STREAM_PROTOCOL) {
    incoming.socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${STREAM_PROTOCOL}\r\n\r\n`,
    );
    return incoming.socket;
  }
  // The frames tell where the body ends; HTTP's own chunks would only cost. It ends with the connection.
  outgoing.shouldKeepAlive = false;
  outgoing.removeHeader("transfer-encoding");
  outgoing.writeHead(200, { "content-type": "application/vnd.manatee.stream", "cache-control": "no-store" });
  return outgoing;
}

/** Resolves when the transfer has ended, one way or the other. Never rejects. */
export async function pull(outgoing: Outgoing, options: PullOptions): Promise<void> {
  const { transfer, timers, stallLimitMs } = options;
  // What waits inside the frames ends by it.
  outgoing.on("close", () => transfer.cancel(receiverGone()));
  outgoing.on("error", () => undefined);
  for await (const parts of framesOf(options)) {
    // One call of the system for the whole frame.
    outgoing.cork();
    for (const part of parts) outgoing.write(part);
    outgoing.uncork();
    if (!outgoing.writableNeedDrain || (await drained(outgoing, timers, stallLimitMs))) continue;
    transfer.cancel(stalled(stallLimitMs));
    outgoing.destroy();
  }
  outgoing.end();
}

/** false: nothing was taken within the limit. */
function drained(outgoing: Outgoing, timers: Timers, stallLimitMs: Ms): Promise<boolean> {
  if (outgoing.destroyed) return Promise.resolve(true);
  return new Promise((resolve) => {
    const settle = (taken: boolean) => {
      cancel();
      outgoing.off("drain", done);
      outgoing.off("close", done);
      resolve(taken);
    };
    const done = () => settle(true);
    const cancel = timers.after(stallLimitMs, () => settle(false));
    outgoing.on("drain", done);
    outgoing.on("close", done);
  });
}

/** One frame after the other, in their parts. Does not throw: what goes wrong is told to the receiver by the last frame. */
async function* framesOf(options: PullOptions): AsyncGenerator<Uint8Array[], void, undefined> {
  const { transfer } = options;
  const frames = frameWriter(options.seal);
  try {
    yield* dataOf(options, frames);
    await transfer.end();
    yield frames.json("end", { sentBytes: transfer.sentBytes } satisfies z.output<typeof endSchema>);
  } catch (error) {
    await transfer.end(error);
    yield frames.json("error", problemOf(error));
  }
}

async function* dataOf(options: PullOptions, frames: FrameWriter): AsyncGenerator<Uint8Array[]> {
  const { transfer } = options;
  const wait = () => frames.json("wait", { position: transfer.position() } satisfies z.output<typeof waitSchema>);
  const ready = transfer.ready();
  // Rejects in the midst of a yield, too, where nobody listens for a moment.
  ready.catch(() => undefined);
  if (transfer.position() > 0) yield wait();
  yield* meanwhile(ready, wait, options);
  yield frames.json("begin", beginOf(options));
  const pieces = readAhead(transfer.stream(), READ_AHEAD_BYTES);
  try {
    for (;;) {
      const next = yield* meanwhile(pieces.next(), wait, options);
      if (next.done) return;
      for (const fitting of fitted(next.value)) yield frames.data(fitting);
    }
  } finally {
    await pieces.return();
  }
}

/** In groups that each fit into one frame. To seal many small frames costs more than to seal their content. */
function* fitted(pieces: readonly Uint8Array[]): Generator<Uint8Array[]> {
  let group: Uint8Array[] = [];
  let bytes = 0;
  for (const piece of pieces)
    for (let at = 0; at < piece.length; at += FRAME_BYTES_MAX) {
      const part = piece.subarray(at, at + FRAME_BYTES_MAX);
      if (bytes + part.length > FRAME_BYTES_MAX) {
        yield group;
        group = [];
        bytes = 0;
      }
      group.push(part);
      bytes += part.length;
    }
  if (bytes > 0) yield group;
}

/** Says something again and again, until the promise settles. */
async function* meanwhile<T>(
  promise: Promise<T>,
  say: () => Uint8Array[],
  { timers, aliveMs = ALIVE_MS }: PullOptions,
): AsyncGenerator<Uint8Array[], T> {
  for (;;) {
    let cancel = () => {};
    const late = new Promise<"late">((resolve) => (cancel = timers.after(aliveMs, () => resolve("late"))));
    try {
      const first = await Promise.race([promise.then((value) => ({ value })), late]);
      if (first !== "late") return first.value;
    } finally {
      cancel();
    }
    yield say();
  }
}

function beginOf({ transfer, format }: PullOptions): z.output<typeof beginSchema> {
  const { uuid, snapshot, from, resumeToken } = transfer.options;
  return {
    transfer: uuid,
    snapshot: snapshot.name,
    guid: snapshot.guid,
    from: from?.name ?? null,
    fromGuid: from?.guid ?? null,
    format,
    expectedBytes: transfer.expectedBytes ?? null,
    resumed: resumeToken !== undefined,
  };
}

function stalled(stallLimitMs: Ms): ManateeError {
  return new ManateeError({
    code: "BACKUP_RECEIVER_STALLED",
    message: `the receiver took nothing for ${stallLimitMs} ms`,
    remedy: "retry",
    hint: "See whether the receiver's disk or network stands still; it may ask again, and goes on where its storage can resume.",
  });
}

function receiverGone(): ManateeError {
  return new ManateeError({
    code: "BACKUP_RECEIVER_GONE",
    message: "the receiver closed the connection before the end",
    remedy: "retry",
    hint: "See the receiver's log for why it left; it may ask again, and goes on where its storage can resume.",
  });
}
