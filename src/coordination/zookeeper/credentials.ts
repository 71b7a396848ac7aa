// Who we are to the store, and who may touch the nodes we make.

import { createHash } from "node:crypto";
import type { Authenticator } from "./connection.ts";
import type { ServerAddress } from "./connect-string.ts";
import { credentialsMalformed } from "./errors.ts";
import type { Acl } from "./messages.ts";

export interface Credentials {
  /** Said on each connection, before anything else. */
  readonly digest: { readonly scheme: string; readonly credential: Uint8Array } | undefined;
  /** A new exchange with that server. */
  readonly sasl: ((server: ServerAddress) => Authenticator) | undefined;
  /** Of each node that is made. */
  readonly acl: readonly Acl[];
}

const ALL_RIGHTS = 31;

/** Throws `STORE_CREDENTIALS` where the digest is not `user:password`. */
export function credentialsOf({
  digest,
  sasl,
}: {
  digest: string | undefined;
  sasl: Credentials["sasl"];
}): Credentials {
  if (digest === undefined)
    return { digest: undefined, sasl, acl: [{ permissions: ALL_RIGHTS, scheme: "world", id: "anyone" }] };
  const { user } = splitUserAndPassword(digest);
  const hash = createHash("sha1").update(digest, "utf8").digest("base64");
  return {
    digest: { scheme: "digest", credential: new TextEncoder().encode(digest) },
    sasl,
    acl: [{ permissions: ALL_RIGHTS, scheme: "digest", id: `${user}:${hash}` }],
  };
}

/** Throws `STORE_CREDENTIALS`, without the password in the message. */
export function splitUserAndPassword(text: string): { user: string; password: string } {
  const colon = text.indexOf(":");
  if (colon === -1) throw credentialsMalformed("there is no colon");
  if (colon === 0) throw credentialsMalformed("the user is empty");
  return { user: text.slice(0, colon), password: text.slice(colon + 1) };
}
