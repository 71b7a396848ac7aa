// The shard's replication password as the sitter keeps it: a file of one line.

import { ManateeError } from "../base/errors.ts";
import type { Files } from "../world/port.ts";

/** undefined: it is not there yet, or holds nothing. */
export async function readSecret(files: Files, path: string): Promise<string | undefined> {
  const line = (await files.read(path))?.split("\n")[0]?.trim();
  return line === "" ? undefined : line;
}

/** Read each time that it is asked for: the file is made at bootstrap, perhaps after whoever asks has started. Rejects: `PEER_NO_SECRET`, `FILE_UNREADABLE`. */
export function secretIn(files: Files, path: string | undefined): () => Promise<string> {
  return async () => {
    const secret = path === undefined ? undefined : await readSecret(files, path);
    if (secret !== undefined) return secret;
    throw new ManateeError({
      code: "PEER_NO_SECRET",
      message:
        path === undefined ? "no replication password is configured" : `there is no replication password in ${path}`,
      remedy: "operator",
      hint: "Name the file that the sitter's postgres.replicationPasswordFile names; it is made when the shard is founded, and must have the same content on all peers.",
    });
  };
}
