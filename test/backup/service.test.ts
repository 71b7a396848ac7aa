import { createServer } from "node:net";
import { once } from "node:events";
import { afterEach, describe, expect, it, vi } from "vitest";
import * as z from "zod";
import { localSitter } from "../../src/snapshotter/local-sitter.ts";
import { ROUTES } from "../../src/backup/service.ts";
import type { Log } from "../../src/world/port.ts";
import { realClock } from "../../src/world/real/clock.ts";
import {
  type BackupFixture,
  type FixtureOptions,
  HOLD_PREFIX,
  quietLog,
  realCredential,
  startBackupServer,
} from "../support/backup.ts";
import { fakeStorage } from "./fake-storage.ts";

const open: { close(): unknown }[] = [];

afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
});

async function start(options: FixtureOptions): Promise<BackupFixture> {
  const server = await startBackupServer(options);
  open.push(server);
  return server;
}

const bytes = (text: string) => new TextEncoder().encode(text);

async function* texts(...all: string[]): AsyncGenerator<Uint8Array> {
  for (const text of all) yield bytes(text);
}

interface Answer {
  readonly status: number;
  readonly json: unknown;
}

async function ask(
  server: BackupFixture,
  {
    method = "GET",
    path,
    body = "",
    signed = true,
  }: { method?: string; path: string; body?: string; signed?: boolean },
): Promise<Answer> {
  const credential = realCredential();
  const { authorization } = await credential.sign({ method, path, body });
  const answer = await fetch(`http://127.0.0.1:${server.port}${path}`, {
    method,
    headers: signed ? { authorization } : {},
    ...(method === "POST" ? { body } : {}),
  });
  return { status: answer.status, json: await answer.json() };
}

/** A receiver as the original's: takes what comes on a port, until the end. */
async function receiver(): Promise<{ port: number; received: Promise<string> }> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  open.push({ close: () => server.close() });
  const received = once(server, "connection").then(async ([socket]) => {
    let text = "";
    for await (const chunk of socket as AsyncIterable<Buffer>) text += chunk.toString();
    return text;
  });
  return { port: (server.address() as { port: number }).port, received };
}

const job = (port: number, host = "127.0.0.1") => JSON.stringify({ host, port, dataset: "zones/pg" });

describe("who may ask", () => {
  const guarded = [
    { path: "/snapshots" },
    { method: "POST", path: "/snapshots" },
    { path: "/snapshots/s1/stream" },
    { method: "POST", path: "/backup/", body: job(1) },
    { path: "/backup/0" },
    { method: "DELETE", path: "/backup/0" },
  ];

  it.each(guarded)("has proved to be of the shard: $method $path", async (request) => {
    const server = await start({ storage: fakeStorage({ s1: () => texts("x") }) });
    expect(await ask(server, { ...request, signed: false })).toMatchObject({
      status: 403,
      json: { code: "PEER_CREDENTIAL_MISSING", hint: expect.any(String) as string },
    });
    expect(server.transfers.views()).toEqual([]);
  });

  it("is told why, where the password is another shard's or the clock is wrong", async () => {
    const server = await start({ storage: fakeStorage({ s1: () => texts("x") }) });
    const { signal } = new AbortController();
    await expect(server.client({ password: "another" }).list({ signal })).rejects.toMatchObject({
      code: "PEER_CREDENTIAL_WRONG",
    });
    const clock = { now: () => realClock.now(), wall: () => realClock.wall() - 300_000 };
    await expect(server.client({ clock }).list({ signal })).rejects.toMatchObject({
      code: "PEER_CLOCK_SKEW",
      message: expect.stringContaining("300 s behind") as string,
    });
  });
});

describe("the list of snapshots", () => {
  it("tells what there is, who holds it, and who waits", async () => {
    const server = await start({ storage: fakeStorage({ s1: () => texts("x"), s2: () => texts("y") }) });
    const list = await server.client().list({ signal: new AbortController().signal });
    expect(list).toMatchObject({
      format: "zfs",
      atomic: true,
      snapshots: [
        { name: "s1", guid: "guid-s1", holds: [], ownBytes: null },
        { name: "s2", guid: "guid-s2" },
      ],
      queue: { length: 0, max: 64, sending: 0, sendingMax: 4 },
      transfers: [],
    });
  });

  it("has one more after POST /snapshots", async () => {
    const server = await start({ storage: fakeStorage({}) });
    const { signal } = new AbortController();
    const taken = await server.client().takeNow({ signal });
    expect((await server.client().list({ signal })).snapshots).toEqual([taken]);
  });

  it("is not there where nobody listens", async () => {
    const server = await start({ storage: fakeStorage({}) });
    const client = server.client();
    await open.pop()?.close();
    await expect(client.list({ signal: new AbortController().signal })).rejects.toMatchObject({
      code: "BACKUP_UNREACHABLE",
      remedy: "retry",
    });
  });
});

describe("a stream", () => {
  const names = ["nothing", "..", "%2e%2e%2fetc", "s1%00", "-R", "a%20b", "x".repeat(3_000)];
  it.each(names)("of a name that is not in the list is refused: %s", async (name) => {
    const server = await start({ storage: fakeStorage({ s1: () => texts("x") }) });
    // Some of these are no path of this route, once the URL is parsed.
    const { status, json } = await ask(server, { path: new URL(`http://x/snapshots/${name}/stream`).pathname });
    expect(status).toBe(404);
    expect(json).toMatchObject({ code: expect.stringMatching(/^BACKUP_(NO_SNAPSHOT|BAD_REQUEST)$/) as string });
  });

  it("from a base that is not there is refused before anything is held", async () => {
    const storage = fakeStorage({ s1: () => texts("x") });
    const server = await start({ storage });
    expect(await ask(server, { path: "/snapshots/s1/stream?from=-R" })).toMatchObject({
      status: 404,
      json: { code: "BACKUP_NO_SNAPSHOT" },
    });
    expect(server.transfers.views()).toEqual([]);
  });

  it("can be cancelled by another", async () => {
    const storage = fakeStorage({
      s1: async function* ({ signal }) {
        yield bytes("x");
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
      },
    });
    const server = await start({ storage });
    const reading = (async () => {
      const asked = { snapshot: { name: "s1", guid: "guid-s1" }, signal: new AbortController().signal };
      for await (const _ of server.client().fetch(asked));
    })();
    const cancelled = expect(reading).rejects.toMatchObject({ code: "BACKUP_CANCELLED" });
    await vi.waitFor(() => expect(server.transfers.views()).toMatchObject([{ state: "sending", sentBytes: 1 }]));
    const uuid = server.transfers.views()[0]?.uuid ?? "";
    expect(await ask(server, { method: "DELETE", path: `/backup/${uuid}` })).toMatchObject({
      json: { state: "failed" },
    });
    await cancelled;
    expect(storage.holds("s1")).toEqual([]);
  });
});

describe("the original's push", () => {
  it("sends the newest snapshot's bare stream to a peer, and tells how far it is", async () => {
    const storage = fakeStorage({ s1: () => texts("old"), s2: () => texts("new", "est") });
    const server = await start({ storage });
    const { port, received } = await receiver();
    const { status, json } = await ask(server, { method: "POST", path: "/backup/", body: job(port) });
    expect(status).toBe(200);
    const { jobid, jobPath } = json as { jobid: string; jobPath: string };
    expect(jobPath).toBe(`/backup/${jobid}`);
    expect(await received).toBe("newest");
    await vi.waitFor(async () =>
      expect(await ask(server, { path: jobPath })).toEqual({
        status: 200,
        json: {
          uuid: jobid,
          host: "127.0.0.1",
          port,
          dataset: "zones/pg",
          done: true,
          size: "1000000",
          completed: "6",
          snapshot: "s2",
          guid: "guid-s2",
          error: null,
        },
      }),
    );
    expect(storage.holds("s2")).toEqual([]);
  });

  it("is refused to addresses that are no peer's, and where the sitter can't tell", async () => {
    const server = await start({ storage: fakeStorage({ s1: () => texts("x") }) });
    for (const host of ["203.0.113.9", "localhost", "127.0.0.1.example.org", "::1"])
      expect(await ask(server, { method: "POST", path: "/backup/", body: job(1, host) })).toMatchObject({
        status: 403,
        json: { code: "BACKUP_NOT_A_PEER" },
      });
    expect(server.transfers.views()).toEqual([]);
  });

  it("is open to all where that is configured, as the original's was", async () => {
    const peers = () => Promise.reject(new Error("nobody asks"));
    const server = await start({ storage: fakeStorage({ s1: () => texts("x") }), openToAll: true, peers });
    const { port, received } = await receiver();
    const request = { method: "POST", path: "/backup/", body: job(port), signed: false };
    const { jobPath } = (await ask(server, request)).json as { jobPath: string };
    expect(await received).toBe("x");
    await vi.waitFor(async () =>
      expect(await ask(server, { path: jobPath, signed: false })).toMatchObject({ status: 200, json: { done: true } }),
    );
    expect(await ask(server, { path: "/snapshots", signed: false })).toMatchObject({ status: 403 });
  });

  it("answers as the original where something is missing, unknown or failed", async () => {
    const codes: unknown[] = [];
    const log: Log = { ...quietLog, warn: (_, fields) => void codes.push(fields?.["code"]) };
    const server = await start({ storage: fakeStorage({ s1: () => texts("x") }), log });
    for (const body of ["", "{}", '{"host":"127.0.0.1"}', '{"host":"127.0.0.1","port":"x","dataset":"d"}'])
      expect(await ask(server, { method: "POST", path: "/backup/", body })).toMatchObject({
        status: 409,
        json: { code: "BACKUP_BAD_REQUEST" },
      });
    expect(await ask(server, { path: "/backup/nothing" })).toMatchObject({
      status: 404,
      json: { code: "BACKUP_NO_JOB" },
    });
    const { port } = await receiver();
    await open.pop()?.close();
    const { jobPath } = (await ask(server, { method: "POST", path: "/backup/", body: job(port) })).json as {
      jobPath: string;
    };
    await vi.waitFor(async () =>
      expect(await ask(server, { path: jobPath })).toMatchObject({
        status: 500,
        json: { done: "failed", completed: "0" },
      }),
    );
    expect(codes).toContain("BACKUP_PUSH_FAILED");
  });
});

describe("holds of a former run", () => {
  it("are released at the start, and no other's", async () => {
    const storage = fakeStorage({ s1: () => texts("x"), s2: () => texts("y") });
    await storage.hold({ dataset: "d", name: "s1" }, `${HOLD_PREFIX}0123`);
    await storage.hold({ dataset: "d", name: "s1" }, "operator");
    await storage.hold({ dataset: "d", name: "s2" }, "manatee-backup-2-0123");
    const server = await start({ storage });
    await server.transfers.releaseStale();
    expect(storage.holds("s1")).toEqual(["operator"]);
    expect(storage.holds("s2")).toEqual(["manatee-backup-2-0123"]);
  });
});

describe("what the sitter tells", () => {
  const network = (body: string, status = 200) => ({
    openStream: () => Promise.reject(new Error("not used")),
    probePostgres: () => Promise.reject(new Error("not asked")),
    httpGet: () => Promise.resolve({ status, body }),
  });
  const sitter = { host: "127.0.0.1", port: 5433 };
  const report = (more: object, postgres: object = {}) =>
    JSON.stringify({
      role: "async",
      generation: 3,
      postgres: { lastCheck: "2026-01-01T00:00:01.000Z", ...postgres },
      ...more,
    });

  it("is where its WAL ended, and when it looked", async () => {
    const known = network(report({ systemIdentifier: "7", incarnation: "one" }, { timeline: 2, walEnd: "0/3000060" }));
    expect(await localSitter(known, sitter).walPosition()).toEqual({
      lookedWallMs: Date.UTC(2026, 0, 1, 0, 0, 1),
      timeline: 2,
      walEnd: "0/3000060",
      role: "async",
      generation: 3,
      systemIdentifier: "7",
      incarnation: "one",
    });
    expect(await localSitter(network(report({}, { timeline: 2, walEnd: null })), sitter).walPosition()).toBeUndefined();
  });

  it("is the addresses of all peers, deposed ones as well", async () => {
    const peer = (n: number) => ({
      id: `10.0.0.${n}:5432:12345`,
      zoneId: `zone${n}`,
      ip: `10.0.0.${n}`,
      pgUrl: `tcp://postgres@10.0.0.${n}:5432/postgres`,
      backupUrl: `http://10.0.0.${n}:12345`,
    });
    const json = JSON.stringify({
      generation: 1,
      primary: peer(1),
      sync: peer(2),
      async: [peer(3)],
      deposed: [peer(4)],
      initWal: "0/0",
    });
    const known = await localSitter(network(report({ lastDocument: { version: 3, json } })), sitter).peerAddresses();
    expect([...known]).toEqual(["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]);
  });

  it("is nobody where it has seen no document or cannot read it", async () => {
    expect((await localSitter(network(report({})), sitter).peerAddresses()).size).toBe(0);
    expect((await localSitter(network(report({ lastDocument: { json: "?" } })), sitter).peerAddresses()).size).toBe(0);
  });

  it("is an error where it does not answer", async () => {
    for (const silent of [
      network("{}", 503),
      network("?"),
      { ...network(""), httpGet: () => Promise.resolve("refused" as const) },
    ])
      await expect(localSitter(silent, sitter).peerAddresses()).rejects.toMatchObject({
        code: "SNAPSHOT_SITTER_SILENT",
      });
  });
});

describe("the OpenAPI document", () => {
  interface Operation {
    readonly responses: Record<string, { content?: Record<string, { schema?: { $ref?: string } }> }>;
  }
  interface Document {
    readonly openapi: string;
    readonly paths: Record<string, Record<string, Operation>>;
    readonly components: { readonly schemas: Record<string, Record<string, unknown>> };
  }

  async function documentOf(server: BackupFixture): Promise<Document> {
    return (await ask(server, { path: "/openapi.json", signed: false })).json as Document;
  }

  it("has exactly the routes that there are", async () => {
    const server = await start({ storage: fakeStorage({}) });
    const { openapi, paths } = await documentOf(server);
    const described = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect(openapi).toBe("3.1.0");
    expect(described.sort()).toEqual(Object.keys(ROUTES).sort());
    const listed = (await ask(server, { path: "/", signed: false })).json as { routes: object };
    expect(Object.keys(listed.routes).sort()).toEqual(described);
  });

  it("is what the running routes answer", async () => {
    const storage = fakeStorage({ s1: () => texts("x"), s2: () => texts("y") });
    const server = await start({ storage });
    const document = await documentOf(server);
    const { port, received } = await receiver();
    const pushed = await ask(server, { method: "POST", path: "/backup/", body: job(port) });
    await received;
    const { jobPath } = pushed.json as { jobPath: string };
    const answers: [string, string, Answer][] = [
      ["get", "/", await ask(server, { path: "/" })],
      ["get", "/openapi.json", await ask(server, { path: "/openapi.json" })],
      ["get", "/snapshots", await ask(server, { path: "/snapshots" })],
      ["get", "/snapshots", await ask(server, { path: "/snapshots", signed: false })],
      ["post", "/snapshots", await ask(server, { method: "POST", path: "/snapshots" })],
      ["get", "/snapshots/{name}/stream", await ask(server, { path: "/snapshots/none/stream" })],
      ["post", "/backup/", pushed],
      ["post", "/backup/", await ask(server, { method: "POST", path: "/backup/", body: "{}" })],
      ["post", "/backup/", await ask(server, { method: "POST", path: "/backup/", body: job(1, "192.0.2.1") })],
      ["get", "/backup/{uuid}", await ask(server, { path: jobPath })],
      ["get", "/backup/{uuid}", await ask(server, { path: "/backup/0" })],
      ["delete", "/backup/{uuid}", await ask(server, { method: "DELETE", path: jobPath })],
      ["delete", "/backup/{uuid}", await ask(server, { method: "DELETE", path: "/backup/0" })],
    ];
    for (const [method, path, { status, json }] of answers) {
      const response = document.paths[path]?.[method]?.responses[status];
      expect(response, `${method} ${path} ${status} is described`).toBeDefined();
      const schema = response?.content?.["application/json"]?.schema;
      const named = schema?.$ref?.split("/").at(-1);
      const described = named === undefined ? schema : document.components.schemas[named];
      expect(described, `${method} ${path} ${status} has a schema`).toBeDefined();
      const validator = z.fromJSONSchema(described as Parameters<typeof z.fromJSONSchema>[0]);
      expect(validator.safeParse(json).error, `${method} ${path} ${status}`).toBeUndefined();
      // A schema that takes everything would prove nothing.
      if (named !== undefined) expect(validator.safeParse({ other: 1 }).success).toBe(false);
    }
    expect(new Set(answers.map(([method, path]) => `${method} ${path}`)).size).toBe(Object.keys(ROUTES).length);
  });
});
