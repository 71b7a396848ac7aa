// Where the peers' data stand: what `takeover` and `state restore` show before somebody chooses.

import { formatLineage, type Lineage, parseLineage } from "../base/lineage.ts";
import { type Lsn, parseLsn } from "../base/lsn.ts";
import { shortName } from "../cluster/state.ts";
import type { AskedPeer, Picture } from "./picture.ts";
import type { Column } from "./table.ts";

export interface Standing {
  readonly asked: AskedPeer;
  readonly role: string;
  /** Of its data directory. */
  readonly incarnation: string | undefined;
  readonly lineage: Lineage | undefined;
  readonly end: Lsn | undefined;
}

export function standings(picture: Picture, roleOf: (id: string) => string): Standing[] {
  return Object.values(picture.peers)
    .map((asked) => standingOf(asked, roleOf(asked.peer.id)))
    .sort((a, b) => compare(b, a));
}

function standingOf(asked: AskedPeer, role: string): Standing {
  const { report } = asked;
  const lineage = report?.postgres.lineage == null ? undefined : parseLineage(report.postgres.lineage);
  const end = report?.postgres.walEnd == null ? undefined : parseLsn(report.postgres.walEnd);
  return { asked, role, incarnation: report?.incarnation ?? undefined, lineage, end };
}

/** The newer timeline first, then the farther end: a later timeline was begun by somebody who had what counted then (I2). */
function compare(a: Standing, b: Standing): number {
  const timelines = (a.lineage?.timeline ?? 0) - (b.lineage?.timeline ?? 0);
  if (timelines !== 0) return timelines;
  const [x, y] = [a.end ?? -1n, b.end ?? -1n];
  return x === y ? 0 : x > y ? 1 : -1;
}

export const STANDING_COLUMNS: readonly Column<Standing>[] = [
  { name: "role", label: "ROLE", width: 8, value: ({ role }) => role },
  { name: "peerabbr", label: "PEER", width: 8, value: ({ asked }) => shortName(asked.peer) },
  { name: "sitter", label: "SITTER", width: 8, value: ({ asked }) => asked.sitter },
  {
    name: "postgres",
    label: "POSTGRES",
    width: 12,
    value: ({ asked }) =>
      asked.report?.postgres.state ?? (asked.postgresPort === undefined ? "-" : `port ${asked.postgresPort}`),
  },
  { name: "incarnation", label: "INCARNATION", width: 20, value: ({ incarnation }) => incarnation ?? "-" },
  { name: "position", label: "POSITION", width: 12, value: ({ asked }) => asked.report?.postgres.walEnd ?? "-" },
  {
    name: "lineage",
    label: "TIMELINE",
    width: 8,
    value: ({ lineage }) => (lineage === undefined ? "-" : formatLineage(lineage)),
  },
];
