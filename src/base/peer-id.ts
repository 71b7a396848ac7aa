// A peer's identity: `ip:pgPort:backupPort`, as users of the original know it.

/** `ip:pgPort:backupPort`; the address is IPv4, because existing clients cut at `-` and `:`. */
export type PeerId = string;

export interface PeerIdParts {
  readonly ip: string;
  readonly pgPort: number;
  readonly backupPort: number;
}

export function formatPeerId({ ip, pgPort, backupPort }: PeerIdParts): PeerId {
  return `${ip}:${pgPort}:${backupPort}`;
}

/** undefined if it is not an `ip:pgPort:backupPort` with an IPv4 address and ports in 1–65535. */
export function parsePeerId(id: PeerId): PeerIdParts | undefined {
  const match = /^(\d{1,3}(?:\.\d{1,3}){3}):(\d{1,5}):(\d{1,5})$/.exec(id);
  if (!match) return undefined;
  const [ip, pgPort, backupPort] = [match[1] as string, Number(match[2]), Number(match[3])];
  if (ip.split(".").some((part) => Number(part) > 255)) return undefined;
  if ([pgPort, backupPort].some((port) => port < 1 || port > 65535)) return undefined;
  return { ip, pgPort, backupPort };
}
