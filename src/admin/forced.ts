// O2: the document that an operator forces, where commits are given up: a peer takes over with what it holds. And who still runs.

import type { Lineage } from "../base/lineage.ts";
import type { Lsn } from "../base/lsn.ts";
import { entryFrom } from "../cluster/step.ts";
import { entryOf, FREEZE_OF_MODE, type PeerAddress, type PeerEntry, type ShardState } from "../cluster/state.ts";
import type { Picture } from "./picture.ts";

/** A peer whose data are known, as a claimant or an heir must be. */
export interface Holder {
  readonly peer: PeerAddress;
  readonly incarnation: string;
  readonly lineage: Lineage;
  readonly end: Lsn;
  readonly systemIdentifier: string | undefined;
}

/** T1's claim, by hand: provisional, on a timeline that nobody has used; the new primary's sitter does the rest. */
export function forcedState(
  state: ShardState,
  { claimant, heir, date, picture }: { claimant: Holder; heir: Holder | undefined; date: string; picture: Picture },
): ShardState {
  const named = (holder: Holder) => entryFrom(holder.peer, holder.incarnation, entryOf(state, holder.peer.id));
  const taken = new Set([claimant.peer.id, heir?.peer.id]);
  const left = (peers: readonly (PeerEntry | null)[]) =>
    peers.filter((peer): peer is PeerEntry => peer !== null && !taken.has(peer.id));
  const seen = Object.values(picture.peers).map(({ report }) => report?.postgres.timeline ?? 0);
  const timeline = Math.max(state.highestTimeline, claimant.lineage.timeline, ...seen) + 1;
  return {
    ...state,
    generation: state.generation + 1,
    primary: named(claimant),
    sync: heir === undefined ? null : named(heir),
    async: left(state.async),
    deposed: left([...state.deposed, state.primary, state.sync]),
    initWal: claimant.end,
    initTimeline: claimant.lineage.timeline,
    provisional: true,
    timeline,
    highestTimeline: timeline,
    systemIdentifier: state.systemIdentifier ?? claimant.systemIdentifier,
    promote: undefined,
    malformedPromote: undefined,
    requires: state.requires.includes("incarnations") ? state.requires : [...state.requires, "incarnations"],
    ...(heir === undefined
      ? {
          oneNodeWriteMode: true,
          freeze: state.freeze ?? { date, reason: FREEZE_OF_MODE.forcedAlone },
        }
      : { oneNodeWriteMode: false }),
  };
}

/** As far as it is seen from here. */
export function runsPostgres({ peers }: Picture, { id }: PeerEntry): boolean {
  const asked = peers[id];
  return (
    asked?.postgresPort === "open" ||
    asked?.report?.postgres.state === "primary" ||
    asked?.report?.postgres.state === "standby"
  );
}
