// How two sitters convince each other that both belong to the shard: each proves that it has the shard's key, over random numbers of both. What follows
// on the stream is sealed under a key of that stream alone, and numbered: nothing can be put in, left out or repeated unseen.
//
//   opener → other   hello      who I am, whom I want, a number
//   opener ← other   challenge  who I am, a number, proof over both
//   opener → other   answer     proof over both
//
// A proof names its side, so that none serves as the other's.

import type { PeerId } from "../base/peer-id.ts";
import type { Crypto } from "../world/port.ts";
import { toHex, utf8 } from "./shared-key.ts";
import { type Challenge, type Hello, parseAnswer, parseChallenge, parseHello, STREAM_VERSION } from "./wire.ts";

export interface Self {
  readonly shard: string;
  readonly id: PeerId;
  readonly run: string;
}

export type Side = "opener" | "other";

/** Throws with a reason for the log; nothing of it is told to the other side. */
export class HandshakeError extends Error {}

export function hello(self: Self, to: PeerId, nonce: string): Hello {
  return { version: STREAM_VERSION, ...self, to, nonce };
}

/** The answer to a hello. @throws {@link HandshakeError} */
export function challenge(
  line: string,
  { self, key, nonce, crypto }: { self: Self; key: Uint8Array; nonce: string; crypto: Crypto },
): { readonly hello: Hello; readonly challenge: Challenge } {
  const greeting = parseHello(line);
  if (!greeting) throw new HandshakeError("what came first is not a greeting");
  if (greeting.version !== STREAM_VERSION)
    throw new HandshakeError(`it speaks version ${greeting.version} of the stream, this sitter ${STREAM_VERSION}`);
  if (greeting.shard !== self.shard) throw new HandshakeError(`it belongs to the shard ${greeting.shard}`);
  if (greeting.to !== self.id) throw new HandshakeError(`it wanted to reach ${greeting.to}`);
  if (greeting.id === self.id) throw new HandshakeError("it bears this sitter's own name");
  const { id, run } = self;
  const transcript = transcriptOf(greeting, { id, run, nonce });
  return {
    hello: greeting,
    challenge: { version: STREAM_VERSION, id, run, nonce, proof: proofOf("other", transcript, key, crypto) },
  };
}

/** The opener's proof, and the key of the stream. @throws {@link HandshakeError} */
export function answer(
  line: string,
  { hello: greeting, key, crypto }: { hello: Hello; key: Uint8Array; crypto: Crypto },
): { readonly challenge: Challenge; readonly proof: string; readonly streamKey: Uint8Array } {
  const challenged = parseChallenge(line);
  if (!challenged) throw new HandshakeError("its answer to the greeting is not one");
  if (challenged.id !== greeting.to) throw new HandshakeError(`${challenged.id} answers in its place`);
  const transcript = transcriptOf(greeting, challenged);
  if (!same(proofOf("other", transcript, key, crypto), challenged.proof, crypto)) throw wrongSecret();
  return {
    challenge: challenged,
    proof: proofOf("opener", transcript, key, crypto),
    streamKey: crypto.hmac(key, `stream\n${transcript}`),
  };
}

/** The key of the stream, once the opener has proved itself. @throws {@link HandshakeError} */
export function accept(
  line: string,
  known: { hello: Hello; challenge: Challenge; key: Uint8Array; crypto: Crypto },
): Uint8Array {
  const { key, crypto } = known;
  const given = parseAnswer(line);
  if (!given) throw new HandshakeError("its proof is not one");
  const transcript = transcriptOf(known.hello, known.challenge);
  if (!same(proofOf("opener", transcript, key, crypto), given.proof, crypto)) throw wrongSecret();
  return crypto.hmac(key, `stream\n${transcript}`);
}

/** Seals the messages of one direction, or opens them, in their order. */
export class Seal {
  readonly #key: Uint8Array;
  readonly #crypto: Crypto;
  readonly #from: Side;
  #count = 0;

  constructor(key: Uint8Array, from: Side, crypto: Crypto) {
    this.#key = key;
    this.#from = from;
    this.#crypto = crypto;
  }

  close(text: string): string {
    return `${this.#next(text)} ${text}`;
  }

  /** undefined: not sealed by the other side, or not the next one. */
  open(line: string): string | undefined {
    const cut = line.indexOf(" ");
    const text = line.slice(cut + 1);
    return cut > 0 && same(this.#next(text), line.slice(0, cut), this.#crypto) ? text : undefined;
  }

  #next(text: string): string {
    return toHex(this.#crypto.hmac(this.#key, `${this.#from}\n${++this.#count}\n${text}`));
  }
}

function transcriptOf(opener: Hello, other: Pick<Challenge, "id" | "run" | "nonce">): string {
  const { shard, id, run, nonce } = opener;
  return JSON.stringify([STREAM_VERSION, shard, id, run, nonce, other.id, other.run, other.nonce]);
}

function proofOf(side: Side, transcript: string, key: Uint8Array, crypto: Crypto): string {
  return toHex(crypto.hmac(key, `${side}\n${transcript}`));
}

function same(a: string, b: string, crypto: Crypto): boolean {
  return crypto.equal(utf8(a), utf8(b));
}

function wrongSecret(): HandshakeError {
  return new HandshakeError("it does not have this shard's replication password: compare the two password files");
}
