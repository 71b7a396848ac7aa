// Asking whether somebody is there. What counts is *how* it fails: a refusal is an answer of the machine (it is up, nobody listens),
// silence says nothing but that no answer came in time.

import { request } from "node:http";
import { connect } from "node:net";
import type { HttpAnswer, Network, PortAnswer } from "../port.ts";
import { isRefusal, openStream, type PeerTls } from "./streams.ts";

/** A report of a sitter is a few kilobytes; more than this is not one. */
const ANSWER_BYTES_MAX = 1_000_000;

export const realNetwork: Network = networkWith(undefined);

/** `tls`: of streams to other sitters; undefined: plain TCP. */
export function networkWith(tls: PeerTls | undefined): Network {
  return { probePostgres, httpGet, openStream: (target) => openStream(target, tls) };
}

/** SSLRequest: PostgreSQL answers it with one byte before anything else, and without a line in its log. */
const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);

function probePostgres({ host, port, limitMs }: { host: string; port: number; limitMs: number }): Promise<PortAnswer> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const settle = (answer: PortAnswer) => {
      clearTimeout(limit);
      socket.destroy();
      resolve(answer);
    };
    const limit = setTimeout(settle, limitMs, "silent");
    socket.on("connect", () => socket.write(SSL_REQUEST));
    socket.on("data", () => settle("open"));
    socket.on("end", () => settle("open"));
    socket.on("error", (error) => settle(isRefusal(error) ? "refused" : "silent"));
  });
}

function httpGet(target: {
  host: string;
  port: number;
  path: string;
  limitMs: number;
}): Promise<HttpAnswer | "refused" | "silent"> {
  const { host, port, path, limitMs } = target;
  return new Promise((resolve) => {
    let connected = false;
    const call = request({ host, port, path, method: "GET", agent: false, headers: { connection: "close" } });
    const settle = (answer: HttpAnswer | "refused" | "silent") => {
      clearTimeout(limit);
      resolve(answer);
      call.destroy();
    };
    const limit = setTimeout(settle, limitMs, "silent");
    call.on("socket", (socket) => socket.on("connect", () => (connected = true)));
    call.on("error", (error) => settle(!connected && isRefusal(error) ? "refused" : "silent"));
    call.on("response", (response) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > ANSWER_BYTES_MAX) settle("silent");
        else chunks.push(chunk);
      });
      response.on("end", () =>
        settle({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString("utf8") }),
      );
      response.on("error", () => settle("silent"));
    });
    call.end();
  });
}
