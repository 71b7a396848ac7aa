// Where a peer's services are reached, from the addresses that stand in the election and in the state.

import type { PeerAddress } from "../cluster/state.ts";

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** undefined where the pgUrl has no port (an entry that was written by hand). */
export function postgresAddress(peer: PeerAddress): HostPort | undefined {
  const port = Number(/:(\d{1,5})(?:\/|$)/.exec(peer.pgUrl)?.[1]);
  return port >= 1 && port < 65_535 ? { host: peer.ip, port } : undefined;
}

/** The status service of a peer's sitter listens on the port behind PostgreSQL's. */
export function statusAddress(peer: PeerAddress): HostPort | undefined {
  const postgres = postgresAddress(peer);
  return postgres && { host: postgres.host, port: postgres.port + 1 };
}
