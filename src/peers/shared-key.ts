// The key that the peers of a shard share, made from what each of them has anyway: the replication password. The password itself never travels.

import type { Crypto } from "../world/port.ts";

export function sharedKey(secret: string, crypto: Crypto): Uint8Array {
  return crypto.hmac(utf8(secret), "manatee peers 1");
}

export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** Of each message on a stream: a table costs a tenth of asking for every byte's digits. */
export function toHex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += HEX[byte];
  return text;
}
