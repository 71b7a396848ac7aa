// The folder of the embedded store: what lies in it is the right to the store, so it is its owner's alone; and how its socket is
// named where the folder's path is longer than a socket's may be.

import { chmodSync, closeSync, mkdirSync, openSync, readdirSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { ManateeError } from "../../base/errors.ts";

/** sun_path of unix(7) holds 108 bytes with the final zero; 104 on other systems. */
const SOCKET_PATH_BYTES_MAX = process.platform === "linux" ? 107 : 103;

/** Makes it where it is missing. Returns its absolute path. Throws STORE_DIRECTORY. */
export function prepareDirectory(directory: string): string {
  const path = resolve(directory);
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    const { uid, mode } = statSync(path);
    const own = process.getuid?.() ?? uid;
    if (uid !== own) throw refused(path, `it belongs to the user ${uid}, and this process runs as ${own}`);
    if ((mode & 0o077) !== 0) {
      if (readdirSync(path).length > 0) throw refused(path, "others than its owner may enter it");
      chmodSync(path, 0o700);
    }
  } catch (error) {
    if (error instanceof ManateeError) throw error;
    throw refused(path, "it can't be made or looked at", error);
  }
  return path;
}

export interface SocketAddress {
  readonly path: string;
  /** Once it is no longer used to listen or to connect. */
  release(): void;
}

/** Linux takes the way through an open folder, however long that folder's own path is. */
export function socketAddress(directory: string): SocketAddress {
  const path = join(directory, "socket");
  if (Buffer.byteLength(path) <= SOCKET_PATH_BYTES_MAX) return { path, release: () => {} };
  if (process.platform !== "linux")
    throw refused(directory, `its path is longer than ${SOCKET_PATH_BYTES_MAX - 7} bytes`);
  const folder = openSync(directory, "r");
  return { path: `/proc/self/fd/${folder}/socket`, release: () => closeSync(folder) };
}

function refused(path: string, why: string, cause?: unknown): ManateeError {
  return new ManateeError({
    code: "STORE_DIRECTORY",
    message: `the embedded store can't use the folder ${path}: ${why}`,
    remedy: "operator",
    hint: "Run tools as the user of the sitter (sudo -u postgres …). For a sitter, configure a folder that its user owns, with mode 0700, or one that can be made.",
    cause,
  });
}
