// Connections for much data, over Node's own HTTP and TCP: what is read is what was asked for, so that memory stays constant whatever the other side does.

import { type IncomingMessage, request as requestPlain } from "node:http";
import { request as requestTls } from "node:https";
import { connect, type Socket } from "node:net";
import { once } from "node:events";
import type { HttpCall, HttpStream, Transport } from "../port.ts";

/** Read before it is asked for, so that the network goes on while the receiver writes. */
const BODY_BUFFER_BYTES = 1 << 20;

export const realTransport: Transport = { open, push };

function open(call: HttpCall): Promise<HttpStream> {
  const { host, port, tls, method, path, body, upgrade, connectLimitMs, signal } = call;
  const protocol = upgrade === undefined ? { connection: "close" } : { connection: "Upgrade", upgrade };
  return new Promise((resolve, reject) => {
    const options = {
      host,
      port,
      method,
      path,
      agent: false as const,
      signal,
      headers: { ...call.headers, ...protocol },
    };
    const request = tls ? requestTls({ ...options, ca: tls.authority, minVersion: "TLSv1.2" }) : requestPlain(options);
    const limit = setTimeout(
      () => request.destroy(new Error(`no connection to ${host}:${port} within ${connectLimitMs} ms`)),
      connectLimitMs,
    );
    const connected = () => clearTimeout(limit);
    request.on("socket", (socket) => socket.once(tls ? "secureConnect" : "connect", connected));
    request.on("close", connected);
    request.on("error", reject);
    request.on("response", (response) =>
      resolve({ status: response.statusCode ?? 0, body: bodyOf(response, () => response.complete) }),
    );
    request.on("upgrade", (_response, socket: Socket, first: Buffer) => {
      // The request has let go of the connection, and its signal with it.
      const abort = () => socket.destroy(new Error("cancelled"));
      signal.addEventListener("abort", abort);
      socket.on("error", () => undefined);
      socket.on("close", () => signal.removeEventListener("abort", abort));
      if (signal.aborted) abort();
      if (first.length > 0) socket.unshift(first);
      resolve({ status: 101, body: bodyOf(socket, () => socket.readableEnded) });
    });
    request.end(body);
  });
}

/** By hand, since a stream that is iterated over joins what lies in its buffer, which copies it. */
async function* bodyOf(source: IncomingMessage | Socket, isWhole: () => boolean): AsyncGenerator<Uint8Array> {
  let waiting: Uint8Array[] = [];
  let waitingBytes = 0;
  let wake = () => {};
  source.on("data", (piece: Uint8Array) => {
    waiting.push(piece);
    waitingBytes += piece.length;
    if (waitingBytes >= BODY_BUFFER_BYTES) source.pause();
    wake();
  });
  source.on("error", () => wake());
  source.on("close", () => wake());
  try {
    for (;;) {
      const pieces = waiting;
      waiting = [];
      waitingBytes = 0;
      if (source.isPaused()) source.resume();
      yield* pieces;
      if (waiting.length > 0) continue;
      if (source.errored) throw source.errored;
      if (source.closed) break;
      await new Promise<void>((resolve) => (wake = resolve));
    }
    if (!isWhole()) throw new Error("the connection was closed in the middle of the answer");
  } finally {
    source.destroy();
  }
}

async function push({
  host,
  port,
  stream,
  connectLimitMs,
  stallLimitMs,
  signal,
}: Parameters<Transport["push"]>[0]): Promise<void> {
  signal.throwIfAborted();
  const socket = connect({ host, port });
  const abort = () => socket.destroy(new Error("cancelled"));
  signal.addEventListener("abort", abort);
  // Each wait has its own listener; this one keeps an error between two waits from ending the process.
  socket.on("error", () => undefined);
  // What the receiver says is nothing to us, but unread it would keep us from seeing that it is gone.
  socket.resume();
  try {
    await orDestroy(socket, connectLimitMs, `no connection to ${host}:${port}`, once(socket, "connect"));
    for await (const chunk of stream) {
      if (socket.errored) throw socket.errored;
      if (socket.destroyed) throw new Error("the receiver closed the connection");
      if (!socket.write(chunk)) await orDestroy(socket, stallLimitMs, "the receiver takes nothing", drained(socket));
    }
    socket.end();
    await orDestroy(socket, stallLimitMs, "the receiver does not take the end", closedByBoth(socket));
  } finally {
    signal.removeEventListener("abort", abort);
    socket.destroy();
  }
}

/** At the limit the socket is destroyed, which is what makes the wait reject. */
async function orDestroy<T>(socket: Socket, limitMs: number, what: string, wait: Promise<T>): Promise<T> {
  const limit = setTimeout(() => socket.destroy(new Error(`${what} within ${limitMs} ms`)), limitMs);
  try {
    return await wait;
  } finally {
    clearTimeout(limit);
  }
}

/** Settles on `drain`, and when the connection is gone (`once` would wait for ever for a socket that closed without an error). */
function drained(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: Error) => {
      socket.off("drain", done);
      socket.off("close", closed);
      if (error) reject(error);
      else resolve();
    };
    const done = () => settle();
    const closed = () => settle(socket.errored ?? new Error("the receiver closed the connection"));
    if (socket.destroyed) return closed();
    socket.on("drain", done);
    socket.on("close", closed);
  });
}

/** The receiver has read to the end and closed, too. */
function closedByBoth(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = () => (socket.errored ? reject(socket.errored) : resolve());
    if (socket.closed) settle();
    else socket.on("close", settle);
  });
}
