// D1/D2: whether another peer is gone. Evidence may only make failover quicker: by I4 a wrong guess costs an interruption, never a commit.

import type { PeerId } from "../base/peer-id.ts";
import type { Ms } from "../base/units.ts";
import { electionEntryOf, connected } from "./step.ts";
import type { Observation } from "./observation.ts";
import type { PeerEntry, ShardState } from "./state.ts";

export interface Verdict {
  readonly gone: boolean;
  /** What speaks for it, or what is still missing; a clause that follows "the primary" or "the sync". */
  readonly because: string;
}

/**
 * Both ports must refuse for this long: two answers, not one. A server that restarts in place refuses for longer, but its sitter does not; and a
 * host that starts both anew takes longer than a takeover does.
 */
export const REFUSED_MS: Ms = 100;

export interface Flow {
  /** WAL (or a keep-alive) from it, or to it, has been seen within {@link silenceLimit}. */
  readonly flows: boolean;
  /** Since when it has not; undefined: not known, and then it counts from now. */
  readonly silentSince?: Ms | undefined;
}

/** How long silence of that peer lasts before it counts: as learned from its stream, else the policy's. */
export function silenceLimit(obs: Observation, id: PeerId): Ms {
  return obs.peers[id]?.silenceLimitMs ?? obs.policy.suspectMs;
}

/** Nothing comes from it on any channel, by what this peer alone sees. Its port was asked for half of that time, again and again. */
export function isSilent(obs: Observation, id: PeerId): boolean {
  const evidence = obs.peers[id];
  if (!evidence) return false;
  const { sitter, postgresPort } = evidence;
  const limitMs = silenceLimit(obs, id);
  return (
    sitter.kind === "silent" &&
    obs.now - sitter.since >= limitMs &&
    postgresPort.kind === "silent" &&
    obs.now - postgresPort.since >= limitMs / 2
  );
}

/** Both its ports refuse: nothing of it runs. */
function refuses(obs: Observation, id: PeerId): boolean {
  const evidence = obs.peers[id];
  return evidence?.sitter.kind === "refused" && evidence.postgresPort.kind === "refused";
}

/** Not there by what this peer sees, whatever its election node still says. */
export function isMissed(obs: Observation, id: PeerId): boolean {
  return refuses(obs, id) || isSilent(obs, id);
}

/** Whether WAL comes from that peer to this one. */
export function receivesFrom(obs: Observation, peer: { readonly id: PeerId }): boolean {
  const { server } = obs.postgres;
  return (
    server.kind === "standby" &&
    server.settings.upstream?.id === peer.id &&
    server.receiver.kind === "streaming" &&
    server.receiver.silentMs < silenceLimit(obs, peer.id)
  );
}

/** The table of D1. `entry` is the peer as the state names it; `flow` is what this peer's own PostgreSQL shows of it. */
export function judgeGone(obs: Observation, state: ShardState, entry: PeerEntry, flow: Flow): Verdict {
  const found = electionEntryOf(obs, entry.id);
  const announced = found?.announcement;
  if (!connected(obs)) return { gone: false, because: "can't be judged while the store is out of reach" };
  if (found && announced?.incarnation !== entry.incarnation)
    return {
      gone: true,
      because: `is there with other data (incarnation ${announced?.incarnation ?? "none"}) than the state names`,
    };
  if (announced?.abdicates === state.generation || obs.peers[entry.id]?.abdicates === state.generation)
    return { gone: true, because: `gives generation ${state.generation} up` };
  if (flow.flows)
    return found
      ? { gone: false, because: "is there, and WAL flows" }
      : { gone: false, because: "has left the election, but WAL flows: it has lost the coordination store" };
  return found ? judgePresent(obs, entry) : judgeAbsent(obs, entry, flow);
}

function judgePresent(obs: Observation, entry: PeerEntry): Verdict {
  const evidence = obs.peers[entry.id];
  if (!evidence) return { gone: false, because: "is in the election, and has not been asked yet" };
  const { sitter, postgresPort } = evidence;
  const forMs = (since: Ms): Ms => obs.now - since;
  if (refuses(obs, entry.id))
    return Math.min(forMs(sitter.since), forMs(postgresPort.since)) >= REFUSED_MS
      ? { gone: true, because: "refuses on both its ports" }
      : { gone: false, because: "refuses on both its ports, for a moment only" };
  if (isSilent(obs, entry.id))
    return evidence.alsoSilentFor.length > 0
      ? {
          gone: true,
          because: `is silent, for ${evidence.alsoSilentFor.join(", ")} too`,
        }
      : { gone: false, because: "is silent, which no second peer confirms; its session has not ended" };
  if (sitter.kind === "answers")
    return {
      gone: false,
      because: evidence.postgresHealthy ? "is there, and says it is well" : "is there, and sees to its PostgreSQL",
    };
  return {
    gone: false,
    because: `is in the election; its sitter: ${sitter.kind}, its PostgreSQL: ${postgresPort.kind}`,
  };
}

function judgeAbsent(obs: Observation, entry: PeerEntry, { silentSince = obs.now }: Flow): Verdict {
  const { connection, sessionTimeoutMs } = obs.store;
  const connectedMs = obs.now - connection.since;
  // After a store outage everybody is absent for a moment.
  if (connectedMs < sessionTimeoutMs)
    return {
      gone: false,
      because: `is not in the election; that counts from one session time (${sessionTimeoutMs} ms) after our own connection on`,
    };
  const evidence = obs.peers[entry.id];
  if (!evidence || evidence.sitter.kind === "unknown")
    return { gone: false, because: "has left the election, and has not been asked yet" };
  if (evidence.sitter.kind === "answers" && evidence.postgresHealthy) {
    const forMs = obs.now - Math.max(evidence.sitter.since, silentSince);
    return forMs >= obs.policy.opsTimeoutMs
      ? { gone: true, because: "has left the election, and no WAL comes from it" }
      : { gone: false, because: "has left the election, but says it is well" };
  }
  return {
    gone: true,
    because: `has left the election, and ${evidence.sitter.kind === "answers" ? "says its PostgreSQL is down" : `its sitter is ${evidence.sitter.kind}`}`,
  };
}
