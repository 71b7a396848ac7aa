// SASL DIGEST-MD5 (RFC 2831, qop "auth"), as ZooKeeper servers with a DigestLoginModule speak it. The password is never sent, and the server has to
// prove that it knows it too. An old mechanism: over networks that others can read, use TLS as well.

import { createHash, timingSafeEqual } from "node:crypto";
import type { Random } from "../../world/port.ts";
import type { Authenticator } from "./connection.ts";

/** The name by which all ZooKeeper servers go in this mechanism, whatever their host. */
const DIGEST_URI = "zookeeper/zk-sasl-md5";
const NONCE_COUNT = "00000001";
/** RFC 2831 bounds a challenge at 2048 bytes; servers send about 100. */
const CHALLENGE_BYTES = 2048;

export function digestMd5({
  user,
  password,
  random,
}: {
  user: string;
  password: string;
  random: Random;
}): Authenticator {
  let state: "silent" | "asked" | "answered" = "silent";
  let proof = "";
  return {
    step(challenge) {
      if (state === "silent") {
        state = "asked";
        return new Uint8Array();
      }
      const fields = parseChallenge(challenge);
      if (state === "asked") {
        state = "answered";
        const answer = answerTo(fields, { user, password, cnonce: random.hex(16) });
        proof = answer.proof;
        return new TextEncoder().encode(answer.text);
      }
      const shown = Buffer.from(fields.get("rspauth") ?? "");
      const expected = Buffer.from(proof);
      if (shown.length !== expected.length || !timingSafeEqual(shown, expected))
        throw new Error("the server does not know the password");
      return undefined;
    },
  };
}

/** `proof`: what a server that knows the password says in return. */
function answerTo(
  challenge: ReadonlyMap<string, string>,
  { user, password, cnonce }: { user: string; password: string; cnonce: string },
): { text: string; proof: string } {
  const realm = challenge.get("realm") ?? "";
  const nonce = challenge.get("nonce");
  if (nonce === undefined || challenge.get("algorithm") !== "md5-sess")
    throw new Error("the challenge is not DIGEST-MD5");
  const offered = (challenge.get("qop") ?? "auth").split(",").map((one) => one.trim());
  if (!offered.includes("auth")) throw new Error(`the server offers only ${offered.join(", ")}`);

  const secret = md5([hashed(user), Buffer.from(":"), hashed(realm), Buffer.from(":"), hashed(password)]);
  const first = md5([secret, Buffer.from(`:${nonce}:${cnonce}`)]).toString("hex");
  const responseFor = (method: string): string => {
    const second = md5([Buffer.from(`${method}:${DIGEST_URI}`)]).toString("hex");
    return md5([Buffer.from(`${first}:${nonce}:${NONCE_COUNT}:${cnonce}:auth:${second}`)]).toString("hex");
  };
  const text = [
    "charset=utf-8",
    `username=${quoted(user)}`,
    `realm=${quoted(realm)}`,
    `nonce=${quoted(nonce)}`,
    `nc=${NONCE_COUNT}`,
    `cnonce=${quoted(cnonce)}`,
    `digest-uri=${quoted(DIGEST_URI)}`,
    "maxbuf=65536",
    `response=${responseFor("AUTHENTICATE")}`,
    "qop=auth",
  ].join(",");
  return { text, proof: responseFor("") };
}

/** `name=value,name="value"`. Throws where it is not that. */
function parseChallenge(challenge: Uint8Array): ReadonlyMap<string, string> {
  if (challenge.length > CHALLENGE_BYTES) throw new Error(`a challenge of ${challenge.length} bytes`);
  const text = new TextDecoder().decode(challenge);
  const fields = new Map<string, string>();
  const field = /\s*([a-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^",\s]*))\s*(?:,|$)/giy;
  while (field.lastIndex < text.length) {
    const match = field.exec(text);
    if (match === null) throw new Error("the challenge is malformed");
    const [, name = "", inQuotes, bare = ""] = match;
    // A server may offer several realms: the first is its own.
    if (!fields.has(name.toLowerCase())) fields.set(name.toLowerCase(), inQuotes?.replaceAll(/\\(.)/g, "$1") ?? bare);
  }
  return fields;
}

function quoted(text: string): string {
  return `"${text.replaceAll(/["\\]/g, String.raw`\$&`)}"`;
}

/** The hash is over ISO 8859-1 where that has all the characters, else over UTF-8: section 2.1.2.1. */
function hashed(text: string): Buffer {
  const isLatin = Array.from(text).every((character) => (character.codePointAt(0) ?? 0) < 256);
  return Buffer.from(text, isLatin ? "latin1" : "utf8");
}

function md5(parts: readonly Uint8Array[]): Buffer {
  const hash = createHash("md5");
  for (const part of parts) hash.update(part);
  return hash.digest();
}
