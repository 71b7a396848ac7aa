// The cryptography of Node (OpenSSL): to prove who asks, and that what arrives is what was sent.

import { createCipheriv, createHmac, timingSafeEqual } from "node:crypto";
import type { Crypto } from "../port.ts";

const NONCE_BYTES = 12;

export const realCrypto: Crypto = {
  hmac: (key, text) => createHmac("sha256", key).update(text).digest(),
  tag(key, number, parts) {
    const nonce = Buffer.alloc(NONCE_BYTES);
    nonce.writeBigUInt64BE(BigInt(number), NONCE_BYTES - 8);
    const cipher = createCipheriv("aes-256-gcm", key, nonce);
    for (const part of parts) cipher.setAAD(part);
    cipher.final();
    return cipher.getAuthTag();
  },
  equal: (a, b) => a.length === b.length && timingSafeEqual(a, b),
};
