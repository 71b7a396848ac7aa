// The files of the streams' TLS, read once.

import { readFileSync } from "node:fs";
import { ManateeError } from "../base/errors.ts";
import type { SitterConfig } from "../config/types.ts";
import type { PeerTls } from "../world/real/streams.ts";

/** @throws `PEER_TLS_FILES` */
export function peerTls({ peers }: SitterConfig): PeerTls | undefined {
  if (!peers.tls) return undefined;
  const { caFile, certFile, keyFile } = peers.tls;
  try {
    return {
      authority: readFileSync(caFile, "utf8"),
      certificate: readFileSync(certFile, "utf8"),
      key: readFileSync(keyFile, "utf8"),
    };
  } catch (cause) {
    throw new ManateeError({
      code: "PEER_TLS_FILES",
      message: `cannot read ${caFile}, ${certFile} and ${keyFile}`,
      remedy: "operator",
      hint: "Give the user that runs the sitter read access to all three, or correct peers.tls.",
      cause,
    });
  }
}
