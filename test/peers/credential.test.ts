import { beforeEach, describe, expect, it } from "vitest";
import { CLOCK_SKEW_MAX_MS, type PeerCheck, peerCheck, peerCredential } from "../../src/peers/credential.ts";
import { secretIn } from "../../src/peers/secret-file.ts";
import { realRandom } from "../../src/world/real/clock.ts";
import { realCrypto } from "../../src/world/real/crypto.ts";

const REQUEST = { method: "GET", path: "/snapshots/1/stream?from=0", body: "" };

let wallMs: number;
let check: PeerCheck;
const clockAhead = (aheadMs: number) => ({ now: () => 0, wall: () => wallMs + aheadMs });

beforeEach(() => {
  wallMs = 1_700_000_000_000;
  check = checkWith("secret");
});

function checkWith(secret: string): PeerCheck {
  return peerCheck({ secret: () => Promise.resolve(secret), crypto: realCrypto, clock: clockAhead(0) });
}

function credential({ secret = "secret", aheadMs = 0 } = {}) {
  return peerCredential({
    secret: () => Promise.resolve(secret),
    crypto: realCrypto,
    clock: clockAhead(aheadMs),
    random: realRandom,
  });
}

describe("the shard's password", () => {
  const files = new Map([
    ["/password", "secret\n"],
    ["/empty", "\n"],
  ]);
  const read = (path: string | undefined) =>
    secretIn({ read: (name) => Promise.resolve(files.get(name)), write: unused, remove: unused }, path)();
  const unused = () => Promise.reject(new Error("nothing is written"));

  it("is read from its file, each time", async () => {
    expect(await read("/password")).toBe("secret");
    await expect(read("/later")).rejects.toMatchObject({ code: "PEER_NO_SECRET" });
    files.set("/later", "made at bootstrap");
    expect(await read("/later")).toBe("made at bootstrap");
  });

  it.each([
    ["/nowhere", "there is no replication password in /nowhere"],
    ["/empty", "there is no replication password in /empty"],
    [undefined, "no replication password is configured"],
  ])("is missed where there is none, with the file that should hold it: %s", async (path, message) => {
    await expect(read(path)).rejects.toMatchObject({ code: "PEER_NO_SECRET", message, remedy: "operator" });
  });
});

describe("the credential of a peer", () => {
  it("is taken from who knows the password, and both sides then share a key of this request alone", async () => {
    const first = await credential().sign(REQUEST);
    const second = await credential().sign(REQUEST);
    expect(await check.check(REQUEST, first.authorization)).toEqual(first.answerKey);
    expect(await check.check(REQUEST, second.authorization)).toEqual(second.answerKey);
    expect(second.answerKey).not.toEqual(first.answerKey);
    expect(first.answerKey).toHaveLength(32);
  });

  it("never shows the password", async () => {
    const { authorization } = await credential({ secret: "hunter2hunter2" }).sign(REQUEST);
    expect(authorization).not.toContain("hunter2");
    expect(authorization).not.toContain(Buffer.from("hunter2hunter2").toString("hex"));
  });

  it("is refused where it was made with another password, for another request, or changed", async () => {
    const { authorization } = await credential().sign(REQUEST);
    const refused = { code: "PEER_CREDENTIAL_WRONG" };
    await expect(checkWith("another").check(REQUEST, authorization)).rejects.toMatchObject(refused);
    for (const other of [{ method: "POST" }, { path: "/snapshots/2/stream" }, { body: "x" }])
      await expect(check.check({ ...REQUEST, ...other }, authorization)).rejects.toMatchObject(refused);
    const later = authorization.replace(/time=\d+/, `time=${wallMs + 1}`);
    await expect(check.check(REQUEST, later)).rejects.toMatchObject(refused);
  });

  it.each([undefined, "", "Basic abc", "Manatee-HMAC-SHA256 time=1, nonce=2, proof=3"])(
    "is missed in %j",
    async (given) => {
      await expect(check.check(REQUEST, given)).rejects.toMatchObject({ code: "PEER_CREDENTIAL_MISSING" });
    },
  );

  it("serves once", async () => {
    const { authorization } = await credential().sign(REQUEST);
    await check.check(REQUEST, authorization);
    await expect(check.check(REQUEST, authorization)).rejects.toMatchObject({ code: "PEER_REQUEST_REPEATED" });
    // As long as its time would be accepted, and longer.
    wallMs += CLOCK_SKEW_MAX_MS;
    await expect(check.check(REQUEST, authorization)).rejects.toMatchObject({ code: "PEER_REQUEST_REPEATED" });
    wallMs += 2 * CLOCK_SKEW_MAX_MS;
    await expect(check.check(REQUEST, authorization)).rejects.toMatchObject({ code: "PEER_CLOCK_SKEW" });
  });

  it("serves once also where the clock that signed it is ahead", async () => {
    const { authorization } = await credential({ aheadMs: CLOCK_SKEW_MAX_MS }).sign(REQUEST);
    await check.check(REQUEST, authorization);
    wallMs += 2 * CLOCK_SKEW_MAX_MS;
    await expect(check.check(REQUEST, authorization)).rejects.toMatchObject({ code: "PEER_REQUEST_REPEATED" });
  });

  it("says by how much the clocks differ, to members only", async () => {
    const ahead = await credential({ aheadMs: 312_000 }).sign(REQUEST);
    await expect(check.check(REQUEST, ahead.authorization)).rejects.toMatchObject({
      code: "PEER_CLOCK_SKEW",
      message: "the clock of the peer that asks is 312 s ahead of this one's",
      hint: expect.stringContaining("NTP") as string,
    });
    const behind = await credential({ aheadMs: -312_000 }).sign(REQUEST);
    await expect(check.check(REQUEST, behind.authorization)).rejects.toMatchObject({
      message: "the clock of the peer that asks is 312 s behind this one's",
    });
    const stranger = await credential({ secret: "another", aheadMs: 312_000 }).sign(REQUEST);
    await expect(check.check(REQUEST, stranger.authorization)).rejects.toMatchObject({ code: "PEER_CREDENTIAL_WRONG" });
  });
});
