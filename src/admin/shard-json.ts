// A shard as JSON, as the original's `manatee-adm status` and `manatee-stat` print it: peers by role, with what PostgreSQL says of the next one.

import type { PeerEntry, Role, ShardState } from "../cluster/state.ts";
import { statusRows, type StatusRow } from "./peer-rows.ts";
import type { AskedPeer, Picture } from "./picture.ts";

export interface PeerJson {
  readonly [key: string]: unknown;
}

/** `primary`, `sync`, `async`, `async1` … `deposed`, `deposed1` … */
export function peersByRole(state: ShardState, picture: Pick<Picture, "peers" | "election">): Record<string, PeerJson> {
  const seen = new Map<Role, number>();
  return Object.fromEntries(
    statusRows(state, picture, undefined).map((row) => {
      const before = seen.get(row.role) ?? 0;
      seen.set(row.role, before + 1);
      return [`${row.role}${before === 0 ? "" : before}`, peerJson(row)];
    }),
  );
}

function peerJson({ peer, role, asked, replication }: StatusRow): PeerJson {
  const { id, zoneId, ip, pgUrl, backupUrl }: PeerEntry = peer;
  const online = asked?.report?.postgres.healthy === true;
  const error = errorOf(asked);
  const seconds = asked?.report?.postgres.lagSeconds;
  return {
    id,
    zoneId,
    ip,
    pgUrl,
    backupUrl,
    online,
    repl: replication ?? {},
    ...(role === "async" && seconds !== undefined && seconds !== null ? { lag: { time_lag: interval(seconds) } } : {}),
    ...(error === undefined ? {} : { error }),
  };
}

/** What could not be asked, in words. */
function errorOf(asked: AskedPeer | undefined): string | undefined {
  if (asked === undefined) return "not asked";
  if (asked.report !== undefined)
    return asked.report.postgres.healthy
      ? undefined
      : (asked.report.postgres.error ?? `PostgreSQL is ${asked.report.postgres.state}`);
  const sitter = {
    answers: "",
    refused: "the sitter refuses the connection",
    silent: "the sitter doesn't answer",
    stranger: "something that is no sitter of this version answers",
  }[asked.sitter];
  return `${sitter}; PostgreSQL's port: ${asked.postgresPort ?? "not asked"}`;
}

/** As the original's database driver shows an interval. */
function interval(seconds: number): Readonly<Record<string, number>> {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = {
    hours: Math.floor(whole / 3600),
    minutes: Math.floor((whole % 3600) / 60),
    seconds: whole % 60,
    milliseconds: Math.round((Math.max(0, seconds) - whole) * 1000),
  };
  return Object.fromEntries(Object.entries(parts).filter(([name, value]) => value > 0 || name === "seconds"));
}
