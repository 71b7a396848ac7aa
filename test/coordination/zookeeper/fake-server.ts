// A server that does what a test says: the handshake and every answer by script, so that it can misbehave.

import { createServer, type AddressInfo, type Socket } from "node:net";
import { framed, frameSplitter } from "../../../src/coordination/zookeeper/frames.ts";
import { JuteReader, JuteWriter } from "../../../src/coordination/zookeeper/jute.ts";
import { OP, XID } from "../../../src/coordination/zookeeper/messages.ts";

export interface Asked {
  readonly xid: number;
  readonly type: number;
  readonly body: JuteReader;
  readonly from: FakeConnection;
}

export interface FakeConnection {
  /** Of the session that the client asked for; 0 for a new one. */
  readonly asksFor: bigint;
  send(bytes: Uint8Array): void;
  /** An answer in a frame of its own. */
  answer(xid: number, options?: { error?: number; zxid?: bigint; body?: (to: JuteWriter) => void }): void;
  notify(type: number, path: string): void;
  end(): void;
}

export interface Script {
  /** What the handshake is answered with; undefined: nothing. By default a session of `timeoutMs`. */
  readonly greet?: (connection: FakeConnection) => Uint8Array | undefined;
  readonly timeoutMs?: number;
  /** By default signs of life, authentication and watches are answered, and nothing else. */
  readonly request?: (asked: Asked) => void;
  /** As soon as somebody connects, before the handshake. */
  readonly accept?: (socket: Socket) => void;
  readonly host?: string;
}

export interface FakeServer {
  readonly port: number;
  readonly connectString: string;
  readonly connections: readonly FakeConnection[];
  /** All requests of all connections, the handshake not among them. */
  readonly asked: readonly Asked[];
  stop(): Promise<void>;
}

export const SESSION_ID = 0x1234n;

export function greeting(timeoutMs: number, sessionId: bigint = SESSION_ID): Uint8Array {
  const to = new JuteWriter();
  to.int(0).int(timeoutMs).long(sessionId).bytesField(new Uint8Array(16)).bool(false);
  return framed(to.bytes());
}

export function answerByDefault({ xid, type, from }: Asked): void {
  if (type === OP.sync || type === OP.auth || type === OP.setWatches) from.answer(xid);
}

export async function startFakeServer(script: Script = {}): Promise<FakeServer> {
  const { timeoutMs = 4000, request = answerByDefault, host = "127.0.0.1" } = script;
  const greet = script.greet ?? (() => greeting(timeoutMs));
  const connections: FakeConnection[] = [];
  const asked: Asked[] = [];
  const sockets = new Set<Socket>();

  const server = createServer((socket) => {
    sockets.add(socket);
    socket.setNoDelay(true);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    script.accept?.(socket);
    const frames = frameSplitter(4 * 1024 * 1024);
    let connection: FakeConnection | undefined;
    socket.on("data", (chunk: Buffer) => {
      for (const frame of frames.push(chunk)) {
        const body = new JuteReader(frame);
        if (connection === undefined) {
          body.int();
          body.long();
          body.int();
          connection = connectionOver(socket, body.long());
          connections.push(connection);
          const answer = greet(connection);
          if (answer !== undefined) connection.send(answer);
        } else {
          const one: Asked = { xid: body.int(), type: body.int(), body, from: connection };
          asked.push(one);
          request(one);
        }
      }
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, host, resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    port,
    connectString: host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`,
    connections,
    asked,
    async stop() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

function connectionOver(socket: Socket, asksFor: bigint): FakeConnection {
  const send = (bytes: Uint8Array): void => void (socket.writable && socket.write(bytes));
  return {
    asksFor,
    send,
    answer(xid, { error = 0, zxid = 1n, body } = {}) {
      const to = new JuteWriter();
      to.int(xid).long(zxid).int(error);
      body?.(to);
      send(framed(to.bytes()));
    },
    notify(type, path) {
      const to = new JuteWriter();
      to.int(XID.notification).long(-1n).int(0).int(type).int(3).string(path);
      send(framed(to.bytes()));
    },
    end: () => void socket.destroy(),
  };
}

/** As the answer to `getData`. */
export function node(to: JuteWriter, data: Uint8Array = new Uint8Array()): void {
  to.bytesField(data)
    .long(1n)
    .long(1n)
    .long(0n)
    .long(0n)
    .int(0)
    .int(0)
    .int(0)
    .long(0n)
    .int(data.length)
    .int(0)
    .long(1n);
}
