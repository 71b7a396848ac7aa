import { createHash, randomBytes } from "node:crypto";
import { createServer as createHttpServer } from "node:http";
import { createServer, connect, type Socket } from "node:net";
import { once } from "node:events";
import { Hono } from "hono";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { TransferProgress } from "../../src/backup/progress.ts";
import { readFrames } from "../../src/backup/frames.ts";
import { listenBackup } from "../../src/main/listen-backup.ts";
import { realClock } from "../../src/world/real/clock.ts";
import { realCrypto } from "../../src/world/real/crypto.ts";
import type { Log } from "../../src/world/port.ts";
import {
  type BackupFixture,
  type FixtureOptions,
  quietLog,
  realBackupClient,
  realCredential,
  startBackupServer,
} from "../support/backup.ts";
import { fakeStorage } from "./fake-storage.ts";

const CHUNK = randomBytes(65_536);
const open: { close(): unknown }[] = [];

afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
});

async function start(options: FixtureOptions): Promise<BackupFixture> {
  const server = await startBackupServer(options);
  open.push(server);
  return server;
}

async function* chunks(count: number, onChunk: (i: number) => unknown = () => {}): AsyncGenerator<Uint8Array> {
  for (let i = 0; i < count; i++) {
    await onChunk(i);
    yield CHUNK;
  }
}

/** Until the signal: a storage that has stopped answering. */
function silence(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener("abort", () => reject(new Error("aborted"))));
}

/** The codes with which transfers failed, as the log has them. */
function failuresOf(codes: unknown[]): Log {
  return {
    ...quietLog,
    warn: (message, fields) => void (message === "transfer failed" && codes.push(fields?.["code"])),
  };
}

function asked(name: string) {
  return { snapshot: { name, guid: `guid-${name}` }, signal: new AbortController().signal };
}

async function drain(stream: AsyncIterable<Uint8Array>): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const chunk of stream) {
    bytes += chunk.length;
    hash.update(chunk);
  }
  return { bytes, sha256: hash.digest("hex") };
}

describe("a stream that is pulled", () => {
  it("arrives whole, with its progress, and is held as long as it is sent", async () => {
    const held: (readonly string[])[] = [];
    const storage = fakeStorage({ s1: () => chunks(100, () => held.push(storage.holds("s1"))), s0: () => chunks(0) });
    const server = await start({ storage });
    const progress: TransferProgress[] = [];
    const { bytes, sha256 } = await drain(
      server.client().fetch({
        ...asked("s1"),
        from: { name: "s0", guid: "guid-s0" },
        onProgress: (one) => progress.push(one),
      }),
    );
    expect(bytes).toBe(100 * CHUNK.length);
    expect(sha256).toBe(
      createHash("sha256")
        .update(Buffer.concat(Array.from({ length: 100 }, () => CHUNK)))
        .digest("hex"),
    );
    expect(progress.at(-1)).toMatchObject({ done: bytes, expected: 1_000_000, leftMs: 0, position: 0 });
    expect(held.every((tags) => tags.length === 1)).toBe(true);
    await vi.waitFor(() => expect(storage.holds("s1")).toEqual([]));
    expect(storage.holds("s0")).toEqual([]);
    expect(server.transfers.views()).toMatchObject([{ state: "done", from: "s0", sentBytes: bytes, leftMs: 0 }]);
  });

  it("is had by plain HTTP as well", async () => {
    const server = await start({ storage: fakeStorage({ s1: () => chunks(40) }) });
    const path = "/snapshots/s1/stream";
    const { authorization, answerKey } = await realCredential().sign({ method: "GET", path, body: "" });
    const answer = await fetch(`http://127.0.0.1:${server.port}${path}`, { headers: { authorization } });
    expect(answer.status).toBe(200);
    const kinds: string[] = [];
    let bytes = 0;
    for await (const frame of readFrames(answer.body as AsyncIterable<Uint8Array>, {
      key: answerKey,
      crypto: realCrypto,
    })) {
      kinds.push(frame.kind);
      if (frame.kind === "data") bytes += frame.bytes;
    }
    expect([kinds[0], kinds.at(-1), bytes]).toEqual(["begin", "end", 40 * CHUNK.length]);
  });

  it("is refused where it is not the one that was asked for", async () => {
    const server = await start({ storage: fakeStorage({ s1: () => chunks(3) }) });
    const stream = server.client().fetch({ ...asked("s1"), snapshot: { name: "s1", guid: "another" } });
    await expect(drain(stream)).rejects.toMatchObject({ code: "BACKUP_OTHER_STREAM" });
  });

  it("tells the sender's reason where the storage fails in the middle", async () => {
    const failing = () =>
      chunks(10, (i) => {
        if (i === 5) throw new Error("pool suspended");
      });
    const server = await start({ storage: fakeStorage({ s1: failing }) });
    await expect(drain(server.client().fetch(asked("s1")))).rejects.toMatchObject({
      code: "BACKUP_FAILED",
      message: expect.stringContaining("pool suspended") as string,
    });
  });

  it("is never complete where the server dies in the middle", async () => {
    const storage = fakeStorage({ s1: ({ signal }) => chunks(10, (i) => (i === 5 ? silence(signal) : undefined)) });
    const server = await start({ storage });
    let bytes = 0;
    const reading = (async () => {
      for await (const chunk of server.client().fetch(asked("s1"))) {
        bytes += chunk.length;
        if (bytes === 5 * CHUNK.length) for (const one of open.splice(0)) void one.close();
      }
    })();
    await expect(reading).rejects.toMatchObject({ remedy: "retry" });
    expect(bytes).toBe(5 * CHUNK.length);
  });

  it("ends by the client's signal at both ends, and releases the snapshot", async () => {
    const storage = fakeStorage({ s1: ({ signal }) => chunks(10, (i) => (i === 5 ? silence(signal) : undefined)) });
    const server = await start({ storage });
    const cancel = new AbortController();
    let bytes = 0;
    const reading = (async () => {
      for await (const chunk of server.client().fetch({ ...asked("s1"), signal: cancel.signal })) {
        bytes += chunk.length;
        if (bytes === 5 * CHUNK.length) cancel.abort(new Error("no longer wanted"));
      }
    })();
    await expect(reading).rejects.toThrow("no longer wanted");
    await vi.waitFor(() => expect([storage.open, storage.holds("s1")]).toEqual([0, []]));
    expect(server.transfers.views()).toMatchObject([{ state: "failed" }]);
  });

  it("ends where the client leaves it without a word", async () => {
    const storage = fakeStorage({ s1: () => chunks(100_000) });
    const codes: unknown[] = [];
    const server = await start({ storage, log: failuresOf(codes) });
    for await (const _ of server.client().fetch(asked("s1"))) break;
    await vi.waitFor(() => expect([storage.open, storage.holds("s1")]).toEqual([0, []]));
    expect(server.transfers.views()).toMatchObject([
      { state: "failed", error: expect.stringContaining("closed") as string },
    ]);
    expect(codes).toEqual(["BACKUP_RECEIVER_GONE"]);
  });

  it("goes at the pace of a slow reader, without piling up in memory", async () => {
    let made = 0;
    const storage = fakeStorage({ s1: () => chunks(10_000, (i) => (made = i)) });
    const server = await start({ storage });
    const reader = server.client().fetch(asked("s1"))[Symbol.asyncIterator]();
    await reader.next();
    // Until nothing moves any more: what is made then lies in the buffers of the two sockets.
    let before = -1;
    await vi.waitFor(
      () => {
        const same = before === made;
        before = made;
        expect(same).toBe(true);
      },
      { interval: 300, timeout: 10_000 },
    );
    expect(made * CHUNK.length).toBeLessThan(32 << 20);
    expect(made).toBeGreaterThan(0);
    await reader.return?.();
    await vi.waitFor(() => expect(storage.open).toBe(0));
  });

  it("gives up a reader that takes nothing, and lets the next one have its turn", async () => {
    const storage = fakeStorage({ s1: () => chunks(2_000), s2: () => chunks(1) });
    const codes: unknown[] = [];
    const server = await start({ storage, sendingMax: 1, stallLimitMs: 500, log: failuresOf(codes) });
    const stalled = server.client().fetch(asked("s1"))[Symbol.asyncIterator]();
    await stalled.next();
    expect(await drain(server.client().fetch(asked("s2")))).toMatchObject({ bytes: CHUNK.length });
    const rest = (async () => {
      while (!(await stalled.next()).done);
    })();
    await expect(rest).rejects.toMatchObject({ remedy: "retry" });
    expect(server.transfers.views().find(({ snapshot }) => snapshot === "s1")?.error).toContain(
      "took nothing for 500 ms",
    );
    expect(codes).toEqual(["BACKUP_RECEIVER_STALLED"]);
  });

  it("says that it waits, while the storage is slow and while it stands in the queue", async () => {
    let goOn = () => {};
    const slow = new Promise<void>((resolve) => (goOn = resolve));
    const server = await start({
      storage: fakeStorage({ s1: () => chunks(1, () => slow), s2: () => chunks(1) }),
      sendingMax: 1,
      aliveMs: 50,
    });
    const positions: number[] = [];
    const first = drain(server.client({ silenceLimitMs: 2_000 }).fetch(asked("s1")));
    await vi.waitFor(() => expect(server.transfers.counts().sending).toBe(1));
    const second = drain(
      server.client({ silenceLimitMs: 2_000 }).fetch({
        ...asked("s2"),
        onProgress: ({ position }) => {
          positions.push(position);
          if (positions.length === 5) goOn();
        },
      }),
    );
    expect((await first).bytes).toBe(CHUNK.length);
    expect((await second).bytes).toBe(CHUNK.length);
    expect(positions.slice(0, 5)).toEqual([1, 1, 1, 1, 1]);
    expect(positions.at(-1)).toBe(0);
  });

  it("is given up by a client to which nobody speaks", async () => {
    const server = await start({ storage: fakeStorage({ s1: ({ signal }) => chunks(1, () => silence(signal)) }) });
    await expect(drain(server.client({ silenceLimitMs: 300 }).fetch(asked("s1")))).rejects.toMatchObject({
      code: "BACKUP_BROKEN_OFF",
    });
    await vi.waitFor(() => expect(server.transfers.views()).toMatchObject([{ state: "failed" }]));
  });

  it("keeps to the rate limit, all transfers together", async () => {
    const server = await start({
      storage: fakeStorage({ s1: () => chunks(16), s2: () => chunks(16) }),
      bytesPerSecondMax: 32 * CHUNK.length,
    });
    const before = realClock.now();
    await Promise.all(["s1", "s2"].map((name) => drain(server.client().fetch(asked(name)))));
    expect(realClock.now() - before).toBeGreaterThan(900);
  });

  it("serves twenty clients at once, each with the whole of it", async () => {
    const storage = fakeStorage({ s1: () => chunks(50) });
    const server = await start({ storage, sendingMax: 3 });
    const all = await Promise.all(Array.from({ length: 20 }, () => drain(server.client().fetch(asked("s1")))));
    expect(new Set(all.map(({ sha256 }) => sha256)).size).toBe(1);
    expect(all.every(({ bytes }) => bytes === 50 * CHUNK.length)).toBe(true);
    await vi.waitFor(() => expect(storage.holds("s1")).toEqual([]));
    expect(server.transfers.counts()).toEqual({ length: 0, max: 64, sending: 0, sendingMax: 3 });
  });

  it("is refused where the queue is full", async () => {
    const storage = fakeStorage({ s1: ({ signal }) => chunks(1, () => silence(signal)) });
    const server = await start({ storage, sendingMax: 1, waitingMax: 1 });
    const waiting = [1, 2].map(() => drain(server.client().fetch(asked("s1"))).catch((error: unknown) => error));
    await vi.waitFor(() => expect(server.transfers.counts()).toMatchObject({ sending: 1, length: 1 }));
    await expect(drain(server.client().fetch(asked("s1")))).rejects.toMatchObject({
      code: "BACKUP_QUEUE_FULL",
      remedy: "retry",
    });
    await server.transfers.stop();
    for (const error of await Promise.all(waiting)) expect(error).toMatchObject({ code: "BACKUP_STOPPING" });
    expect(storage.holds("s1")).toEqual([]);
  });
});

describe("a byte that changes on its way", () => {
  it.each([0, 4, 700_000, 1_300_000])("is noticed, at offset %i", async (offset) => {
    const server = await start({ storage: fakeStorage({ s1: () => chunks(30) }) });
    const port = await corruptingRelay(server.port, offset);
    const whole = Buffer.concat(Array.from({ length: 30 }, () => CHUNK));
    const received: Uint8Array[] = [];
    const reading = (async () => {
      for await (const chunk of server.client({ port, silenceLimitMs: 2_000 }).fetch(asked("s1"))) received.push(chunk);
    })();
    await expect(reading).rejects.toMatchObject({ code: "BACKUP_CORRUPT", remedy: "retry" });
    // Not one byte of the frame that is wrong was handed on.
    const before = Buffer.concat(received);
    expect(before.length).toBeLessThanOrEqual(offset);
    expect(before.equals(whole.subarray(0, before.length))).toBe(true);
  });
});

describe("what listens at the address of a backup server", () => {
  async function answering(status: number, body: string): Promise<number> {
    const server = createHttpServer((_, response) => response.writeHead(status).end(body));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    open.push({ close: () => server.close() });
    return (server.address() as { port: number }).port;
  }

  it.each([
    [200, "<html>"],
    [200, '{"snapshots":7}'],
    [404, "not found"],
  ])("and is something else is told by its answer: %i %s", async (status, body) => {
    const client = realBackupClient({ port: await answering(status, body) });
    await expect(client.list({ signal: new AbortController().signal })).rejects.toMatchObject({
      code: "BACKUP_BAD_ANSWER",
      remedy: "operator",
    });
  });

  it("keeps a second one from starting there, which says so", async () => {
    const port = await answering(200, "");
    await expect(listenBackup(new Hono(), { host: "127.0.0.1", port, tls: undefined })).rejects.toMatchObject({
      code: "BACKUP_PORT_UNUSABLE",
      message: `cannot listen on 127.0.0.1:${port} for the backup server`,
    });
  });
});

/** Passes everything on, and changes one byte of the answer, counted from the beginning of its body. */
async function corruptingRelay(to: number, offset: number): Promise<number> {
  const sockets = new Set<Socket>();
  const relay = createServer((client) => {
    const server = connect({ host: "127.0.0.1", port: to });
    let seen = 0;
    let bodyAt: number | undefined;
    for (const socket of [client, server]) {
      sockets.add(socket);
      socket.on("error", () => undefined);
    }
    client.pipe(server);
    server.on("data", (data: Buffer) => {
      const end = data.indexOf("\r\n\r\n");
      if (bodyAt === undefined && end >= 0) bodyAt = seen + end + 4;
      const at = bodyAt === undefined ? -1 : bodyAt + offset - seen;
      if (at >= 0 && at < data.length) data[at] = (data[at] as number) ^ 1;
      seen += data.length;
      client.write(data);
    });
    server.on("close", () => client.destroy());
    client.on("close", () => server.destroy());
  });
  relay.listen(0, "127.0.0.1");
  await once(relay, "listening");
  open.push({
    close: () => {
      for (const socket of sockets) socket.destroy();
      relay.close();
    },
  });
  return (relay.address() as { port: number }).port;
}
