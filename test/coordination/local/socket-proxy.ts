// Stands in front of a store's socket, in a folder of its own, and can be cut. It claims that folder, so that a driver which finds
// it cut does not start a store of its own there.

import { mkdir, rm } from "node:fs/promises";
import { createConnection, createServer, type Socket } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import { claimService } from "../../../src/coordination/local/claim.ts";

export interface SocketProxy {
  /** Breaks all connections, and takes no new ones. */
  cut(): Promise<void>;
  restore(): Promise<void>;
  close(): Promise<void>;
}

export async function socketProxy({ listenIn, target }: { listenIn: string; target: string }): Promise<SocketProxy> {
  await mkdir(listenIn, { mode: 0o700 });
  const claim = await claimService(listenIn);
  if (claim.kind !== "ours") throw new Error("somebody serves there already");
  const sockets = new Set<Socket>();
  let isCut = false;
  const server = createServer((near) => {
    const far = createConnection(target);
    for (const [socket, peer] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        sockets.delete(socket);
        peer.destroy();
      });
      socket.pipe(peer);
    }
    if (isCut) near.destroy();
  });
  server.listen(join(listenIn, "socket"));
  await once(server, "listening");
  return {
    async cut() {
      isCut = true;
      for (const socket of sockets) socket.destroy();
    },
    async restore() {
      isCut = false;
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
      await claim.claim.release();
      await rm(listenIn, { recursive: true, force: true });
    },
  };
}
