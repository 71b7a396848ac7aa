// One look at a shard: the document, the election, and what every peer says of itself.

import { parsePeerId, type PeerId } from "../base/peer-id.ts";
import type { PeerFacts } from "../cluster/health-facts.ts";
import type { ElectionEntry, ShardView } from "../cluster/observation.ts";
import { membersOf, type PeerAddress } from "../cluster/state.ts";
import type { JournalEntry, PeerReport } from "../status/report.ts";
import type { Network } from "../world/port.ts";
import type { ShardAccess } from "./connect.ts";
import { parseJournal, parsePeerReport } from "./report-schema.ts";

export interface AskedPeer extends PeerFacts {
  readonly peer: PeerAddress;
  readonly report: PeerReport | undefined;
}

export interface Picture {
  readonly view: Exclude<ShardView, { kind: "unread" }>;
  readonly election: readonly ElectionEntry[];
  /** Of everybody in the document or the election. */
  readonly peers: Readonly<Record<PeerId, AskedPeer>>;
  readonly wallMs: number;
}

/** Of one question to a peer: longer than a sitter's own look at its PostgreSQL takes. */
const QUESTION_LIMIT_MS = 3_000;

export async function takePicture({ context, shard }: ShardAccess): Promise<Picture> {
  const [view, election] = await Promise.all([shard.readState({ confirmed: true }), shard.readElection()]);
  const members: readonly PeerAddress[] = view.kind === "document" ? membersOf(view.state) : [];
  const peers = [
    ...members,
    ...election.map(({ peer }) => peer).filter(({ id }) => !members.some((member) => member.id === id)),
  ];
  const asked = await Promise.all(peers.map((peer) => askPeer(context.world.network, peer)));
  return {
    view,
    election,
    peers: Object.fromEntries(asked.map((each) => [each.peer.id, each])),
    wallMs: context.world.clock.wall(),
  };
}

export async function askPeer(network: Network, peer: PeerAddress): Promise<AskedPeer> {
  const { host, port } = postgresPlace(peer);
  const answer = await network.httpGet({ host, port: port + 1, path: "/state", limitMs: QUESTION_LIMIT_MS });
  if (typeof answer === "object") {
    const report = answer.status === 200 ? parsePeerReport(answer.body) : undefined;
    if (report !== undefined && report.id === peer.id)
      return { peer, sitter: "answers", postgresPort: undefined, report };
  }
  const sitter = typeof answer === "object" ? "stranger" : answer;
  const postgresPort = await network.probePostgres({ host, port, limitMs: QUESTION_LIMIT_MS });
  return { peer, sitter, postgresPort, report: undefined };
}

/** undefined: it does not tell. */
export async function askJournal(
  network: Network,
  peer: PeerAddress,
  { fromWallMs, toWallMs }: { fromWallMs: number; toWallMs: number },
): Promise<readonly JournalEntry[] | undefined> {
  const { host, port } = postgresPlace(peer);
  const path = `/journal?from=${Math.floor(fromWallMs)}&to=${Math.ceil(toWallMs)}`;
  const answer = await network.httpGet({ host, port: port + 1, path, limitMs: QUESTION_LIMIT_MS });
  return typeof answer === "object" && answer.status === 200 ? parseJournal(answer.body) : undefined;
}

/** Where its PostgreSQL is reached: by its pgUrl, else by its id. */
function postgresPlace(peer: PeerAddress): { readonly host: string; readonly port: number } {
  const match = /^tcp:\/\/(?:[^@/]*@)?([^:/]+):(\d+)/.exec(peer.pgUrl);
  const parts = parsePeerId(peer.id);
  return { host: match?.[1] ?? peer.ip, port: Number(match?.[2] ?? parts?.pgPort ?? 5432) };
}
