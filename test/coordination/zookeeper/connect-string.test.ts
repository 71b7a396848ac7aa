import { describe, expect, test } from "vitest";
import { toCallersPath, toStorePath } from "../../../src/coordination/zookeeper/chroot.ts";
import { formatAddress, isNodePath, parseConnectString } from "../../../src/coordination/zookeeper/connect-string.ts";
import { credentialsOf } from "../../../src/coordination/zookeeper/credentials.ts";
import type { Random } from "../../../src/world/port.ts";
import { Itinerary } from "../../../src/coordination/zookeeper/itinerary.ts";

describe("the connect string", () => {
  test.each([
    ["a:1", ["a:1"], ""],
    ["a", ["a:2181"], ""],
    ["a:1,b:2,c:3/x/y", ["a:1", "b:2", "c:3"], "/x/y"],
    ["a:1, b:2 /x", ["a:1", "b:2"], "/x"],
    ["[::1]:5", ["[::1]:5"], ""],
    ["[fe80::1%eth0],10.0.0.1:7/", ["[fe80::1%eth0]:2181", "10.0.0.1:7"], ""],
  ])("%s", (text, servers, chroot) => {
    const parsed = parseConnectString(text);
    expect(parsed.servers.map(formatAddress)).toEqual(servers);
    expect(parsed.chroot).toBe(chroot);
  });

  test.each([
    "",
    ",",
    "a:1,",
    "a:b",
    "a:0",
    "a:65536",
    "::1:2181",
    "a:1//x",
    "a:1/x/",
    "a:1/x/../y",
    "a b:1",
    "http://a:1",
  ])("%j is refused with what is wrong", (text) => {
    expect(() => parseConnectString(text)).toThrow(
      expect.objectContaining({ code: "STORE_CONNECT_STRING", remedy: "operator" }),
    );
  });

  test("paths of nodes are absolute, without empty parts, dots and control characters", () => {
    expect(["/a", "/a/b", "/a.b", "/…/ä", "/a b"].filter((path) => !isNodePath(path))).toEqual([]);
    expect(["", "/", "a", "/a/", "//", "/.", "/a/..", "/a\n", "/\u0000"].filter(isNodePath)).toEqual([]);
  });

  test("a chroot is put before the caller's paths, and taken off the store's", () => {
    for (const path of ["/", "/a", "/a/b"]) {
      expect(toCallersPath("/x", toStorePath("/x", path))).toBe(path);
      expect(toCallersPath("", toStorePath("", path))).toBe(path);
    }
    expect(toStorePath("/x", "/")).toBe("/x");
    expect(() => toStorePath("/x", "a")).toThrow(TypeError);
  });
});

describe("credentials", () => {
  const random: Random = { hex: () => "", number: () => 0 };

  test("nodes are open to all without a user, and the user's alone with one", () => {
    expect(credentialsOf({ digest: undefined, saslDigest: undefined, random }).acl).toEqual([
      { permissions: 31, scheme: "world", id: "anyone" },
    ]);
    // The hash is the one that ZooKeeper's documentation gives for super:test, by its DigestAuthenticationProvider.
    expect(credentialsOf({ digest: "super:test", saslDigest: undefined, random }).acl).toEqual([
      { permissions: 31, scheme: "digest", id: "super:D/InIHSb7yEEbrWz8b9l71RjZJU=" },
    ]);
  });

  test("that are malformed are refused, without the password in the message", () => {
    for (const digest of ["secret", ":secret"])
      expect(() => credentialsOf({ digest, saslDigest: undefined, random })).toThrow(
        expect.objectContaining({ code: "STORE_CREDENTIALS", message: expect.not.stringContaining("secret") }),
      );
  });
});

describe("the order of attempts", () => {
  const servers = [1, 2, 3].map((port) => ({ host: "h", port }));
  const itinerary = (): Itinerary => new Itinerary(servers, { hex: () => "", number: () => 0.5 });

  test("all servers have their turn, within the session's time and without a pause", () => {
    const order = itinerary();
    const tried = servers.map((_, i) => {
      if (i > 0) expect(order.delayMs(i * 1000, 4000)).toBe(0);
      return order.next(i * 1000, 4000);
    });
    expect(new Set(tried.map(({ server }) => server.port))).toEqual(new Set([1, 2, 3]));
    expect(tried.reduce((sum, { handshakeLimitMs }) => sum + handshakeLimitMs, 0)).toBeLessThanOrEqual(4000);
  });

  test("pauses between rounds grow up to an eighth of the session; a slow server gets more time, up to 3 s", () => {
    const order = itinerary();
    const pauses: number[] = [];
    let limit = 0;
    for (let round = 0; round < 8; round++) {
      for (let i = 0; i < servers.length; i++) limit = order.next(0, 4000).handshakeLimitMs;
      pauses.push(order.delayMs(10_000, 4000));
    }
    expect(pauses[0]).toBeLessThan(100);
    expect(pauses.toSorted((a, b) => a - b)).toEqual(pauses);
    expect(pauses.at(-1)).toBe(500 * 0.75);
    expect(limit).toBe(3000);
  });

  test("after an arrival the next server is tried at once, but not more often than the spacing allows", () => {
    const order = itinerary();
    const first = order.next(0, 4000).server;
    order.arrived();
    expect(order.delayMs(5, 4000)).toBe(10);
    expect(order.delayMs(500, 4000)).toBe(0);
    expect(order.next(500, 4000).server).not.toBe(first);
  });
});
