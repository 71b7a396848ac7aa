// Puts the backup server on a port, with TLS where it is configured.

import { readFileSync } from "node:fs";
import { createServer as createPlain, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTls, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { getRequestListener } from "@hono/node-server";
import type { Hono } from "hono";
import { ManateeError } from "../base/errors.ts";

/** Transfers under way and waiting are bounded by the queue; the rest are small questions. */
const CONNECTIONS_MAX = 1_000;

/** Of a connection, so that the next piece is read while the last one is written. */
const BUFFER_BYTES = 1 << 20;

export interface BackupListening {
  readonly port: number;
  /** Ends all connections. */
  close(): Promise<void>;
}

export interface BackupAddress {
  readonly host: string;
  /** 0: any. */
  readonly port: number;
  /** undefined: plain TCP. */
  readonly tls: { readonly certFile: string; readonly keyFile: string } | undefined;
}

/** @throws `BACKUP_PORT_UNUSABLE`, `BACKUP_TLS_FILES` */
export function listenBackup(app: Hono, { host, port, tls }: BackupAddress): Promise<BackupListening> {
  const answer = getRequestListener(app.fetch);
  const listener: Listener = (incoming, outgoing) => void answer(incoming, outgoing);
  const server = tls ? tlsServer(tls, listener) : createPlain({ highWaterMark: BUFFER_BYTES }, listener);
  server.maxConnections = CONNECTIONS_MAX;
  return new Promise((resolve, reject) => {
    server.on("error", (cause) =>
      reject(
        new ManateeError({
          code: "BACKUP_PORT_UNUSABLE",
          message: `cannot listen on ${host}:${port} for the backup server`,
          remedy: "operator",
          hint: "See what listens there (a second backup server?), or set backupServerCfg.host and port to an address of this machine.",
          cause,
        }),
      ),
    );
    server.listen({ host, port }, () =>
      resolve({
        port: (server.address() as AddressInfo).port,
        close: () =>
          new Promise((closed) => {
            server.close(() => closed());
            server.closeAllConnections();
          }),
      }),
    );
  });
}

type Listener = (incoming: IncomingMessage, outgoing: ServerResponse) => void;

function tlsServer({ certFile, keyFile }: { certFile: string; keyFile: string }, listener: Listener): Server {
  try {
    const files = { cert: readFileSync(certFile), key: readFileSync(keyFile) };
    return createTls({ ...files, minVersion: "TLSv1.2", highWaterMark: BUFFER_BYTES }, listener);
  } catch (cause) {
    throw new ManateeError({
      code: "BACKUP_TLS_FILES",
      message: `cannot use the certificate ${certFile} with the key ${keyFile}`,
      remedy: "operator",
      hint: "Give the user that runs the backup server read access to both, or correct backupServerCfg.tls.",
      cause,
    });
  }
}
