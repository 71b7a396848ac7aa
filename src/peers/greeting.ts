// The handshake on a connection: who opened it begins, each proves itself, and the stream is handed over with whatever arrived behind the proof.
// Bounded in time and in size, and silent about what was wrong: that goes to the log.

import type { PeerId } from "../base/peer-id.ts";
import type { Ms } from "../base/units.ts";
import type { ByteStream, World } from "../world/port.ts";
import { accept, answer, challenge, HandshakeError, hello, type Self, type Side } from "./handshake.ts";
import { type Challenge, type Hello, Lines } from "./wire.ts";

const NONCE_BYTES = 32;

export interface Greeted {
  readonly stream: ByteStream;
  readonly side: Side;
  readonly peer: PeerId;
  /** Names that sitter's run. */
  readonly run: string;
  readonly streamKey: Uint8Array;
}

/** What comes after the handshake. */
export interface Successor {
  onText(text: string): void;
  onEnd(how: "closed" | "reset" | "aborted"): void;
}

export interface GreetingOptions {
  readonly stream: ByteStream;
  readonly self: Self;
  readonly key: Uint8Array;
  readonly world: Pick<World, "crypto" | "random" | "timers">;
  readonly limitMs: Ms;
  readonly onDone: (greeted: Greeted) => Successor | undefined;
  readonly onFail: (because: string) => void;
}

/** Of the side that opened the connection. */
export function greet(options: GreetingOptions, to: PeerId): void {
  const { stream, self, key, world } = options;
  const greeting = hello(self, to, world.random.hex(NONCE_BYTES));
  converse(options, (line) => {
    const { challenge: theirs, proof, streamKey } = answer(line, { hello: greeting, key, crypto: world.crypto });
    stream.write(`${JSON.stringify({ proof })}\n`);
    return { stream, side: "opener", peer: theirs.id, run: theirs.run, streamKey };
  });
  stream.write(`${JSON.stringify(greeting)}\n`);
}

/** Of the side that was called. */
export function beGreeted(options: GreetingOptions): void {
  const { stream, self, key, world } = options;
  let known: { readonly hello: Hello; readonly challenge: Challenge } | undefined;
  converse(options, (line) => {
    if (known) {
      const streamKey = accept(line, { ...known, key, crypto: world.crypto });
      return { stream, side: "other", peer: known.hello.id, run: known.hello.run, streamKey };
    }
    known = challenge(line, { self, key, nonce: world.random.hex(NONCE_BYTES), crypto: world.crypto });
    stream.write(`${JSON.stringify(known.challenge)}\n`);
    return undefined;
  });
}

/** Line by line until one completes the handshake. */
function converse(options: GreetingOptions, onLine: (line: string) => Greeted | undefined): void {
  const { stream, world, limitMs, onDone, onFail } = options;
  const lines = new Lines();
  let successor: Successor | undefined;
  let over = false;
  const fail = (because: string): void => {
    over = true;
    cancel();
    stream.abort();
    onFail(because);
  };
  const cancel = world.timers.after(limitMs, () => fail("the handshake took too long"));
  const take = (text: string): void => {
    const whole = lines.take(text);
    if (!whole) return fail("it sent too much before it had proved itself");
    for (const [i, line] of whole.entries()) {
      const greeted = onLine(line);
      if (!greeted) continue;
      cancel();
      over = true;
      successor = onDone(greeted);
      const rest = [...whole.slice(i + 1), lines.rest].join("\n");
      if (rest !== "") successor?.onText(rest);
      return;
    }
  };
  stream.listen({
    onText(text) {
      if (successor) return successor.onText(text);
      if (over) return;
      try {
        take(text);
      } catch (error) {
        if (!(error instanceof HandshakeError)) throw error;
        fail(error.message);
      }
    },
    onEnd(how) {
      if (successor) return successor.onEnd(how);
      if (!over) fail(`the connection was ${how} before the handshake was complete`);
    },
  });
}
