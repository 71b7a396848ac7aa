// Streams between sitters on real sockets: how they come about, and how each end learns what became of the other.

import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer as createHttp, type Server } from "node:http";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { readSitterConfig } from "../../src/config/read-sitter.ts";
import type { SitterConfig } from "../../src/config/types.ts";
import { peerTls } from "../../src/main/peer-tls.ts";
import type { ByteStream, StreamEnd } from "../../src/world/port.ts";
import { networkWith, realNetwork } from "../../src/world/real/network.ts";
import { acceptStreams, type PeerTls } from "../../src/world/real/streams.ts";
import { authority, certificate, opensslInstalled } from "../support/certificates.ts";

const HOST = "127.0.0.1";
const LIMIT_MS = 5_000;
const cleanUp: (() => unknown)[] = [];

afterEach(async () => {
  for (const end of cleanUp.splice(0).reverse()) await end();
});

interface Listener {
  readonly port: number;
  readonly server: Server;
  /** The next stream that is opened. */
  readonly accepted: () => Promise<Listened>;
}

interface Listened {
  readonly stream: ByteStream;
  text: string;
  readonly ended: Promise<StreamEnd>;
}

function listening(stream: ByteStream): Listened {
  let onEnd: (how: StreamEnd) => void = () => {};
  const end: Listened = { stream, text: "", ended: new Promise((resolve) => (onEnd = resolve)) };
  stream.listen({ onText: (text) => (end.text += text), onEnd: (how) => onEnd(how) });
  return end;
}

async function listener({ tls }: { tls?: PeerTls } = {}): Promise<Listener> {
  const server = createHttp((_, response) => response.writeHead(404).end());
  const waiting: ((end: Listened) => void)[] = [];
  const there: Listened[] = [];
  const endStreams = acceptStreams(server, tls, (stream) => {
    const end = listening(stream);
    const next = waiting.shift();
    if (next) next(end);
    else there.push(end);
  });
  server.listen(0, HOST);
  await once(server, "listening");
  cleanUp.push(() => {
    endStreams();
    server.closeAllConnections();
    return new Promise<void>((resolve) => server.close(() => resolve()));
  });
  return {
    port: (server.address() as AddressInfo).port,
    server,
    accepted: () => {
      const first = there.shift();
      return first ? Promise.resolve(first) : new Promise((resolve) => waiting.push(resolve));
    },
  };
}

async function opened(port: number, network = realNetwork): Promise<Listened> {
  const stream = await network.openStream({ host: HOST, port, limitMs: LIMIT_MS });
  if (typeof stream === "string") throw new Error(`the stream is ${stream}`);
  return listening(stream);
}

async function plainServer(onConnection: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    onConnection(socket);
  });
  server.listen(0, HOST);
  await once(server, "listening");
  cleanUp.push(() => {
    for (const socket of sockets) socket.destroy();
    return new Promise<void>((resolve) => server.close(() => resolve()));
  });
  return (server.address() as AddressInfo).port;
}

async function until(condition: () => boolean): Promise<void> {
  await expect.poll(condition, { timeout: LIMIT_MS, interval: 5 }).toBe(true);
}

describe("a stream on a status service's port (D2)", () => {
  it("carries text both ways, also where a character is cut in two", async () => {
    const { port, accepted } = await listener();
    const here = await opened(port);
    const there = await accepted();
    here.stream.write("from here: ä\n");
    there.stream.write("from there: ß\n");
    await until(() => there.text === "from here: ä\n" && here.text === "from there: ß\n");
  });

  it("is declined by a server that knows none, refused where nobody listens, silent where nobody answers", async () => {
    const old = createHttp((_, response) => response.end("{}"));
    old.listen(0, HOST);
    await once(old, "listening");
    cleanUp.push(() => new Promise<void>((resolve) => old.close(() => resolve())));
    const open = (port: number, limitMs: number) => realNetwork.openStream({ host: HOST, port, limitMs });
    expect(await open((old.address() as AddressInfo).port, LIMIT_MS)).toBe("declined");
    expect(await open(await plainServer(() => {}), 100)).toBe("silent");
    const gone = createServer();
    gone.listen(0, HOST);
    await once(gone, "listening");
    const { port } = gone.address() as AddressInfo;
    await new Promise<void>((resolve) => gone.close(() => resolve()));
    expect(await open(port, LIMIT_MS)).toBe("refused");
  });

  it("tells an end in order from a reset", async () => {
    const { port, accepted } = await listener();
    const first = await opened(port);
    (await accepted()).stream.close();
    expect(await first.ended).toBe("closed");
    const cut = await plainServer((socket) =>
      socket.once("data", () => {
        socket.write("HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: manatee-peers\r\n\r\n");
        socket.once("data", () => socket.resetAndDestroy());
      }),
    );
    const second = await opened(cut);
    second.stream.write("x\n");
    expect(await second.ended).toBe("reset");
  });

  it("ends at once for the one who aborts it, and for the other", async () => {
    const { port, accepted } = await listener();
    const here = await opened(port);
    const there = await accepted();
    there.stream.abort();
    expect(await there.ended).toBe("aborted");
    expect(["closed", "reset"]).toContain(await here.ended);
  });

  it("hands over what a slow sender sends byte by byte, and what came together with the request", async () => {
    const { port, accepted } = await listener();
    const socket = connect({ host: HOST, port });
    cleanUp.push(() => socket.destroy());
    const request = "GET /stream HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: manatee-peers\r\n\r\nearly ";
    socket.write(request);
    const there = await accepted();
    for (const byte of Buffer.from("später\n")) socket.write(Buffer.from([byte]));
    await until(() => there.text === "early später\n");
  });

  it("gives another upgrade, and another path, no stream", async () => {
    const { port } = await listener();
    for (const [path, upgrade] of [
      ["/stream", "websocket"],
      ["/other", "manatee-peers"],
    ]) {
      const socket = connect({ host: HOST, port });
      socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: ${upgrade}\r\n\r\n`);
      const [answer] = (await once(socket, "data")) as [Buffer];
      expect(String(answer)).toContain("404");
      socket.destroy();
    }
  });
});

function sitterWith(tls: Readonly<Record<"caFile" | "certFile" | "keyFile", string>>): SitterConfig {
  const json = JSON.stringify({
    ip: HOST,
    zoneId: "peer1",
    shardPath: "/manatee/1",
    zkCfg: { connStr: "127.0.0.1:2181" },
    postgres: { dataDir: "/data" },
    peers: { tls },
  });
  const read = readSitterConfig({ json, env: {}, file: "sitter.json" });
  if (read.kind === "invalid") throw new Error(JSON.stringify(read.problems));
  return read.config;
}

describe.skipIf(!opensslInstalled)("with TLS", () => {
  async function pair(folder: string): Promise<{ mine: PeerTls; foreign: PeerTls }> {
    await authority(folder, "shard");
    await authority(folder, "elsewhere");
    const read = async (by: string, name: string): Promise<PeerTls> => {
      const { certFile, keyFile } = await certificate(folder, by, name);
      const text = (path: string) => readFileSync(path, "utf8");
      return { authority: text(join(folder, "shard.crt")), certificate: text(certFile), key: text(keyFile) };
    };
    return { mine: await read("shard", "peer"), foreign: await read("elsewhere", "stranger") };
  }

  it("carries text between two that have certificates of one authority, and has nobody else in", async () => {
    const folder = mkdtempSync(join(tmpdir(), "manatee-streams-"));
    cleanUp.push(() => rmSync(folder, { recursive: true, force: true }));
    const { mine, foreign } = await pair(folder);
    const { port, accepted } = await listener({ tls: mine });
    const here = await opened(port, networkWith(mine));
    const there = await accepted();
    here.stream.write("secret\n");
    there.stream.write("yes\n");
    await until(() => there.text === "secret\n" && here.text === "yes\n");
    here.stream.close();
    expect(await there.ended).toBe("closed");

    let more = 0;
    void accepted().then(() => more++);
    for (const network of [networkWith(foreign), realNetwork]) {
      const stream = await network.openStream({ host: HOST, port, limitMs: LIMIT_MS });
      if (typeof stream === "string") continue;
      const stranger = listening(stream);
      stream.write("let me in\n");
      await stranger.ended;
    }
    expect(more).toBe(0);
  });

  it("names the files where one of them can't be read", async () => {
    const folder = mkdtempSync(join(tmpdir(), "manatee-streams-"));
    cleanUp.push(() => rmSync(folder, { recursive: true, force: true }));
    await authority(folder, "shard");
    const files = await certificate(folder, "shard", "peer");
    expect(peerTls(sitterWith(files))?.certificate).toBe(readFileSync(files.certFile, "utf8"));
    expect(() => peerTls(sitterWith({ ...files, keyFile: join(folder, "none") }))).toThrow(
      expect.objectContaining({
        code: "PEER_TLS_FILES",
        message: expect.stringContaining(join(folder, "none")) as string,
        remedy: "operator",
      }) as Error,
    );
  });
});
