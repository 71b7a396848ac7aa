// Password files: mode 0600, one line. Made at bootstrap; brought from another peer everywhere else.

import { stat } from "node:fs/promises";
import { dirname } from "node:path";
import { ManateeError } from "../../base/errors.ts";
import type { Random } from "../../world/port.ts";
import { isMissing, makePrivateFolder, readIfThere, writeDurably, writeIfDifferent } from "./durable.ts";
import type { Places } from "./places.ts";

/** 24 bytes: beyond guessing, and short enough to be read out. */
const PASSWORD_BYTES = 24;

/** Makes one where there is no such file. Errors: `PG_PASSWORD_FILE`. */
export async function makePassword(path: string, random: Random): Promise<void> {
  if ((await readPassword(path)) !== undefined) return;
  await makePrivateFolder(dirname(path));
  await writeDurably(path, `${random.hex(PASSWORD_BYTES)}\n`);
}

/** undefined: no such file. Errors: `PG_PASSWORD_FILE` where others may read it, or it is empty. */
async function readPassword(path: string): Promise<string | undefined> {
  try {
    const { mode } = await stat(path);
    if ((mode & 0o077) !== 0)
      throw passwordFileError(path, `has mode ${(mode & 0o777).toString(8)}`, `Run chmod 600 ${path}.`);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
  const password = (await readIfThere(path))?.split("\n")[0]?.trim();
  if (password === undefined || password === "")
    throw passwordFileError(path, "holds no password", `Bring ${path} from another peer of this shard.`);
  return password;
}

/** Errors: `PG_REPLICATION_PASSWORD_MISSING`; `from`: the peer that has it. */
export async function demandReplicationPassword(path: string, from: string): Promise<string> {
  const password = await readPassword(path);
  if (password !== undefined) return password;
  throw new ManateeError({
    code: "PG_REPLICATION_PASSWORD_MISSING",
    message: `the replication password file ${path} is missing, which is needed to receive from ${from}`,
    remedy: "operator",
    hint: `Copy the file ${path} (as configured there) from peer ${from} to this one, owned by the sitter's user, mode 600.`,
  });
}

/** libpq's password file for our connections to other peers. */
export async function writePassFile(
  places: Places,
  { user, password }: { user: string; password: string },
): Promise<void> {
  const escape = (text: string) => text.replaceAll("\\", "\\\\").replaceAll(":", "\\:");
  await writeIfDifferent(places.passFile, `*:*:*:${escape(user)}:${escape(password)}\n`);
}

function passwordFileError(path: string, what: string, hint: string): ManateeError {
  return new ManateeError({
    code: "PG_PASSWORD_FILE",
    message: `the password file ${path} ${what}`,
    remedy: "operator",
    hint,
  });
}
