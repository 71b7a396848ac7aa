// Links by which a data directory leads out of itself: a snapshot of it does not show what lies there, and whoever works on a clone works on the present.

import { lstat, readdir, realpath, stat } from "node:fs/promises";
import { join, sep } from "node:path";
import { ManateeError } from "../../base/errors.ts";
import { isMissing } from "./durable.ts";

/** The first of them (`pg_wal`, `pg_tblspc/16385`), also where it leads to nothing. Files that an operator edits may lie elsewhere. */
export async function linksOutside(dataDir: string): Promise<string | undefined> {
  const inside = (await realpath(dataDir)) + sep;
  const tablespaces = await readdir(join(dataDir, "pg_tblspc")).catch((error: unknown) => {
    if (isMissing(error)) return [];
    throw error;
  });
  for (const name of [...(await readdir(dataDir)), ...tablespaces.map((each) => `pg_tblspc/${each}`)]) {
    const path = join(dataDir, name);
    if (!(await lstat(path)).isSymbolicLink()) continue;
    const target = await realpath(path).catch(() => undefined);
    if (target?.startsWith(inside)) continue;
    const isFile = target === undefined ? name.endsWith(".conf") : (await stat(target)).isFile();
    if (!isFile) return name;
  }
  return undefined;
}

/** Of a snapshot: a server on a clone would write there, into what the peer's own works with. */
export function snapshotLeadsOut(name: string): ManateeError {
  return new ManateeError({
    code: "SNAPSHOT_LEADS_OUT",
    message: `${name} leads out of the snapshot, to what it does not hold`,
    remedy: "operator",
    hint: `Move what ${name} leads to into the data directory, or set verification.enabled to false: without it such a snapshot can't be restored or cloned.`,
  });
}
