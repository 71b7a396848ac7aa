// Free ports for a test: below the range from which the kernel takes ports of outgoing connections, so that none of those takes ours.

import { randomInt } from "node:crypto";
import { createServer } from "node:net";

const FROM = 12_000;
const TO = 32_000;

/** The first of `count` ports in a row, all free on the host at this moment, and not given out before by this process. */
export async function freePorts(count: number, host = "127.0.0.1"): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const first = randomInt(FROM, TO - count);
    const ports = Array.from({ length: count }, (_, i) => first + i);
    if (ports.some((port) => given.has(port))) continue;
    if (!(await allFree(ports, host))) continue;
    for (const port of ports) given.add(port);
    return first;
  }
  throw new Error(`found no ${count} free ports in a row on ${host}`);
}

const given = new Set<number>();

async function allFree(ports: readonly number[], host: string): Promise<boolean> {
  for (const port of ports) if (!(await isFree(port, host))) return false;
  return true;
}

function isFree(port: number, host: string): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(true)));
  });
}
