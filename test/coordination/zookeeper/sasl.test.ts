// SASL DIGEST-MD5: the exchange by itself, and against a real server that demands it.

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { digestMd5 } from "../../../src/coordination/zookeeper/sasl.ts";
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

const CHALLENGE = 'realm="zk-sasl-md5",nonce="OA6MG9tEQGm2hh",qop="auth",algorithm=md5-sess,charset=utf-8';
const exchange = (password = "secret") =>
  digestMd5({ user: "sitter", password, random: { hex: () => "OA6MHXh6VqTrRk", number: () => 0 } });

describe("the exchange", () => {
  test("begins with nothing, answers the challenge, and ends when the server has shown that it knows the password", () => {
    const client = exchange();
    expect(client.step(new Uint8Array())).toEqual(new Uint8Array());
    const answer = text(client.step(bytes(CHALLENGE)));
    expect(answer).toContain('username="sitter"');
    expect(answer).toContain('digest-uri="zookeeper/zk-sasl-md5"');
    expect(answer).not.toContain("secret");
    expect(answer).toMatch(/response=[0-9a-f]{32}(,|$)/);
    expect(() => client.step(bytes(`rspauth=${"0".repeat(32)}`))).toThrow("does not know the password");
  });

  test("answers differently for another password", () => {
    const answers = ["secret", "other", "pässword", "пароль"].map((password) => {
      const client = exchange(password);
      client.step(new Uint8Array());
      return text(client.step(bytes(CHALLENGE)));
    });
    expect(new Set(answers).size).toBe(4);
  });

  test.each([
    "",
    "nonsense",
    'nonce="x',
    'nonce="x",algorithm=md5',
    'nonce="x",algorithm=md5-sess,qop="auth-conf"',
    "x".repeat(3000),
  ])("refuses the challenge %j", (challenge) => {
    const client = exchange();
    client.step(new Uint8Array());
    expect(() => client.step(bytes(challenge))).toThrow();
  });

  test("any challenge whatever is answered or refused", () => {
    let answered = 0;
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array({ maxLength: 100 }),
          fc.string().map((s) => bytes(`${CHALLENGE},x="${s}"`)),
        ),
        (challenge) => {
          const client = exchange();
          client.step(new Uint8Array());
          try {
            client.step(challenge);
            answered++;
          } catch (error) {
            expect(error).toBeInstanceOf(Error);
          }
        },
      ),
    );
    expect(answered).toBeGreaterThan(0);
  });
});

describe.skipIf(!zooKeeperInstalled)("a real ZooKeeper that knows users", () => {
  let folder: Folder;
  let server: ZooKeeperServer;

  beforeAll(async () => {
    folder = await temporaryFolder();
    const users = 'user_sitter="secret" user_other="secret2"';
    const file = join(folder.path, "users.conf");
    await writeFile(file, `Server {\n  org.apache.zookeeper.server.auth.DigestLoginModule required ${users};\n};\n`);
    server = await startZooKeeper({
      dir: folder.path,
      settings: {
        ...LONG_SESSIONS,
        "authProvider.1": "org.apache.zookeeper.server.auth.SASLAuthenticationProvider",
      },
      properties: { "java.security.auth.login.config": file, "zookeeper.sessionRequireClientSASLAuth": "true" },
    });
  });
  afterEach(closeSessions);
  afterAll(async () => {
    await server?.stop();
    await folder?.remove();
  });

  test("lets in who knows the password; what they make is theirs alone", async () => {
    const place = `${server.connectString}/sasl`;
    const owner = await connected(openSession(place, { saslDigest: "sitter:secret" }));
    await put(owner, "/state", "kept");
    expect(text((await owner.read("/state", { confirmed: true }))?.data)).toBe("kept");
    const other = await connected(openSession(place, { saslDigest: "other:secret2" }));
    await expect(other.read("/state")).rejects.toMatchObject({ code: "STORE_NOT_PERMITTED" });
    const outcome = await other.write([{ kind: "set", path: "/state", data: bytes("x"), version: 0 }]);
    expect(word(outcome)).toBe("not-permitted at 0");
  });

  test("asks again on each connection, before the watches are set", async () => {
    const place = `${server.connectString}/again`;
    const session = await connected(openSession(place, { saslDigest: "sitter:secret", sessionTimeoutMs: 60_000 }));
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

  test("does not let in who doesn't, and that is told", async () => {
    const log = keptLog();
    const session = openSession(server.connectString, { saslDigest: "sitter:wrong", log });
    await until("two attempts", () => log.lines.filter(({ level }) => level === "debug").length >= 2);
    expect(statusKind(session)).toBe("connecting");
    await expect(session.read("/")).rejects.toMatchObject({
      code: "STORE_UNREACHABLE",
      cause: { code: "STORE_AUTHENTICATION", remedy: "operator" },
    });
  });
});
