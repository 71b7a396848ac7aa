// From whom a peer is to be rebuilt, as an operator names it. Refused where the sitter could not do it: it would wait, and nobody would know why.

import { ManateeError } from "../base/errors.ts";
import { roleOf, type PeerEntry, type ShardState } from "../cluster/state.ts";
import type { SitterConfig } from "../config/types.ts";
import type { Network } from "../world/port.ts";
import { findPeer } from "./find-peer.ts";
import { askPeer } from "./picture.ts";

/** Errors: `ADMIN_UNKNOWN_PEER`, `ADMIN_REBUILD_SOURCE`. */
export async function rebuildSource(
  network: Network,
  state: ShardState,
  { name, self }: { name: string; self: SitterConfig["self"] },
): Promise<PeerEntry> {
  const peer = findPeer(state, { zonename: name, ip: undefined });
  if (peer.id === self.id) throw unfit(peer, "is the peer that is to be rebuilt", "Name another peer of the shard.");
  if (roleOf(state, peer.id) === "deposed")
    throw unfit(
      peer,
      "is deposed: its WAL may have forked from the shard's",
      "Rebuild that one first, or name another.",
    );
  const { report, sitter, postgresPort } = await askPeer(network, peer);
  if (!report)
    throw unfit(
      peer,
      `can't be asked: its sitter ${sitter === "stranger" ? "is another peer's" : `is ${sitter}`}, its PostgreSQL's port is ${postgresPort ?? "unknown"}`,
      "Start its sitter, look at the network between the two, or name another peer.",
    );
  const { state: server, timeline } = report.postgres;
  if (server !== "primary" && server !== "standby")
    throw unfit(peer, `does not serve: its PostgreSQL is ${server}`, "Wait until it runs, or name another peer.");
  if (timeline !== state.timeline)
    throw unfit(
      peer,
      `is on timeline ${timeline ?? "unknown"}, and the shard on ${state.timeline}`,
      "Wait until it follows the primary, or name another peer.",
    );
  return peer;
}

function unfit(peer: PeerEntry, what: string, hint: string): ManateeError {
  return new ManateeError({
    code: "ADMIN_REBUILD_SOURCE",
    message: `${peer.zoneId} can't be copied: it ${what}`,
    remedy: "operator",
    hint,
  });
}
