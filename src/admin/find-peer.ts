// Which peer of the document an operator means.

import { ManateeError } from "../base/errors.ts";
import { parsePeerId } from "../base/peer-id.ts";
import { membersOf, type PeerAddress, type PeerEntry, type ShardState, shortName } from "../cluster/state.ts";
import { nearest } from "../config/suggest.ts";

/** By the whole name, the first eight characters of it, the id, or `HOST:PORT` of its PostgreSQL; or by address. */
export function findPeer(
  state: ShardState,
  { zonename, ip }: { zonename: string | undefined; ip: string | undefined },
): PeerEntry {
  const members = membersOf(state);
  const found = members.filter(
    (peer) => (zonename === undefined || isCalled(peer, zonename)) && (ip === undefined || peer.ip === ip),
  );
  const [first, second] = found;
  const asked = [zonename, ip].filter((each) => each !== undefined).join(" at ");
  if (first === undefined) {
    const meant =
      zonename === undefined
        ? undefined
        : nearest(
            zonename,
            members.map((peer) => peer.zoneId),
          );
    const peers = `The peers are: ${members.map((peer) => `${peer.zoneId} (${peer.ip})`).join(", ")}.`;
    throw unknown(`no peer of the shard is ${asked}`, meant === undefined ? peers : `Did you mean ${meant}? ${peers}`);
  }
  if (second !== undefined)
    throw unknown(`${found.length} peers are ${asked}`, "Name the peer by its whole name with --zonename.");
  return first;
}

export function isCalled(peer: PeerAddress, name: string): boolean {
  return [peer.zoneId, peer.id, shortName(peer), placeOf(peer)].includes(name);
}

/** Of its PostgreSQL, as its URL has it. */
function placeOf({ pgUrl, ip, id }: PeerAddress): string {
  return /^tcp:\/\/(?:[^@/]*@)?([^:/]+:\d+)/.exec(pgUrl)?.[1] ?? `${ip}:${parsePeerId(id)?.pgPort ?? 5432}`;
}

function unknown(message: string, hint: string): ManateeError {
  return new ManateeError({ code: "ADMIN_UNKNOWN_PEER", message, remedy: "operator", hint });
}
