// What the running server should be, as a function of the state *as read*, of what this peer is in the middle of, and of what is seen. Never of a state about to be written.

import { NOBODY, type PostgresSettings } from "./observation.ts";
import { type PrimaryScene, presentAs, type Scene, sameNames, streamsFrom, walsenderOf } from "./step.ts";
import type { PeerAddress, PeerEntry } from "./state.ts";

/** Of a starting server, and of any that has no role: acknowledges nothing, admits nobody, receives nothing. */
export const NEUTRAL: PostgresSettings = { syncNames: [NOBODY], gate: "closed", upstream: null };

/** The standbys that every commit of this primary must wait for now: the sync; both while S1 is under way (the new one first, so that each shows by its priority what it has applied). */
export function requiredStandbys(scene: Scene): readonly PeerAddress[] {
  const { state, memory, obs } = scene;
  const candidate =
    memory.replacing && obs.store.election.find((entry) => entry.peer.id === memory.replacing?.candidate)?.peer;
  const candidateEntry = candidate ?? state.async.find((peer) => peer.id === memory.replacing?.candidate);
  const both = [candidateEntry, state.sync].filter((peer): peer is PeerEntry => peer !== undefined && peer !== null);
  return both.filter((peer, i) => both.findIndex((other) => other.id === peer.id) === i);
}

export function requiredNames(scene: Scene): readonly string[] {
  return requiredStandbys(scene).map((peer) => peer.pgUrl);
}

/** Every required standby is there, by its walsender, which has applied the list as it stands. */
export function requiredInForce(scene: PrimaryScene): boolean {
  const required = requiredStandbys(scene);
  if (!sameNames(scene.server.settings.syncNames, requiredNames(scene))) return false;
  return required.every((peer, i) => {
    const walsender = walsenderOf(scene.server, peer);
    return walsender === undefined ? i > 0 : walsender.syncPriority === i + 1;
  });
}

/** Every required standby has flushed up to there, and counts for commits. */
export function requiredHold(scene: PrimaryScene, position: bigint): boolean {
  return requiredStandbys(scene).every((peer, i) => {
    const walsender = walsenderOf(scene.server, peer);
    return (
      walsender?.state === "streaming" &&
      walsender.syncPriority === i + 1 &&
      walsender.flush !== undefined &&
      walsender.flush >= position
    );
  });
}

/** The sync streams from this primary under the incarnation that the state names. */
export function syncQualified(scene: PrimaryScene): boolean {
  const { sync } = scene.state;
  return sync !== null && presentAs(scene.obs, sync) && streamsFrom(scene.server, sync);
}
