// Operators' tags: in an announcement, and where one of several allowed peers is chosen.

import { describe, expect, it } from "vitest";
import { lsn } from "../../src/base/lsn.ts";
import { decodeAnnouncement, encodeAnnouncement } from "../../src/cluster/announcement.ts";
import { NEW_MEMORY } from "../../src/cluster/decision.ts";
import type { HealthFacts } from "../../src/cluster/health-facts.ts";
import { judgeHealth } from "../../src/cluster/health.ts";
import type { Observation, StandbyServer, Walsender } from "../../src/cluster/observation.ts";
import { findHeir } from "../../src/cluster/rules/takeover.ts";
import { compareAsFounder, compareAsSync, formatTags, NO_TAGS, type Tags } from "../../src/cluster/tags.ts";
import { peerAddress, peerEntry, shardState, standbyAnnouncement } from "../support/shard-state.ts";

const END = 0x5000_0000n;

const tags = (change: Partial<Tags>): Tags => ({ ...NO_TAGS, ...change });

describe("tags in an election node", () => {
  const encoded = (given: Tags | undefined) =>
    JSON.parse(encodeAnnouncement(peerAddress(1), standbyAnnouncement({ tags: given }))) as Record<string, unknown>;

  it("come back as they were announced", () => {
    const given = { nofailover: true, nosync: true, priority: -3, zone: "east" };
    expect(decodeAnnouncement(encoded(given))?.tags).toEqual(given);
  });

  it("are nothing new where there are none, as with older sitters", () => {
    expect(Object.keys(encoded(undefined))).not.toContain("tags");
    expect(decodeAnnouncement(encoded(undefined))).toMatchObject({ phase: "following", tags: undefined });
  });

  it("keep nobody out of the chain where they can't be read, or know more than this version", () => {
    const read = (given: unknown) => decodeAnnouncement({ ...encoded(undefined), tags: given });
    expect(read("nosync")).toMatchObject({ phase: "following", tags: undefined });
    expect(read({ nosync: true, priority: "high", zone: 3, colour: "red" })?.tags).toEqual(tags({ nosync: true }));
  });
});

describe("the order among peers that are allowed (K1)", () => {
  it("of a sync: last resorts last, then another zone, then priority, then the list", () => {
    const list = [
      tags({ nosync: true, priority: 9, zone: "west" }),
      tags({ zone: "east", priority: 9 }),
      tags({ zone: "west" }),
      tags({ nofailover: true }),
      tags({ zone: "west", priority: 1 }),
      NO_TAGS,
    ];
    const order = [...list].sort(compareAsSync(tags({ zone: "east" })));
    expect(order.map((each) => list.indexOf(each))).toEqual([4, 2, 5, 1, 0, 3]);
  });

  it("of a founder: who may take over, then priority", () => {
    const list = [tags({ nofailover: true, priority: 9 }), NO_TAGS, tags({ priority: 1, nosync: true })];
    expect([...list].sort(compareAsFounder).map((each) => list.indexOf(each))).toEqual([2, 1, 0]);
  });

  it("is told in words", () => {
    expect(formatTags(tags({ nofailover: true, priority: 5, zone: "east" }))).toBe("nofailover, priority 5, zone east");
    expect(formatTags()).toBe("");
  });
});

interface Standby {
  readonly n: number;
  readonly tags?: Partial<Tags>;
  readonly walsender?: Partial<Walsender>;
}

/** Peer 1 was primary, 2 is the sync that looks for its heir; these stream from it, listed as asyncs in this order. */
function heirOf(standbys: readonly Standby[]): string | undefined {
  const walsenders = standbys.map(
    ({ n, walsender }): Walsender => ({
      name: peerAddress(n).pgUrl,
      pid: n,
      clientAddress: peerAddress(n).ip,
      state: "streaming",
      sent: lsn(END),
      flush: lsn(END),
      replay: lsn(END),
      silentMs: 0,
      syncPriority: 0,
      ...walsender,
    }),
  );
  const election = standbys.map(({ n, tags: given }, sequence) => ({
    peer: peerAddress(n),
    sequence,
    announcement: standbyAnnouncement({ incarnation: `data-${n}`, tags: given && tags(given) }),
  }));
  const server = { kind: "standby", wal: { past: [], timeline: 1, end: lsn(END) }, walsenders } as unknown;
  return findHeir({
    obs: {
      tags: tags({ zone: "east" }),
      policy: { syncLagBytesMax: 1_000_000, suspectMs: 2_000 },
      store: { election },
      peers: {},
    } as unknown as Observation,
    memory: NEW_MEMORY,
    state: shardState({ async: standbys.map(({ n }) => peerEntry(n)) }),
    version: 1,
    role: "sync",
    me: peerAddress(2).id,
    server: server as StandbyServer,
  })?.id;
}

describe("the heir of a takeover (T1)", () => {
  const third: Standby = { n: 3 };
  const fourth: Standby = { n: 4 };
  const behind = (bytes: bigint): Partial<Walsender> => ({ flush: lsn(END - bytes), replay: lsn(END - bytes) });

  it.each<[string, Standby[], number]>([
    ["is the first of the list where all are alike", [third, fourth], 3],
    ["is not the one that is tagged nosync", [{ ...third, tags: { nosync: true } }, fourth], 4],
    ["is not the one that is tagged nofailover", [{ ...third, tags: { nofailover: true } }, fourth], 4],
    ["is tagged nosync where there is no other", [{ ...third, tags: { nosync: true } }], 3],
    [
      "stands in another zone",
      [
        { ...third, tags: { zone: "east" } },
        { ...fourth, tags: { zone: "west" } },
      ],
      4,
    ],
    ["has the higher priority", [third, { ...fourth, tags: { priority: 1 } }], 4],
    ["has flushed most", [{ ...third, walsender: behind(100n) }, fourth], 4],
    ["is not the one that has not replayed what it holds", [{ ...third, walsender: { replay: lsn(1n) } }, fourth], 4],
    [
      "is tagged rather than far behind",
      [
        { ...third, walsender: behind(2_000_000n) },
        { ...fourth, tags: { nosync: true } },
      ],
      4,
    ],
    [
      "is tagged rather than silent",
      [
        { ...third, walsender: { silentMs: 5_000 } },
        { ...fourth, tags: { nosync: true } },
      ],
      4,
    ],
    [
      "is not tagged rather than a little further",
      [
        { ...third, tags: { nosync: true } },
        { ...fourth, walsender: behind(100n) },
      ],
      4,
    ],
  ])("%s", (_, standbys, expected) => {
    expect(heirOf(standbys)).toBe(peerAddress(expected).id);
  });
});

describe("the verdict on tags", () => {
  function told(given: Readonly<Record<number, Partial<Tags>>>): string[] {
    const state = shardState({ async: [peerEntry(3)] });
    const facts: HealthFacts = {
      view: { kind: "document", state, version: 1, readAt: 0 },
      election: [1, 2, 3].map((n) => ({
        peer: peerAddress(n),
        sequence: n,
        announcement: standbyAnnouncement({ incarnation: `data-${n}`, tags: given[n] && tags(given[n]) }),
      })),
      peers: {},
      wallMs: 0,
      historyEntries: 1,
      evaluationOnly: false,
    };
    return judgeHealth(facts)
      .map(({ severity, message }) => `${severity}: ${message}`)
      .filter((text) => /tagged|in zone/.test(text));
  }

  it("is silent where tags are heeded", () => {
    expect(told({})).toEqual([]);
    expect(told({ 1: { zone: "east" }, 2: { zone: "west" }, 3: { nosync: true, nofailover: true } })).toEqual([]);
  });

  it.each<[string, Record<number, Partial<Tags>>, string[]]>([
    [
      "nobody takes over",
      { 2: { nofailover: true }, 3: { nofailover: true } },
      [
        "warning: every standby is tagged nofailover: if the primary is lost, nobody takes over",
        "note: every standby is tagged nosync or nofailover: a sync is chosen among them all the same",
      ],
    ],
    [
      "the sync does not take over",
      { 2: { nofailover: true } },
      ['warning: peer "zone-2" (sync) is tagged nofailover: if the primary is lost now, nobody takes over'],
    ],
    [
      "the sync is one as a last resort",
      { 2: { nosync: true } },
      ['warning: peer "zone-2" (sync) is tagged nosync, and is sync because no other peer could be'],
    ],
    [
      "all stand in one zone",
      { 1: { zone: "east" }, 2: { zone: "east" }, 3: { zone: "east" } },
      ["note: primary and sync are both in zone east: to lose it is to lose both"],
    ],
    [
      "the sync could stand in another zone",
      { 1: { zone: "east" }, 2: { zone: "east" }, 3: { zone: "west" } },
      ["warning: primary and sync are both in zone east: to lose it is to lose both"],
    ],
  ])("says that %s", (_, given, expected) => {
    expect(told(given)).toEqual(expected);
  });
});
