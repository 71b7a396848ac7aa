// `tcp://USER@ADDRESS:PORT/DATABASE`: how clients reach a peer, and the name under which it replicates.

import { NAME_BYTES_MAX } from "../cluster/state.ts";
import { isIpv4 } from "./values.ts";

export interface PgUrl {
  readonly user: string;
  readonly ip: string;
  readonly port: number;
  readonly database: string;
}

/** What is wrong with it, as the end of a sentence. */
export function parsePgUrl(url: string): PgUrl | { readonly problem: string } {
  const match = /^tcp:\/\/([^@/:\s"']+)@([^@/:\s]+):(\d{1,5})\/([^/?#\s"']+)$/.exec(url);
  if (!match) return { problem: "is not of the form tcp://USER@ADDRESS:PORT/DATABASE (no password in it)" };
  const [user, ip, database] = [match[1] as string, match[2] as string, match[4] as string];
  const port = Number(match[3]);
  if (!isIpv4(ip)) return { problem: `must name an IPv4 address, not ${ip}: clients cut it at the colons` };
  if (port < 1 || port > 65_534) return { problem: `has no valid port: ${match[3]}` };
  const length = new TextEncoder().encode(url).length;
  if (length > NAME_BYTES_MAX)
    return {
      problem: `is ${length} bytes long; PostgreSQL cuts the application_name made of it at ${NAME_BYTES_MAX}. Use a shorter user or database name`,
    };
  return { user, ip, port, database };
}
