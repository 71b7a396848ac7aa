// Who we are to the store, and who may touch the nodes we make.

import { createHash } from "node:crypto";
import type { Random } from "../../world/port.ts";
import type { Authenticator } from "./connection.ts";
import { credentialsMalformed } from "./errors.ts";
import type { Acl } from "./messages.ts";
import { digestMd5 } from "./sasl.ts";

export interface Credentials {
  /** Said on each connection, before anything else. */
  readonly digest: { readonly scheme: string; readonly credential: Uint8Array } | undefined;
  /** A new exchange, for one connection. */
  readonly sasl: (() => Authenticator) | undefined;
  /** Of each node that is made. */
  readonly acl: readonly Acl[];
}

const ALL_RIGHTS = 31;

/** Each `user:password`; throws `STORE_CREDENTIALS` where one is not. */
export function credentialsOf({
  digest,
  saslDigest,
  random,
}: {
  digest: string | undefined;
  saslDigest: string | undefined;
  random: Random;
}): Credentials {
  const acl: Acl[] = [];
  if (digest !== undefined) {
    const { user } = splitUserAndPassword(digest);
    const hash = createHash("sha1").update(digest, "utf8").digest("base64");
    acl.push({ permissions: ALL_RIGHTS, scheme: "digest", id: `${user}:${hash}` });
  }
  const account = saslDigest === undefined ? undefined : splitUserAndPassword(saslDigest);
  if (account !== undefined) acl.push({ permissions: ALL_RIGHTS, scheme: "sasl", id: account.user });
  if (acl.length === 0) acl.push({ permissions: ALL_RIGHTS, scheme: "world", id: "anyone" });
  return {
    digest: digest === undefined ? undefined : { scheme: "digest", credential: new TextEncoder().encode(digest) },
    sasl: account === undefined ? undefined : () => digestMd5({ ...account, random }),
    acl,
  };
}

/** Throws `STORE_CREDENTIALS`, without the password in the message. */
function splitUserAndPassword(text: string): { user: string; password: string } {
  const colon = text.indexOf(":");
  if (colon === -1) throw credentialsMalformed("there is no colon");
  if (colon === 0) throw credentialsMalformed("the user is empty");
  return { user: text.slice(0, colon), password: text.slice(colon + 1) };
}
