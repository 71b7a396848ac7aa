// Reads global/pg_control (PostgreSQL 14 to 18, 64-bit little-endian). An own parser: pg_controldata is not in every installation.

import { open } from "node:fs/promises";
import { join } from "node:path";
import { ManateeError } from "../../base/errors.ts";
import { type Lsn, lsn, type Timeline } from "../../base/lsn.ts";
import { crc32c } from "./crc32c.ts";

export interface ControlFile {
  readonly systemIdentifier: string;
  readonly state: ControlState;
  /** Where the latest checkpoint record begins, and its timeline. */
  readonly checkpoint: Lsn;
  readonly checkpointTimeline: Timeline;
  /** From where recovery begins. */
  readonly redo: Lsn;
  /** Of a standby: how far it must replay to be consistent. Timeline 0: none. */
  readonly minRecoveryPoint: Lsn;
  readonly minRecoveryTimeline: number;
}

export type ControlState =
  | "starting up"
  | "shut down"
  | "shut down in recovery"
  | "shutting down"
  | "in crash recovery"
  | "in archive recovery"
  | "in production";

const STATES: readonly ControlState[] = [
  "starting up",
  "shut down",
  "shut down in recovery",
  "shutting down",
  "in crash recovery",
  "in archive recovery",
  "in production",
];

/** By pg_control_version (src/include/catalog/pg_control.h): where the checksum stands. All before `wal_level` lies the same in these. */
const CRC_OFFSETS: Readonly<Record<number, number>> = { 1300: 288, 1700: 288, 1800: 292 };

/** Reads and checks it. Errors: `PG_CONTROL_FILE` where it is missing, damaged, or of an unknown version. */
export async function readControlFile(dataDir: string): Promise<ControlFile> {
  const path = join(dataDir, "global", "pg_control");
  let damage = "";
  // The server replaces its one sector in place: a reader may meet half of a write, so a bad checksum is read again before it counts.
  for (let attempt = 0; attempt < 5; attempt++) {
    const parsed = parseControlFile(await readStart(path));
    if (typeof parsed !== "string") return parsed;
    damage = parsed;
  }
  throw controlFileError(path, damage);
}

/** The content, or what is wrong with it. */
export function parseControlFile(bytes: Uint8Array): ControlFile | string {
  if (bytes.length < 296) return `it has only ${bytes.length} bytes`;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint32(8, true);
  const crcOffset = CRC_OFFSETS[version];
  if (crcOffset === undefined) return `its version ${version} is not one of ${Object.keys(CRC_OFFSETS).join(", ")}`;
  if (crc32c(bytes.subarray(0, crcOffset)) !== view.getUint32(crcOffset, true)) return "its checksum is wrong";
  const state = STATES[view.getUint32(16, true)];
  if (state === undefined) return `its state ${view.getUint32(16, true)} is unknown`;
  return {
    systemIdentifier: view.getBigUint64(0, true).toString(),
    state,
    checkpoint: lsn(view.getBigUint64(32, true)),
    redo: lsn(view.getBigUint64(40, true)),
    checkpointTimeline: view.getUint32(48, true),
    minRecoveryPoint: lsn(view.getBigUint64(136, true)),
    minRecoveryTimeline: view.getUint32(144, true),
  };
}

async function readStart(path: string): Promise<Uint8Array> {
  let handle: Awaited<ReturnType<typeof open>>;
  try {
    handle = await open(path, "r");
  } catch (error) {
    throw controlFileError(path, "it can't be opened", error);
  }
  try {
    const buffer = Buffer.alloc(512);
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}

function controlFileError(path: string, damage: string, cause?: unknown): ManateeError {
  return new ManateeError({
    code: "PG_CONTROL_FILE",
    message: `the control file ${path} can't be used: ${damage}`,
    remedy: "operator",
    hint: "Move this data directory aside and let the peer be rebuilt from another one.",
    cause,
  });
}
