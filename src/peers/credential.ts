// How one peer proves to another that it belongs to the shard, over connections that others may read: by an HMAC of the request under a key that is
// derived from the shard's replication password, which every peer has. The password itself never travels, and an overheard proof serves no second time.

import { ManateeError } from "../base/errors.ts";
import type { Ms } from "../base/units.ts";
import type { Clock, Crypto, Random } from "../world/port.ts";
import { sharedKey, toHex, utf8 } from "./shared-key.ts";

/** In the header `authorization`. */
const SCHEME = "Manatee-HMAC-SHA256";
/** Machines that keep time by NTP are within a second; a minute leaves room for one that lost its way. */
export const CLOCK_SKEW_MAX_MS: Ms = 60_000;
const NONCE_BYTES = 16;
/** Only members of the shard can fill it, with this many requests within two minutes. */
const NONCES_MAX = 100_000;

export interface PeerRequest {
  readonly method: string;
  /** With the query. */
  readonly path: string;
  /** Empty where there is none. */
  readonly body: string;
}

export interface SignedRequest {
  /** The value of the header `authorization`. */
  readonly authorization: string;
  /** The key of this one request (32 bytes), known to both sides: the answer can be authenticated with it. */
  readonly answerKey: Uint8Array;
}

export interface CredentialOptions {
  /** The shard's replication password. Asked each time: it is made at bootstrap. Rejects where there is none. */
  readonly secret: () => Promise<string>;
  readonly crypto: Crypto;
  readonly clock: Clock;
}

/** For those who ask. */
export interface PeerCredential {
  sign(request: PeerRequest): Promise<SignedRequest>;
}

export function peerCredential(options: CredentialOptions & { readonly random: Random }): PeerCredential {
  const { secret, crypto, clock, random } = options;
  return {
    async sign(request) {
      const key = sharedKey(await secret(), crypto);
      const wallMs = Math.round(clock.wall());
      const nonce = random.hex(NONCE_BYTES);
      const proof = toHex(crypto.hmac(key, signedText(request, { wallMs, nonce })));
      return {
        authorization: `${SCHEME} time=${wallMs}, nonce=${nonce}, proof=${proof}`,
        answerKey: answerKey(key, nonce, crypto),
      };
    },
  };
}

/** For those who are asked. */
export interface PeerCheck {
  /**
   * The key with which the answer can be authenticated. @throws `PEER_CREDENTIAL_MISSING`, `PEER_CREDENTIAL_WRONG`, `PEER_CLOCK_SKEW`, `PEER_REQUEST_REPEATED`,
   * and what `secret` throws
   */
  check(request: PeerRequest, authorization: string | undefined): Promise<Uint8Array>;
}

export function peerCheck({ secret, crypto, clock }: CredentialOptions): PeerCheck {
  const used = new Map<string, Ms>();
  return {
    async check(request, authorization) {
      const given = parse(authorization);
      if (!given) throw missing();
      const key = sharedKey(await secret(), crypto);
      const proof = toHex(crypto.hmac(key, signedText(request, given)));
      if (!crypto.equal(utf8(proof), utf8(given.proof))) throw wrong();
      // After the proof: what the clock says is told to members only, and their nonces alone are remembered.
      const now = clock.wall();
      const aheadMs = given.wallMs - now;
      if (Math.abs(aheadMs) > CLOCK_SKEW_MAX_MS) throw skewed(aheadMs);
      forgetBefore(used, now - 2 * CLOCK_SKEW_MAX_MS);
      if (used.has(given.nonce) || used.size >= NONCES_MAX) throw repeated();
      used.set(given.nonce, now);
      return answerKey(key, given.nonce, crypto);
    },
  };
}

/** In the order in which they came, which is that of their times. */
function forgetBefore(used: Map<string, Ms>, limit: Ms): void {
  for (const [nonce, seen] of used) {
    if (seen >= limit) return;
    used.delete(nonce);
  }
}

function answerKey(key: Uint8Array, nonce: string, crypto: Crypto): Uint8Array {
  return crypto.hmac(key, `answer\n${nonce}`);
}

function signedText(
  { method, path, body }: PeerRequest,
  { wallMs, nonce }: { readonly wallMs: number; readonly nonce: string },
): string {
  return `request\n${method}\n${path}\n${wallMs}\n${nonce}\n${body}`;
}

function parse(authorization: string | undefined) {
  const match = /^Manatee-HMAC-SHA256 time=(\d{1,15}), nonce=([0-9a-f]{32}), proof=([0-9a-f]{64})$/.exec(
    authorization ?? "",
  );
  return match && { wallMs: Number(match[1]), nonce: match[2] as string, proof: match[3] as string };
}

function missing(): ManateeError {
  return new ManateeError({
    code: "PEER_CREDENTIAL_MISSING",
    message: "the request carries no proof that it comes from a peer of this shard",
    remedy: "operator",
    hint: "Ask from a peer of the shard, with manatee-adm; the proof is made from the replication password.",
  });
}

function wrong(): ManateeError {
  return new ManateeError({
    code: "PEER_CREDENTIAL_WRONG",
    message: "the request's proof was not made with this shard's replication password",
    remedy: "operator",
    hint: "Compare the replication password files of the two peers: the same shard has the same content everywhere.",
  });
}

function skewed(aheadMs: Ms): ManateeError {
  const seconds = Math.round(Math.abs(aheadMs) / 1000);
  return new ManateeError({
    code: "PEER_CLOCK_SKEW",
    message: `the clock of the peer that asks is ${seconds} s ${aheadMs > 0 ? "ahead of" : "behind"} this one's`,
    remedy: "operator",
    hint: `Set the clocks of both machines (NTP); they may differ by ${CLOCK_SKEW_MAX_MS / 1000} s at most.`,
  });
}

function repeated(): ManateeError {
  return new ManateeError({
    code: "PEER_REQUEST_REPEATED",
    message: "a request with this proof was answered before",
    remedy: "retry",
    hint: "Sign each request anew; if nobody repeats requests, see who listens on the network between the peers.",
  });
}
