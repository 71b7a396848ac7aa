// Puts the status service on a port.

import { type ServerType, serve } from "@hono/node-server";
import type { Hono } from "hono";
import { ManateeError } from "../base/errors.ts";

export interface Listening {
  readonly port: number;
  close(): Promise<void>;
}

/** Has the streams that are opened at that server taken; returns how to end all of them. */
export type AcceptStreams = (server: ServerType) => () => void;

/** `port` 0: any. @throws `STATUS_PORT_UNUSABLE` */
export function listen(
  app: Hono,
  { host, port, streams }: { host: string; port: number; streams?: AcceptStreams },
): Promise<Listening> {
  return new Promise((resolve, reject) => {
    const server: ServerType = serve({ fetch: app.fetch, hostname: host, port }, (address) =>
      resolve({
        port: address.port,
        close: () => {
          endStreams?.();
          return close(server);
        },
      }),
    );
    const endStreams = streams?.(server);
    server.on("error", (cause: NodeJS.ErrnoException) =>
      reject(
        new ManateeError({
          code: "STATUS_PORT_UNUSABLE",
          message: `cannot listen on ${host}:${port} for the status service`,
          remedy: "operator",
          hint:
            cause.code === "EADDRNOTAVAIL"
              ? `Set ip to an address of this machine, which ${host} is not; behind a translation of addresses set statusHost and postgres.listenAddress instead.`
              : "See what listens there (a second sitter?), or set ip or statusHost to an address of this machine.",
          cause,
        }),
      ),
    );
  });
}

function close(server: ServerType): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    if ("closeAllConnections" in server) server.closeAllConnections();
  });
}
