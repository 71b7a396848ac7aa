import { describe, expect, it } from "vitest";
import { lsn } from "../../src/base/lsn.ts";
import type { Walsender } from "../../src/cluster/observation.ts";
import { isAhead, walsenderOf } from "../../src/cluster/step.ts";

const peer = {
  id: "10.0.0.2:5432:12345",
  zoneId: "b",
  ip: "10.0.0.2",
  pgUrl: "tcp://postgres@10.0.0.2:5432/postgres",
  backupUrl: "http://10.0.0.2:12345",
};

function walsender(change: Partial<Walsender> = {}): Walsender {
  return {
    name: peer.pgUrl,
    pid: 1,
    clientAddress: peer.ip,
    state: "streaming",
    sent: lsn(100n),
    flush: lsn(100n),
    replay: lsn(90n),
    silentMs: 0,
    syncPriority: 1,
    ...change,
  };
}

describe("a standby that holds more than it was sent (T1, S1, P1)", () => {
  it.each([
    ["has flushed more", { flush: lsn(101n) }],
    ["has replayed more, and flushes along", { replay: lsn(101n) }],
    ["was sent nothing yet", { sent: undefined }],
  ])("counts for nothing where it %s", (_, change) => {
    expect(isAhead(walsender(change))).toBe(true);
    expect(walsenderOf({ walsenders: [walsender(change)] }, peer)).toBeUndefined();
  });

  it("gives way to another connection of the same peer that is not ahead", () => {
    const good = walsender({ pid: 2 });
    expect(walsenderOf({ walsenders: [walsender({ flush: lsn(101n) }), good] }, peer)).toBe(good);
  });

  it.each([
    ["has all that it was sent", {}],
    ["is behind", { flush: lsn(50n), replay: undefined }],
    ["catches up, and reports what it had before", { state: "catchup" as const, flush: lsn(200n) }],
  ])("is none where it %s", (_, change) => {
    expect(isAhead(walsender(change))).toBe(false);
  });
});
