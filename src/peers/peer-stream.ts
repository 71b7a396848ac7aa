// One stream to one peer, from the moment that both have proved themselves: what this sitter says goes out at once when it is new, and beats in between say that it
// stands; what the peer says comes in. A word counts as heard only if it shows that the peer hears us too: a link that is cut one way is silent for both.

import type { Ms } from "../base/units.ts";
import type { ByteStream, Clock, Crypto, StreamEnd } from "../world/port.ts";
import { Seal, type Side } from "./handshake.ts";
import type { SilenceLimit } from "./silence.ts";
import { type Lines, parseBeat, type Statement } from "./wire.ts";

/** Beats whose times are kept, for the round trip: beyond it the peer has been silent for very long. */
const SENT_MAX = 1_000;

export interface PeerStreamOptions {
  readonly stream: ByteStream;
  readonly side: Side;
  readonly streamKey: Uint8Array;
  readonly limit: SilenceLimit;
  readonly clock: Clock;
  readonly crypto: Crypto;
  /** The peer has said something, and hears us. */
  readonly onStatement: (statement: Statement | undefined) => void;
  /** `because`: what was wrong with what it sent. */
  readonly onEnd: (end: { readonly how: StreamEnd | "malformed"; readonly because: string }) => void;
}

export class PeerStream {
  readonly #options: PeerStreamOptions;
  readonly #mine: Seal;
  readonly #theirs: Seal;
  readonly #sentAt = new Map<number, Ms>();
  #sent = 0;
  #received = 0;
  /** Of our beats, the newest that the peer has had. */
  #acknowledged = 0;
  #heardAt: Ms;
  /** What this side said last, as it was sent; and what the peer did. */
  #said: string | undefined;
  #theySay: Statement | undefined;
  #ended = false;

  constructor(options: PeerStreamOptions) {
    const { side, streamKey, crypto, clock } = options;
    this.#options = options;
    this.#mine = new Seal(streamKey, side, crypto);
    this.#theirs = new Seal(streamKey, side === "opener" ? "other" : "opener", crypto);
    this.#heardAt = clock.now();
  }

  /** When the peer was last known to be there and to hear us. */
  get heardAt(): Ms {
    return this.#heardAt;
  }

  say(statement: Statement): void {
    if (this.#ended) return;
    this.#sentAt.set(++this.#sent, this.#options.clock.now());
    this.#sentAt.delete(this.#sent - SENT_MAX);
    const said = JSON.stringify(statement);
    // Nothing is lost on a connection that stands: what was said before is not said again.
    const says = said === this.#said ? undefined : statement;
    this.#said = said;
    const text = JSON.stringify({ beat: this.#sent, heard: this.#received, says });
    this.#options.stream.write(`${this.#mine.close(text)}\n`);
  }

  /** What the connection brings; `lines` may hold the begin of one. */
  take(text: string, lines: Lines): void {
    const whole = lines.take(text);
    if (!whole) return this.#fail("a message is longer than it may be");
    for (const line of whole) if (!this.#ended) this.#takeLine(line);
  }

  /** This process stood still: silence counts from now. */
  startOver(): void {
    this.#heardAt = this.#options.clock.now();
  }

  connectionEnded(how: StreamEnd): void {
    this.#end({ how, because: how === "reset" ? "its machine reset the connection" : `the connection was ${how}` });
  }

  close(): void {
    this.#ended = true;
    this.#options.stream.close();
  }

  abort(): void {
    this.#ended = true;
    this.#options.stream.abort();
  }

  #takeLine(line: string): void {
    const text = this.#theirs.open(line);
    if (text === undefined) return this.#fail("a message is not sealed by the peer, or not the next one");
    const beat = parseBeat(text);
    if (!beat || beat.beat !== this.#received + 1 || beat.heard > this.#sent || beat.heard < this.#acknowledged)
      return this.#fail("a message makes no sense");
    this.#received = beat.beat;
    if (beat.heard > this.#acknowledged) this.#hear(beat.heard);
    this.#theySay = beat.says ?? this.#theySay;
    this.#options.onStatement(this.#theySay);
  }

  #hear(acknowledged: number): void {
    const now = this.#options.clock.now();
    const sentAt = this.#sentAt.get(acknowledged);
    for (let n = this.#acknowledged + 1; n <= acknowledged; n++) this.#sentAt.delete(n);
    this.#options.limit.heard(now - this.#heardAt, sentAt === undefined ? 0 : now - sentAt);
    this.#acknowledged = acknowledged;
    this.#heardAt = now;
  }

  #fail(because: string): void {
    this.#options.stream.abort();
    this.#end({ how: "malformed", because });
  }

  #end(end: { how: StreamEnd | "malformed"; because: string }): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#options.onEnd(end);
  }
}
