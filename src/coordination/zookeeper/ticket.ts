// A session's number and password as text. Pure.

import type { SessionTicket } from "../port.ts";

export interface SessionKey {
  readonly sessionId: bigint;
  readonly password: Uint8Array;
}

/** As ZooKeeper's own tools print it. */
export function formatSessionId(sessionId: bigint): string {
  return `0x${BigInt.asUintN(64, sessionId).toString(16)}`;
}

export function writeTicket({ sessionId, password }: SessionKey): SessionTicket {
  const secret = Array.from(password, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return { sessionId: formatSessionId(sessionId), secret };
}

/** undefined: it is none of this driver's. */
export function readTicket({ sessionId, secret }: SessionTicket): SessionKey | undefined {
  if (!/^0x[0-9a-f]{1,16}$/.test(sessionId) || !/^(?:[0-9a-f]{2}){1,64}$/.test(secret)) return undefined;
  const id = BigInt.asIntN(64, BigInt(sessionId));
  if (id === 0n) return undefined;
  const password = Uint8Array.from(secret.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
  return { sessionId: id, password };
}
