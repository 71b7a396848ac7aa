// The part of the verdict that looks at the operators' tags: what they keep from happening, and where they could not be heeded.

import { type Finding, finding, type HealthFacts } from "./health-facts.ts";
import { chainOf, type PeerEntry, type ShardState, shortName } from "./state.ts";
import { lastResort, NO_TAGS, type Tags } from "./tags.ts";

export function checkTags({ election }: HealthFacts, state: ShardState, found: Finding[]): void {
  const tagsOf = ({ id }: PeerEntry): Tags =>
    election.find(({ peer }) => peer.id === id)?.announcement?.tags ?? NO_TAGS;
  const { primary, sync } = state;
  if (sync === null) return;
  const label = `peer "${shortName(sync)}" (sync)`;
  const standbys = [sync, ...state.async];
  if (standbys.every((peer) => tagsOf(peer).nofailover))
    found.push(
      finding(
        "warning",
        "every standby is tagged nofailover: if the primary is lost, nobody takes over",
        "take nofailover out of the tags of one of them",
        { rule: "T1" },
      ),
    );
  else if (tagsOf(sync).nofailover)
    found.push(
      finding(
        "warning",
        `${label} is tagged nofailover: if the primary is lost now, nobody takes over`,
        "wait until another peer streams and takes its place, or take the tag away",
        { rule: "T1", peer: sync.id },
      ),
    );
  if (tagsOf(sync).nosync)
    found.push(
      finding(
        "warning",
        `${label} is tagged nosync, and is sync because no other peer could be`,
        "see why no untagged peer streams, or take the tag away",
        { rule: "S1", peer: sync.id },
      ),
    );
  else if (standbys.every((peer) => lastResort(tagsOf(peer)) !== undefined) && standbys.length > 1)
    found.push(
      finding(
        "note",
        "every standby is tagged nosync or nofailover: a sync is chosen among them all the same",
        "take the tags away where they are not meant",
        { rule: "S1" },
      ),
    );
  const { zone } = tagsOf(primary);
  if (zone !== undefined && tagsOf(sync).zone === zone) checkZone(zone, chainOf(state).map(tagsOf), found);
}

function checkZone(zone: string, tags: readonly Tags[], found: Finding[]): void {
  const elsewhere = tags.some((each) => each.zone !== undefined && each.zone !== zone);
  found.push(
    finding(
      elsewhere ? "warning" : "note",
      `primary and sync are both in zone ${zone}: to lose it is to lose both`,
      elsewhere
        ? "move the sync: manatee-adm promote an async of another zone (a zone alone replaces no sync that is well)"
        : "start a peer in another zone",
      { rule: "S1" },
    ),
  );
}
