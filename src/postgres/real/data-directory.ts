// What lies in the data directory, without a server.

import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { ManateeError } from "../../base/errors.ts";
import type { DataMark, DataObservation } from "../../cluster/observation.ts";
import { type ControlFile, readControlFile } from "./control-file.ts";
import { errorCode, isMissing, readIfThere } from "./durable.ts";
import { MARK_FILE, MarkFile } from "./mark.ts";
import type { Places } from "./places.ts";
import { readLineage } from "./timeline-history.ts";

/** `major`: of the binaries in use; undefined: not known yet. Rejects only where the disk itself fails. */
export async function observeData(places: Places, major: number | undefined): Promise<DataObservation> {
  if (await isLeftByInitdb(places)) return { kind: "none" };
  // What a roll-back that was cut short has moved aside is no empty directory.
  const protectedMark = await readIfThere(places.protectedMark);
  let names: string[];
  try {
    names = await readdir(places.dataDir);
  } catch (error) {
    if (isMissing(error))
      return protectedMark === undefined ? { kind: "none" } : incomplete(await new MarkFile(places).read());
    if (!isForbidden(error)) throw error;
    return unusable(
      "PG_DATA_UNREADABLE",
      `the data directory ${places.dataDir} can't be read (${error instanceof Error ? error.message : String(error)})`,
      `Give ${places.dataDir} to the user that the sitter runs as.`,
      undefined,
    );
  }
  if (names.length === 0 && protectedMark === undefined) return { kind: "none" };
  const mark = await new MarkFile(places).read();
  if (mark === "malformed")
    return unusable(
      "PG_MARK_MALFORMED",
      `the mark ${join(places.dataDir, MARK_FILE)} can't be understood`,
      "Move the data directory aside and let the peer be rebuilt, unless it is the only copy: then restore that file.",
      undefined,
    );
  if (mark?.incomplete === true) return incomplete(mark);
  return (await refusal(places, names, major, mark)) ?? present(places, names, mark);
}

function isForbidden(error: unknown): boolean {
  return ["EACCES", "EPERM"].includes(errorCode(error) ?? "");
}

/** Files that initdb never makes, and every database that ran, or was copied, has one of. */
const NOT_OF_INITDB: ReadonlySet<string> = new Set([
  MARK_FILE,
  "postmaster.opts",
  "backup_label",
  "standby.signal",
  "recovery.signal",
]);

/**
 * What an initdb that was cut short has left is worth nothing. Its journal says so of the folder that it names only, and of nothing that has been put there since: that
 * may be a database which somebody has brought back.
 */
async function isLeftByInitdb({ initdbJournal, dataDir }: Places): Promise<boolean> {
  const journal = await readIfThere(initdbJournal);
  if (journal === undefined) return false;
  let names: string[];
  try {
    names = await readdir(dataDir);
  } catch (error) {
    // What can't be read may be anything.
    return isMissing(error);
  }
  if (names.length === 0) return true;
  return journal === (await folderIdentity(dataDir)) && !names.some((name) => NOT_OF_INITDB.has(name));
}

/** Of a folder, as long as it is not removed or replaced. Without the device, whose number may be another after a reboot. */
export async function folderIdentity(path: string): Promise<string> {
  return `${(await stat(path)).ino}\n`;
}

function incomplete(mark: DataMark | "malformed" | undefined): DataObservation {
  return unusable(
    "PG_DATA_INCOMPLETE",
    "a copy, a roll-back or a rewind into the data directory has not ended",
    "Wait for it, or let the peer be rebuilt.",
    mark === "malformed" ? undefined : mark,
  );
}

/** The major version in PG_VERSION; undefined: no data. */
export async function dataMajor(places: Places): Promise<number | undefined> {
  const major = Number.parseInt((await readIfThere(join(places.dataDir, "PG_VERSION"))) ?? "", 10);
  return Number.isInteger(major) ? major : undefined;
}

/** The newest timeline that the control file knows of. */
export function newestTimeline(control: ControlFile): number {
  return Math.max(control.checkpointTimeline, control.minRecoveryTimeline);
}

async function refusal(
  places: Places,
  names: readonly string[],
  major: number | undefined,
  mark: DataMark | undefined,
): Promise<DataObservation | undefined> {
  const { uid, mode } = await stat(places.dataDir);
  const self = process.geteuid?.();
  if (uid !== self)
    return unusable(
      "PG_DATA_OWNER",
      `the data directory ${places.dataDir} belongs to user ${uid}, and the sitter runs as ${self}`,
      `Run chown -R for ${places.dataDir}, or run the sitter as its owner.`,
      mark,
    );
  if ((mode & 0o027) !== 0)
    return unusable(
      "PG_DATA_MODE",
      `the data directory ${places.dataDir} has mode ${(mode & 0o777).toString(8)}, and PostgreSQL accepts 700 or 750`,
      `Run chmod 700 ${places.dataDir}.`,
      mark,
    );
  if (!names.includes("PG_VERSION") || !names.includes("global"))
    return unusable(
      "PG_DATA_NOT_POSTGRES",
      `${places.dataDir} is not empty and is no PostgreSQL data directory`,
      "Point the configuration at the data directory, or move what is in there elsewhere.",
      mark,
    );
  const version = await dataMajor(places);
  if (major !== undefined && version !== major)
    return unusable(
      "PG_DATA_VERSION",
      `the data directory is of PostgreSQL ${version}, and the programs are of ${major}`,
      `Install PostgreSQL ${version}, or upgrade the data on all peers.`,
      mark,
    );
  return undefined;
}

async function present(places: Places, names: readonly string[], mark: DataMark | undefined): Promise<DataObservation> {
  let control: ControlFile;
  try {
    control = await readControlFile(places.dataDir);
  } catch (error) {
    if (error instanceof ManateeError) return unusable(error.code, error.message, error.hint, mark);
    throw error;
  }
  return {
    kind: "present",
    mark,
    systemIdentifier: control.systemIdentifier,
    // A backup that was never started still bears the state of its source.
    controlState: names.includes("backup_label") ? "recovery" : controlState(control),
    lineage: await readLineage(places.dataDir, newestTimeline(control)),
    checkpoint: control.checkpoint,
    standbySignal: names.includes("standby.signal"),
  };
}

function controlState({ state }: ControlFile): "production" | "shutdown" | "recovery" | "other" {
  switch (state) {
    case "in production":
    case "in crash recovery":
    case "shutting down":
      return "production";
    case "shut down":
      return "shutdown";
    case "in archive recovery":
    case "shut down in recovery":
      return "recovery";
    case "starting up":
      return "other";
    default:
      return state satisfies never;
  }
}

function unusable(code: string, message: string, hint: string, mark: DataMark | undefined): DataObservation {
  return { kind: "unusable", code, message, hint, mark };
}
