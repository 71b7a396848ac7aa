// The rows and columns of `snapshots`.

import { formatDuration } from "../base/duration.ts";
import { formatLsn } from "../base/lsn.ts";
import { isoTime } from "../base/text.ts";
import type { SnapshotEntry } from "../backup/wire.ts";
import { type PeerAddress, type Role, shortName } from "../cluster/state.ts";
import { decodeFacts, refusalOf, verdictOf } from "../snapshots/facts.ts";
import type { Column } from "./table.ts";

export interface SnapshotRow {
  readonly peer: PeerAddress;
  readonly role: Role;
  readonly snapshot: SnapshotEntry;
  /** When the table is printed. */
  readonly wallMs: number;
}

export const SNAPSHOT_COLUMNS: readonly Column<SnapshotRow>[] = [
  { name: "peername", label: "PEERNAME", width: 36, value: ({ peer }) => peer.zoneId },
  { name: "peerabbr", label: "PEER", width: 8, value: ({ peer }) => shortName(peer) },
  { name: "role", label: "ROLE", width: 8, value: ({ role }) => role },
  { name: "name", label: "SNAPSHOT", width: 22, value: ({ snapshot }) => snapshot.name },
  { name: "taken", label: "TAKEN", width: 24, value: ({ snapshot }) => isoTime(snapshot.createdWallMs) },
  { name: "age", label: "AGE", width: 6, align: "right", value: ageOf },
  { name: "timeline", label: "TL", width: 3, align: "right", value: (row) => String(factsOf(row)?.timeline ?? "-") },
  { name: "lsn", label: "LSN", width: 12, value: lsnOf },
  { name: "own", label: "OWN", width: 8, align: "right", value: ({ snapshot }) => size(snapshot.ownBytes) },
  {
    name: "referenced",
    label: "SIZE",
    width: 8,
    align: "right",
    value: ({ snapshot }) => size(snapshot.referencedBytes),
  },
  { name: "verified", label: "VERIFIED", width: 8, value: verifiedOf },
  {
    name: "checked",
    label: "CHECKED",
    width: 24,
    value: ({ snapshot }) => verdictOf(snapshot.properties)?.text ?? refusalOf(snapshot.properties) ?? "-",
  },
  { name: "held", label: "HELD", width: 14, value: ({ snapshot }) => snapshot.holds.join(",") || "-" },
  { name: "why", label: "WHY", width: 8, value: (row) => factsOf(row)?.why ?? "-" },
];
export const SNAPSHOT_DEFAULT: readonly string[] = [
  "peerabbr",
  "role",
  "name",
  "age",
  "timeline",
  "lsn",
  "own",
  "referenced",
  "verified",
  "held",
  "why",
];

function factsOf({ snapshot }: SnapshotRow) {
  return decodeFacts(snapshot.properties);
}

function lsnOf(row: SnapshotRow): string {
  const facts = factsOf(row);
  return facts === undefined ? "-" : formatLsn(facts.lsn);
}

function verifiedOf({ snapshot }: SnapshotRow): string {
  const verdict = verdictOf(snapshot.properties);
  return verdict === undefined ? "-" : verdict.passed ? "passed" : "FAILED";
}

function ageOf({ snapshot, wallMs }: SnapshotRow): string {
  return formatDuration(wallMs - snapshot.createdWallMs);
}

/** `1.2G` */
export function size(bytes: number | null): string {
  if (bytes === null) return "-";
  const units = ["B", "K", "M", "G", "T", "P"];
  const at = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  const value = bytes / 1024 ** at;
  return `${at === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)}${units[at]}`;
}
