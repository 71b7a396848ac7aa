// Opens the socket to one server: plain, or TLS with a client certificate. The only file that knows how.

import { readFile } from "node:fs/promises";
import { connect, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { ServerAddress } from "./connect-string.ts";

export interface TlsFiles {
  readonly caFile: string;
  /** Where the server demands a client's certificate; both or neither. */
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
}

export interface DialEvents {
  open(): void;
  data(chunk: Uint8Array): void;
  /** Once, whatever happened, also where it never opened. Not after `drop`. */
  gone(error: Error): void;
}

export interface Line {
  send(bytes: Uint8Array): void;
  /** Bytes that the kernel has not taken yet. */
  readonly unsentBytes: number;
  /** Ends it at once; no event comes after it. */
  drop(): void;
}

export type Dial = (server: ServerAddress, events: DialEvents) => Line;

export function plainDial(): Dial {
  return (server, events) => {
    const socket = connect({ host: server.host, port: server.port, noDelay: true });
    return lineOver(socket, "connect", events);
  };
}

/** Reads the files at each attempt, so that a renewed certificate is taken at the next connection without a restart. */
export function tlsDial(files: TlsFiles): Dial {
  return (server, events) => {
    let line: Line | undefined;
    let dropped = false;
    const open = async (): Promise<void> => {
      const [ca, cert, key] = await Promise.all([
        readFile(files.caFile),
        files.certFile === undefined ? undefined : readFile(files.certFile),
        files.keyFile === undefined ? undefined : readFile(files.keyFile),
      ]);
      if (dropped) return;
      const name = isIP(server.host) === 0 ? { servername: server.host } : {};
      const socket = connectTls({
        host: server.host,
        port: server.port,
        ca,
        ...(cert && { cert }),
        ...(key && { key }),
        minVersion: "TLSv1.2",
        ...name,
      });
      socket.setNoDelay(true);
      line = lineOver(socket, "secureConnect", events);
    };
    open().catch((error: unknown) => {
      if (!dropped) events.gone(error instanceof Error ? error : new Error(String(error)));
    });
    return {
      send: (bytes) => line?.send(bytes),
      get unsentBytes() {
        return line?.unsentBytes ?? 0;
      },
      drop() {
        dropped = true;
        line?.drop();
      },
    };
  };
}

function lineOver(socket: Socket, opened: "connect" | "secureConnect", events: DialEvents): Line {
  let failure: Error | undefined;
  let dropped = false;
  socket.once(opened, () => {
    if (dropped) return;
    if (isItself(socket)) socket.destroy(new Error("the connection led back to itself: nothing listens there"));
    else events.open();
  });
  socket.on("data", (chunk: Buffer) => {
    if (!dropped) events.data(chunk);
  });
  socket.on("error", (error) => {
    failure = error instanceof AggregateError ? oneOf(error) : error;
  });
  // The server never half-closes: its end is the end.
  socket.on("end", () => socket.destroy());
  socket.once("close", () => {
    if (!dropped) events.gone(failure ?? new Error("the server closed the connection"));
  });
  return {
    send: (bytes) => void socket.write(bytes),
    get unsentBytes() {
      return socket.writableLength;
    },
    drop() {
      dropped = true;
      socket.destroy();
    },
  };
}

/** Of a name with several addresses, none of which answered: the error itself has no message. */
function oneOf(error: AggregateError): Error {
  const each = error.errors.map((one: unknown) => (one instanceof Error ? one.message : String(one)));
  return new Error(each.join("; "), { cause: error });
}

/** Dialling a dead port of this machine can meet its own outgoing port (simultaneous open); it would also keep the server from coming back. */
function isItself(socket: Socket): boolean {
  return socket.localPort === socket.remotePort && socket.localAddress === socket.remoteAddress;
}
