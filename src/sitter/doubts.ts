// From one observation to the next: about which peers something changed that is a reason to look at them at once, instead of at the
// next interval (D1: evidence makes failover quicker).

import type { PeerId } from "../base/peer-id.ts";
import { answeringServer, type Observation } from "../cluster/observation.ts";
import { membersOf, NAME_BYTES_MAX, type PeerAddress } from "../cluster/state.ts";
import { postgresAddress } from "../peers/address.ts";

/** Every peer that the election or the state names, without this one. */
export function otherPeers({ self, store }: Pick<Observation, "self" | "store">): readonly PeerAddress[] {
  const named = [
    ...(store.shard.kind === "document" ? membersOf(store.shard.state) : []),
    ...store.election.map(({ peer }) => peer),
  ];
  return [...new Map(named.map((peer) => [peer.id, peer])).values()].filter(({ id }) => id !== self.id);
}

export function doubtsAbout(before: Observation, now: Observation): readonly PeerId[] {
  const left = before.store.election.filter(
    ({ peer }) => !now.store.election.some((entry) => entry.peer.id === peer.id),
  );
  const lost = lostWalsenders(before, now);
  const upstream = lostUpstream(before, now);
  const doubted = otherPeers(before).filter(
    (peer) =>
      left.some((entry) => entry.peer.id === peer.id) ||
      lost.includes(peer.pgUrl.slice(0, NAME_BYTES_MAX)) ||
      (upstream !== undefined && peer.ip === upstream.host && postgresAddress(peer)?.port === upstream.port),
  );
  return doubted.map(({ id }) => id);
}

function lostWalsenders(before: Observation, now: Observation): readonly string[] {
  const names = ({ postgres: { server } }: Observation) =>
    answeringServer(server)?.walsenders.map(({ name }) => name) ?? [];
  const present = names(now);
  return names(before).filter((name) => !present.includes(name));
}

function lostUpstream(
  before: Observation,
  now: Observation,
): { readonly host: string; readonly port: number } | undefined {
  const from = ({ postgres: { server } }: Observation) =>
    server.kind === "standby" && server.receiver.kind === "streaming" ? server.receiver.from : undefined;
  return from(now) === undefined ? from(before) : undefined;
}
