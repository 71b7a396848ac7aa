// What the running server should be, as a function of the state *as read*, of what this peer is in the middle of, and of what is seen. Never of a state about to be written.

import { NOBODY, type PostgresSettings, type Walsender } from "./observation.ts";
import { type PrimaryScene, presentAs, type Scene, walsenderOf } from "./step.ts";
import type { PeerAddress } from "./state.ts";

/** Of a starting server, and of any that has no role: acknowledges nothing, admits nobody, receives nothing. */
export const NEUTRAL: PostgresSettings = { syncNames: [NOBODY], gate: "closed", upstream: null };

/** What the list of required standbys follows from. */
interface Requiring {
  readonly state: Scene["state"];
  readonly memory: { readonly replacing: { readonly candidate: PeerAddress } | undefined };
}

/** The standbys that every commit of this primary must wait for now: the sync; both while S1 is under way (the new one first, so that each shows by its priority what it has applied). */
export function requiredStandbys(scene: Requiring): readonly PeerAddress[] {
  const { state, memory } = scene;
  const both = [memory.replacing?.candidate, state.sync].filter((peer) => peer !== undefined && peer !== null);
  return both.filter((peer, i) => both.findIndex((other) => other.id === peer.id) === i);
}

export function requiredNames(scene: Requiring): readonly string[] {
  return requiredStandbys(scene).map((peer) => peer.pgUrl);
}

/** The order counts: it gives each its priority. */
export function sameNames(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name, i) => name === b[i]);
}

/**
 * Commits wait for all that are required: the list is in force for new processes, the first one is there, and every walsender has applied it. A
 * walsender that still has an older list releases commits by that, whoever it serves; and of two that bear one name, each has a vote.
 */
export function requiredInForce(scene: PrimaryScene): boolean {
  const [first] = requiredStandbys(scene);
  return (!first || walsenderOf(scene.server, first) !== undefined) && requiredApplied(scene);
}

/** Nobody goes by an older list any more, whether or not those that are required are there. */
export function requiredApplied(scene: PrimaryScene): boolean {
  return sameNames(scene.server.settings.syncNames, requiredNames(scene)) && strayWalsender(scene) === undefined;
}

/** A walsender that shows another priority than the list gives it, or that bears a required name a second time. */
export function strayWalsender(scene: PrimaryScene): Walsender | undefined {
  const names = requiredNames(scene).map((name) => name.toLowerCase());
  const { walsenders } = scene.server;
  return walsenders.find((walsender) => {
    const rank = names.indexOf(walsender.name.toLowerCase()) + 1;
    if (walsender.state === "backup") return false;
    if (walsender.syncPriority !== rank) return true;
    const owner = rank > 0 ? requiredStandbys(scene)[rank - 1] : undefined;
    return owner !== undefined && walsenderOf(scene.server, owner) !== walsender;
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

/** The sync streams from this primary under the incarnation that the state names, and has reported within the suspect time. */
export function syncQualified(scene: PrimaryScene): boolean {
  const { sync } = scene.state;
  return sync !== null && presentAs(scene.obs, sync) && flowsTo(scene, sync);
}

/** WAL flows to that standby: it streams, and its reports come. */
function flowsTo({ server, obs }: PrimaryScene, peer: PeerAddress): boolean {
  const walsender = walsenderOf(server, peer);
  return walsender?.state === "streaming" && (walsender.silentMs ?? 0) < obs.policy.suspectMs;
}
