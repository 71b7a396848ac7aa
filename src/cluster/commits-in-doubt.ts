// Commits whose wait for the sync was cancelled: committed here, and visible, as if the sync had them. They are in doubt until it does. For reports
// only; no rule goes by it.

import type { WalPoint } from "../base/lineage.ts";
import type { Lsn } from "../base/lsn.ts";
import { sceneOf } from "./decide.ts";
import type { Memory } from "./decision.ts";
import { requiredHold, requiredInForce } from "./desired-postgres.ts";
import type { Observation } from "./observation.ts";
import { presentAs } from "./step.ts";

/**
 * Up to where such commits are known to be safe: the sync that the state names, and whoever is to replace it, were seen to have flushed that much. What was
 * seen once stays true of this server, whatever becomes of the sync. `memory` is that of the decision on this observation. undefined: nothing is known.
 */
export function settledPoint(before: WalPoint | undefined, obs: Observation, memory: Memory): WalPoint | undefined {
  const { server } = obs.postgres;
  // It may be the same server that does not answer. Whatever starts anew has nothing to tell of, and P1 shows nothing of it that the sync lacks.
  if (server.kind === "unresponsive") return before;
  if (server.kind !== "primary") return undefined;
  const { cancelledUpTo } = server;
  if (cancelledUpTo === undefined || cancelledUpTo.timeline !== server.wal.timeline) return before;
  return isHeld(obs, memory, cancelledUpTo.lsn) ? cancelledUpTo : before;
}

export function isSettled(settled: WalPoint | undefined, point: WalPoint): boolean {
  return settled !== undefined && settled.timeline === point.timeline && settled.lsn >= point.lsn;
}

/** As for the opening of the gate (P1): told by name, address and incarnation, by walsenders that all go by the list in force. Without a sync nobody holds it. */
function isHeld(obs: Observation, memory: Memory, position: Lsn): boolean {
  const scene = sceneOf(obs, memory);
  const { server } = obs.postgres;
  if (scene?.role !== "primary" || server.kind !== "primary") return false;
  const { sync } = scene.state;
  if (sync === null || !presentAs(obs, sync)) return false;
  const primary = { ...scene, server };
  return requiredInForce(primary) && requiredHold(primary, position);
}
