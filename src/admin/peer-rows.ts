// The rows and columns of `peers` and `pg-status`: names, labels and widths are the original's.

import { downstreamOf, rowOf } from "../cluster/health-peer.ts";
import { membersOf, type PeerEntry, type Role, roleOf, type ShardState, shortName } from "../cluster/state.ts";
import { formatTags } from "../cluster/tags.ts";
import type { AskedPeer, Picture } from "./picture.ts";
import type { Column } from "./table.ts";
import { WrongUse } from "./wrong-use.ts";

export interface PeerRow {
  readonly peer: PeerEntry;
  readonly role: Role;
}

export interface StatusRow extends PeerRow {
  readonly asked: AskedPeer | undefined;
  /** The row of pg_stat_replication for the next peer in the chain. */
  readonly replication: Readonly<Record<string, string | null>> | undefined;
  /** As its sitter announces them, in words. */
  readonly tags: string;
}

const ROLES: readonly Role[] = ["primary", "sync", "async", "deposed"];

export const PEER_COLUMNS: readonly Column<PeerRow>[] = [
  { name: "peername", label: "PEERNAME", width: 36, value: ({ peer }) => peer.zoneId },
  { name: "peerabbr", label: "PEER", width: 8, value: ({ peer }) => shortName(peer) },
  { name: "role", label: "ROLE", width: 8, value: ({ role }) => role },
  { name: "ip", label: "IP", width: 15, value: ({ peer }) => peer.ip },
];
export const PEERS_DEFAULT: readonly string[] = ["role", "peername", "ip"];

const location = (name: string) => (row: StatusRow) => row.replication?.[`${name}_location`] ?? "-";

export const STATUS_COLUMNS: readonly Column<StatusRow>[] = [
  ...PEER_COLUMNS,
  { name: "zonename", label: "ZONENAME", width: 36, value: ({ peer }) => peer.zoneId },
  { name: "zoneabbr", label: "ZONE", width: 8, value: ({ peer }) => shortName(peer) },
  {
    name: "pg-online",
    label: "PG",
    width: 4,
    value: ({ asked }) => (asked?.report?.postgres.healthy === true ? "ok" : "fail"),
  },
  { name: "pg-repl", label: "REPL", width: 5, value: ({ replication }) => replication?.["sync_state"] ?? "-" },
  { name: "pg-sent", label: "SENT", width: 10, value: location("sent") },
  { name: "pg-write", label: "WRITE", width: 10, value: location("write") },
  { name: "pg-flush", label: "FLUSH", width: 10, value: location("flush") },
  { name: "pg-replay", label: "REPLAY", width: 10, value: location("replay") },
  { name: "pg-lag", label: "LAG", width: 6, value: lagOf },
  { name: "tags", label: "TAGS", width: 10, value: ({ tags }) => tags || "-" },
];
export const STATUS_DEFAULT: readonly string[] = [
  "role",
  "peerabbr",
  "pg-online",
  "pg-repl",
  "pg-sent",
  "pg-flush",
  "pg-replay",
  "pg-lag",
];
export const STATUS_WIDE: readonly string[] = STATUS_DEFAULT.map((name) => (name === "peerabbr" ? "peername" : name));

export function peerRows(state: ShardState, role: string | undefined): PeerRow[] {
  if (role !== undefined && !ROLES.some((known) => known === role))
    throw new WrongUse(`option --role takes one of ${ROLES.join(", ")}, not "${role}"`);
  return membersOf(state)
    .map((peer) => ({ peer, role: roleOf(state, peer.id) }))
    .filter((row) => role === undefined || row.role === role);
}

export function statusRows(
  state: ShardState,
  { peers, election }: Pick<Picture, "peers" | "election">,
  role: string | undefined,
): StatusRow[] {
  return peerRows(state, role).map((row) => {
    const asked = peers[row.peer.id];
    const downstream = downstreamOf(state, row.peer);
    const replication =
      asked?.report !== undefined && downstream !== undefined ? rowOf(asked.report, downstream) : undefined;
    const announced = election.find(({ peer }) => peer.id === row.peer.id)?.announcement;
    return { ...row, asked, replication, tags: formatTags(announced?.tags) };
  });
}

/** Of asyncs, as in the original: how long ago what they replay was committed. */
function lagOf({ asked, role }: StatusRow): string {
  const seconds = asked?.report?.postgres.lagSeconds;
  return role !== "async" || seconds === undefined || seconds === null ? "-" : formatLag(seconds);
}

/** `0m33s` */
export function formatLag(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}m${String(whole % 60).padStart(2, "0")}s`;
}
