// Streams between sitters, on the status service's port: an HTTP request that asks to be upgraded, TLS on top of it where that is configured, and then
// bytes either way. So an operator has one port to open, and a sitter that knows no streams says so.

import { request, type IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { connect as connectTls, createServer as createTls } from "node:tls";
import { StringDecoder } from "node:string_decoder";
import type { ByteStream, StreamEnd } from "../port.ts";

const PROTOCOL = "manatee-peers";
const PATH = "/stream";

/** PEM. Both sides show a certificate of that authority; whose it is, the handshake behind it proves. */
export interface PeerTls {
  readonly authority: string;
  readonly certificate: string;
  readonly key: string;
}

interface Target {
  readonly host: string;
  readonly port: number;
  readonly limitMs: number;
}

export function openStream(
  { host, port, limitMs }: Target,
  tls: PeerTls | undefined,
): Promise<ByteStream | "refused" | "silent" | "declined"> {
  return new Promise((resolve) => {
    let connected = false;
    const call = request({
      host,
      port,
      path: PATH,
      agent: false,
      headers: { connection: "Upgrade", upgrade: PROTOCOL },
    });
    const settle = (answer: ByteStream | "refused" | "silent" | "declined") => {
      clearTimeout(limit);
      resolve(answer);
      if (typeof answer === "string") call.destroy();
    };
    const limit = setTimeout(settle, limitMs, "silent");
    call.on("socket", (socket) => socket.on("connect", () => (connected = true)));
    call.on("error", (error) => settle(!connected && isRefusal(error) ? "refused" : "silent"));
    call.on("response", (response) => {
      response.resume();
      settle("declined");
    });
    call.on("upgrade", (_, socket, head) => {
      if (!tls) return settle(byteStream(prepared(socket, head)));
      const secure = connectTls({
        socket: prepared(socket, head),
        ca: tls.authority,
        cert: tls.certificate,
        key: tls.key,
        minVersion: "TLSv1.2",
        // Whom it belongs to is not told by its name: the handshake behind it proves that, sealed message by message.
        checkServerIdentity: () => undefined,
      });
      secure.once("secureConnect", () => settle(byteStream(secure)));
      secure.once("error", () => settle("declined"));
    });
    call.end();
  });
}

/** Hands every stream that is opened at that server's port to `onStream`; what asks for another upgrade is refused. Returns how to end all of them. */
export function acceptStreams(
  server: {
    on(event: "upgrade", listener: (incoming: IncomingMessage, socket: Duplex, head: Buffer) => void): unknown;
  },
  tls: PeerTls | undefined,
  onStream: (stream: ByteStream) => void,
): () => void {
  const open = new Set<Duplex>();
  const secureServer = tls && tlsServer(tls, (socket) => onStream(byteStream(socket)));
  server.on("upgrade", (incoming: IncomingMessage, socket: Duplex, head: Buffer) => {
    open.add(socket);
    socket.on("close", () => open.delete(socket));
    socket.on("error", () => socket.destroy());
    if (incoming.headers.upgrade !== PROTOCOL || incoming.url !== PATH) {
      socket.end("HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
      return;
    }
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: ${PROTOCOL}\r\n\r\n`);
    const plain = prepared(socket as Socket, head);
    if (!secureServer) return onStream(byteStream(plain));
    secureServer?.emit("connection", plain);
  });
  return () => {
    for (const socket of open) socket.destroy();
  };
}

/** Listens nowhere: it is given connections that were accepted already. Whoever shows no certificate of the authority is not let through. */
function tlsServer({ authority, certificate, key }: PeerTls, onSocket: (socket: Socket) => void) {
  const server = createTls(
    { ca: authority, cert: certificate, key, requestCert: true, rejectUnauthorized: true, minVersion: "TLSv1.2" },
    onSocket,
  );
  server.on("tlsClientError", (_, socket) => socket.destroy());
  return server;
}

function prepared(socket: Socket, head: Buffer): Socket {
  socket.setNoDelay(true);
  socket.setTimeout(0);
  if (head.length > 0) socket.unshift(head);
  return socket;
}

function byteStream(socket: Socket): ByteStream {
  return {
    write: (text) => void socket.write(text),
    close: () => void socket.end(),
    abort: () => void socket.destroy(),
    listen(events) {
      const decoder = new StringDecoder("utf8");
      let ended = false;
      const end = (how: StreamEnd) => {
        if (ended) return;
        ended = true;
        socket.destroy();
        events.onEnd(how);
      };
      socket.on("data", (chunk: Buffer) => events.onText(decoder.write(chunk)));
      socket.on("end", () => end("closed"));
      socket.on("error", () => end("reset"));
      socket.on("close", () => end("aborted"));
    },
  };
}

/** Something came back that says no. No route and the like is silence: it tells of the way there, not of the peer. */
export function isRefusal(error: NodeJS.ErrnoException): boolean {
  return error.code === "ECONNREFUSED" || error.code === "ECONNRESET";
}
