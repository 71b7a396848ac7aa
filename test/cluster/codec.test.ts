import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { lsn } from "../../src/base/lsn.ts";
import {
  decodeAnnouncement,
  decodeElectionEntry,
  encodeAnnouncement,
  isSameAnnouncement,
} from "../../src/cluster/announcement.ts";
import { decodeState, encodeState, isOriginals, writerOf } from "../../src/cluster/codec.ts";
import type { Announcement } from "../../src/cluster/observation.ts";
import type { PeerEntry, ShardState } from "../../src/cluster/state.ts";

const peerJson = (n: number) => ({
  id: `10.0.0.${n}:5432:12345`,
  ip: `10.0.0.${n}`,
  pgUrl: `tcp://postgres@10.0.0.${n}:5432/postgres`,
  backupUrl: `http://10.0.0.${n}:12345`,
  zoneId: `zone-${n}`,
});

const original = {
  generation: 3,
  primary: peerJson(1),
  sync: peerJson(2),
  async: [peerJson(3)],
  deposed: [],
  initWal: "0/174D4F8",
};

const ours = {
  ...original,
  primary: { ...peerJson(1), incarnation: "a1" },
  initTimeline: 2,
  provisional: false,
  timeline: 2,
  highestTimeline: 4,
  systemIdentifier: "7300000000000000001",
  rule: "S1",
  reason: "the sync is gone",
  written: { by: "10.0.0.1:5432:12345", version: 7 },
  requires: ["incarnations"],
};

const read = (document: unknown): ShardState => {
  const decoded = decodeState(JSON.stringify(document));
  if (decoded.kind !== "state") throw new Error(`unreadable: ${decoded.code} ${decoded.message}`);
  return decoded.state;
};
const codeOf = (text: string) => {
  const decoded = decodeState(text);
  return decoded.kind === "unreadable" ? decoded.code : "readable";
};
const codeWith = (changes: Record<string, unknown>, base: object = ours) =>
  codeOf(JSON.stringify({ ...base, ...changes }));

describe("the state document", () => {
  test("of the original is read, and stays the original's when written back", () => {
    const state = read(original);
    expect(isOriginals(state)).toBe(true);
    expect(state.primary.incarnation).toBeUndefined();
    expect([state.initTimeline, state.timeline, state.highestTimeline]).toEqual([1, 1, 1]);
    expect(JSON.parse(encodeState(state))).toEqual(original);
  });

  test("of ours is read, and written back the same", () => {
    const state = read(ours);
    expect(isOriginals(state)).toBe(false);
    expect(state.initWal).toBe(0x174d4f8n);
    expect(JSON.parse(encodeState(state))).toEqual(ours);
  });

  test("keeps fields that this version doesn't know, on top and in each peer, also one called __proto__", () => {
    const text = JSON.stringify({ ...ours, future: { a: [1, null] } })
      .replace('"zoneId":"zone-1"', '"zoneId":"zone-1","rack":"b7"')
      .replace("{", '{"__proto__":{"polluted":1},');
    const decoded = decodeState(text);
    if (decoded.kind !== "state") throw new Error(decoded.message);
    expect(decoded.state.primary.extra).toEqual({ rack: "b7" });
    const again = encodeState(decoded.state);
    expect(again).toContain('"__proto__":{"polluted":1}');
    expect(JSON.parse(again)).toEqual(JSON.parse(text));
    expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined();
  });

  test("that is no such document is a typed error, with a way out (I6)", () => {
    for (const text of ["", "{", "null", "[]", "7", '"x"', "{}"]) expect(codeOf(text)).toBe("STATE_MALFORMED");
    const changes: Record<string, unknown>[] = [
      { generation: "3" },
      { generation: -1 },
      { generation: 1.5 },
      { generation: 2 ** 60 },
      { primary: null },
      { primary: { ...peerJson(1), ip: 7 } },
      { primary: { ...peerJson(1), id: "nobody" } },
      { sync: undefined },
      { sync: peerJson(1) },
      { async: null },
      { async: [peerJson(3), 3] },
      { deposed: [peerJson(3)] },
      { initWal: "x" },
      { initWal: undefined },
      { freeze: 5 },
      { freeze: { reason: 5 } },
      { oneNodeWriteMode: "yes" },
      { timeline: 0 },
      { timeline: undefined },
      { highestTimeline: 2 ** 31 },
      { provisional: 1 },
      { systemIdentifier: 7.3e18 },
      { written: true },
      { written: { by: "x" } },
      { requires: "incarnations" },
      { requires: [1] },
      { rule: 1 },
    ];
    for (const change of changes) expect([change, codeWith(change)]).toEqual([change, "STATE_MALFORMED"]);
    const decoded = decodeState("{");
    expect(decoded.kind === "unreadable" && decoded.hint).toContain("manatee-adm state restore");
  });

  test("that is nested too deep to be written again is refused instead of overflowing the stack", () => {
    expect(codeOf(`{"a":${"[".repeat(200_000)}${"]".repeat(200_000)}}`)).toBe("STATE_MALFORMED");
  });

  test("that requires an unknown feature is not acted on, whatever else it has become", () => {
    expect(codeWith({ requires: ["incarnations", "quorum"], sync: 7 })).toBe("STATE_UNKNOWN_FEATURE");
    expect(codeWith({ requires: ["toString"] })).toBe("STATE_UNKNOWN_FEATURE");
  });

  test("that lost its `requires` but has other fields of ours is refused", () => {
    expect(codeWith({ requires: undefined })).toBe("STATE_REQUIRES_LOST");
    expect(codeWith({ requires: null })).toBe("STATE_REQUIRES_LOST");
    expect(codeWith({ written: ours.written }, original)).toBe("STATE_REQUIRES_LOST");
    expect(codeWith({ async: [{ ...peerJson(3), incarnation: "c" }] }, original)).toBe("STATE_REQUIRES_LOST");
  });

  test("is frozen by true and by a date with a reason; absent, null and false are not frozen (F1)", () => {
    const date = { date: "2026-01-01T00:00:00.000Z", reason: "maintenance" };
    expect(read({ ...ours, freeze: true }).freeze).toEqual({ date: undefined, reason: undefined });
    expect(read({ ...ours, freeze: date }).freeze).toEqual(date);
    for (const freeze of [undefined, null, false]) expect(read({ ...ours, freeze }).freeze).toBeUndefined();
    expect(JSON.parse(encodeState(read({ ...ours, freeze: true })))).toMatchObject({ freeze: true });
  });

  test("with a malformed promote is readable: the request is kept apart, unchanged (T3)", () => {
    const request = {
      id: peerJson(3).id,
      role: "async",
      asyncIndex: 0,
      generation: 3,
      expireTime: "2026-01-01T00:00:30.000Z",
    };
    expect(read({ ...ours, promote: request }).promote).toEqual(request);
    expect(JSON.parse(encodeState(read({ ...ours, promote: request })))).toMatchObject({ promote: request });
    for (const bad of [
      true,
      "x",
      [],
      {},
      { ...request, asyncIndex: undefined },
      { ...request, role: "primary" },
      { ...request, expireTime: "soon" },
      { ...request, generation: "3" },
    ]) {
      const state = read({ ...ours, promote: bad });
      expect(state.promote).toBeUndefined();
      expect(JSON.parse(state.malformedPromote as string)).toEqual(JSON.parse(JSON.stringify(bad)));
      expect(JSON.parse(encodeState(state)).promote).toEqual(JSON.parse(JSON.stringify(bad)));
    }
    for (const none of [null, false]) expect(read({ ...ours, promote: none }).malformedPromote).toBeUndefined();
  });

  test("tells its writer only while `written` names the node's version", () => {
    expect(writerOf(read(ours), 7)).toEqual({ by: "10.0.0.1:5432:12345", foreign: false });
    expect(writerOf(read(ours), 8).foreign).toBe(true);
    expect(writerOf(read(original), 1).foreign).toBe(true);
  });

  test("never throws on any text, nor on any JSON", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        expect(["state", "unreadable"]).toContain(decodeState(text).kind);
      }),
    );
  });

  test("never throws where one field is anything", () => {
    fc.assert(
      fc.property(fc.constantFrom(...Object.keys(ours), "freeze", "promote"), fc.jsonValue(), (field, value) => {
        const decoded = decodeState(JSON.stringify({ ...ours, [field]: value }));
        if (decoded.kind === "state") {
          const again = decodeState(encodeState(decoded.state));
          expect(again).toEqual(decoded);
        }
      }),
    );
  });

  test("survives a round trip, any state", () => {
    fc.assert(
      fc.property(states, (state) => {
        const decoded = decodeState(encodeState(state));
        expect(decoded).toEqual({ kind: "state", state: JSON.parse(JSON.stringify(state, big), unbig) });
      }),
    );
  });
});

describe("an election node", () => {
  const announcement: Announcement = {
    incarnation: "a1",
    data: "marked",
    systemIdentifier: "7300000000000000001",
    features: ["incarnations"],
    phase: "primary",
    serving: { generation: 3, lineage: { past: [{ timeline: 1, end: lsn(0x3000060n) }], timeline: 2 } },
    handover: { generation: 3, checkpoint: lsn(0x40000a0n) },
    abdicates: 3,
    callsFor: peerJson(3).id,
    standing: { past: [{ timeline: 1, end: lsn(0x3000060n) }], timeline: 2, end: lsn(0x5000000n) },
  };
  const bare: Announcement = {
    incarnation: undefined,
    data: "none",
    systemIdentifier: undefined,
    features: [],
    phase: "idle",
    serving: undefined,
    handover: undefined,
    abdicates: undefined,
    callsFor: undefined,
    standing: undefined,
  };
  const name = `${peerJson(1).id}-0000000007`;

  test("carries what the original's clients read, and ours beside it", () => {
    const text = encodeAnnouncement(peerJson(1), announcement);
    const { id: _, ...address } = peerJson(1);
    expect(JSON.parse(text)).toMatchObject(address);
    expect(decodeElectionEntry({ name, text })).toEqual({ peer: peerJson(1), sequence: 7, announcement });
  });

  test("of a peer without data says so, and is told from one of an original sitter", () => {
    const text = encodeAnnouncement(peerJson(1), bare);
    expect(decodeElectionEntry({ name, text })?.announcement).toEqual(bare);
    const { id: _, ...address } = peerJson(1);
    expect(decodeElectionEntry({ name, text: JSON.stringify(address) })).toEqual({
      peer: peerJson(1),
      sequence: 7,
      announcement: undefined,
    });
  });

  test("with data that can't be read is a present peer without an announcement", () => {
    for (const text of ["", "{", "[]", "null", '{"zoneId":7}', '{"incarnation":"x"}']) {
      const entry = decodeElectionEntry({ name, text });
      expect(entry?.peer.id).toBe(peerJson(1).id);
      expect(entry?.announcement).toBeUndefined();
    }
  });

  test("with any field replaced by anything never throws", () => {
    const whole = JSON.parse(encodeAnnouncement(peerJson(1), announcement)) as object;
    fc.assert(
      fc.property(fc.constantFrom(...Object.keys(whole)), fc.jsonValue(), (field, value) => {
        const decoded = decodeAnnouncement({ ...whole, [field]: value });
        if (decoded) expect(decodeAnnouncement(JSON.parse(encodeAnnouncement(peerJson(1), decoded)))).toEqual(decoded);
      }),
    );
    expect(decodeAnnouncement({ ...whole, serving: { generation: 3, lineage: "2,1" } })).toBeUndefined();
    expect(decodeAnnouncement({ ...whole, handover: { generation: 3, checkpoint: "x" } })).toBeUndefined();
    expect(decodeAnnouncement({ ...whole, standing: { lineage: "1", end: 5 } })).toBeUndefined();
    expect(decodeAnnouncement({ ...whole, callsFor: "somebody" })).toBeUndefined();
    expect(decodeAnnouncement({ ...whole, phase: "dancing" })).toBeUndefined();
  });

  test("that is no peer's is left out", () => {
    for (const other of [
      "x",
      "lock-0000000001",
      `${peerJson(1).id}-1`,
      `${peerJson(1).id}`,
      "10.0.0.1:5432-0000000001",
    ])
      expect(decodeElectionEntry({ name: other, text: "{}" })).toBeUndefined();
  });

  test("is the same only where all of it is", () => {
    expect(isSameAnnouncement(announcement, { ...announcement })).toBe(true);
    expect(isSameAnnouncement(announcement, { ...announcement, abdicates: 4 })).toBe(false);
    expect(isSameAnnouncement(announcement, { ...announcement, incarnation: undefined })).toBe(false);
  });
});

// --- any state

const big = (_: string, value: unknown) => (typeof value === "bigint" ? `${value}n` : value);
const unbig = (key: string, value: unknown) => (key === "initWal" ? BigInt((value as string).slice(0, -1)) : value);

const optional = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
const text = fc.string({ minLength: 1, maxLength: 20 });
/** As it comes out of JSON: without -0, which JSON doesn't know. */
const extra = fc
  .dictionary(
    text.map((key) => `x${key}`),
    fc.jsonValue({ maxDepth: 2 }),
    { maxKeys: 3 },
  )
  .map((object) => JSON.parse(JSON.stringify(object)) as Record<string, unknown>);
const timeline = fc.integer({ min: 1, max: 0x7fff_ffff });

function peers(from: number): fc.Arbitrary<PeerEntry> {
  return fc.record({
    id: fc.constant(peerJson(from).id),
    ip: text,
    pgUrl: text,
    backupUrl: text,
    zoneId: text,
    incarnation: optional(text),
    extra,
  });
}

const states: fc.Arbitrary<ShardState> = fc.record({
  generation: fc.nat(),
  primary: peers(1),
  sync: fc.option(peers(2)),
  async: fc.oneof(fc.constant([]), fc.tuple(peers(3)), fc.tuple(peers(3), peers(4))),
  deposed: fc.oneof(fc.constant([]), fc.tuple(peers(5))),
  initWal: fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn }).map(lsn),
  initTimeline: timeline,
  provisional: fc.boolean(),
  timeline,
  highestTimeline: timeline,
  systemIdentifier: optional(fc.constant("7300000000000000001")),
  freeze: optional(fc.record({ date: optional(text), reason: optional(text) })),
  promote: optional(
    fc.record({
      id: text,
      role: fc.constant("async" as const),
      asyncIndex: fc.nat(),
      generation: fc.nat(),
      expireTime: fc.constant("2026-01-01T00:00:30.000Z"),
    }),
  ),
  malformedPromote: fc.constant(undefined),
  oneNodeWriteMode: fc.boolean(),
  rule: text,
  reason: text,
  written: optional(fc.record({ by: text, version: fc.nat() })),
  requires: fc.constant(["incarnations"]),
  extra,
});
