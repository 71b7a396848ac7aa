// Who may do what: users with a digest, TLS with client certificates, against a real ZooKeeper.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { TlsFiles } from "../../../src/coordination/zookeeper/dial.ts";
import { authority, certificate, opensslInstalled } from "../../support/certificates.ts";
import { startZooKeeper, zooKeeperInstalled, type ZooKeeperServer } from "../../support/zookeeper-server.ts";
import {
  LONG_SESSIONS,
  bytes,
  closeSessions,
  connected,
  keptLog,
  openSession,
  put,
  statusKind,
  temporaryFolder,
  text,
  until,
  word,
  type Folder,
} from "./harness.ts";

describe.skipIf(!zooKeeperInstalled || !opensslInstalled)("security with a real ZooKeeper", () => {
  let folder: Folder;
  let server: ZooKeeperServer;
  let client: TlsFiles;
  let stranger: TlsFiles;

  beforeAll(async () => {
    folder = await temporaryFolder();
    await authority(folder.path, "authority");
    await authority(folder.path, "elsewhere");
    const own = await certificate(folder.path, "authority", "server");
    client = await certificate(folder.path, "authority", "client");
    stranger = await certificate(folder.path, "elsewhere", "stranger");
    server = await startZooKeeper({ dir: folder.path, tls: own, settings: LONG_SESSIONS });
  });
  afterEach(closeSessions);
  afterAll(async () => {
    await server?.stop();
    await folder?.remove();
  });

  test("nodes made with a user are that user's alone", async () => {
    const place = `${server.connectString}/users`;
    const owner = await connected(openSession(place, { digest: "sitter:secret" }));
    await put(owner, "/state", "kept");
    const same = await connected(openSession(place, { digest: "sitter:secret" }));
    expect(text((await same.read("/state"))?.data)).toBe("kept");
    for (const digest of [{}, { digest: "sitter:wrong" }, { digest: "other:secret" }]) {
      const session = await connected(openSession(place, digest));
      await expect(session.read("/state")).rejects.toMatchObject({ code: "STORE_NOT_PERMITTED", remedy: "operator" });
      await expect(session.list("/")).rejects.toMatchObject({ code: "STORE_NOT_PERMITTED" });
      const refused = await Promise.all([
        session.write([{ kind: "set", path: "/state", data: bytes("x"), version: 0 }]),
        session.write([{ kind: "create", path: "/state/below", data: bytes("") }]),
        session.write([{ kind: "delete", path: "/state" }]),
      ]);
      expect(refused.map(word)).toEqual(["not-permitted at 0", "not-permitted at 0", "not-permitted at 0"]);
    }
  });

  test("who we are is said again on each connection, before the watches", async () => {
    const place = `${server.connectString}/again`;
    const session = await connected(openSession(place, { digest: "sitter:secret", sessionTimeoutMs: 60_000 }));
    await put(session, "/a");
    let calls = 0;
    session.watch("/a", "data", () => calls++);
    await session.read("/a");
    await server.restart();
    await until("back", () => session.status.kind === "connected" && calls > 0);
    const before = calls;
    expect(word(await session.write([{ kind: "set", path: "/a", data: bytes("x"), version: 0 }]))).toBe("yes");
    await until("called", () => calls > before);
  });

  test("without a user, nodes are open to all", async () => {
    const place = `${server.connectString}/open`;
    await put(await connected(openSession(place)), "/a", "x");
    const other = await connected(openSession(place, { digest: "sitter:secret" }));
    expect(text((await other.read("/a"))?.data)).toBe("x");
  });

  test("TLS with a client certificate works as without", async () => {
    const session = await connected(openSession(`127.0.0.1:${server.tlsPort}/tls`, { tls: client, digest: "a:b" }));
    const data = new Uint8Array(300_000).fill(7);
    expect(word(await session.write([{ kind: "create", path: "/large", data, ephemeral: true }]))).toBe("yes");
    expect((await session.read("/large", { confirmed: true }))?.data).toEqual(data);
    await session.close();
    expect(statusKind(session)).toBe("closed");
  });

  test("TLS without a client certificate, where the servers demand none", async () => {
    const own = await certificate(folder.path, "authority", "open-server");
    const place = await temporaryFolder();
    const open = await startZooKeeper({
      dir: place.path,
      tls: own,
      settings: { ...LONG_SESSIONS, "ssl.clientAuth": "none" },
    });
    try {
      const session = await connected(openSession(`127.0.0.1:${open.tlsPort}/tls`, { tls: { caFile: own.caFile } }));
      await put(session, "/state", "kept");
      expect(text((await session.read("/state"))?.data)).toBe("kept");
      await closeSessions();
    } finally {
      await open.stop();
      await place.remove();
    }
  });

  test.each<[string, () => { tls?: TlsFiles; name?: string }]>([
    ["a certificate of another authority", () => ({ tls: { ...stranger, caFile: client.caFile } })],
    ["another authority to check the server against", () => ({ tls: { ...client, caFile: stranger.caFile } })],
    ["a name that is not the server's", () => ({ tls: client, name: "localhost" })],
    ["no client certificate, where one is demanded", () => ({ tls: { caFile: client.caFile } })],
    ["no TLS at all", () => ({})],
    ["files that are not there", () => ({ tls: { ...client, keyFile: "/nonexistent/key" } })],
  ])("TLS with %s never connects, and says why", async (_, how) => {
    const { tls, name = "127.0.0.1" } = how();
    const log = keptLog();
    const session = openSession(`${name}:${server.tlsPort}/tls`, { log, ...(tls === undefined ? {} : { tls }) });
    await until("three attempts", () => log.lines.filter(({ level }) => level === "debug").length >= 3);
    expect(statusKind(session)).toBe("connecting");
    await expect(session.read("/")).rejects.toMatchObject({ code: "STORE_UNREACHABLE", cause: expect.any(Error) });
  });
});
