// The checker must find what is wrong: each history here is wrong in one way (or right, and then it must be silent).

import { expect, test } from "vitest";
import { assertHistory, checkHistory, type Evidence, type FinalPeer, type Violation } from "./support/checker.ts";
import type { Answerer, InsertOperation, Operation, ReadOperation } from "./support/history.ts";
import { History, longestGap } from "./support/history.ts";

const SYSTEM = "7300000000000000001";

function server(peer: string, timeline = 1, systemIdentifier = SYSTEM): Answerer {
  return { peer, timeline, systemIdentifier };
}

function insert(id: number, over: Partial<InsertOperation> & { at?: readonly [number, number] } = {}): InsertOperation {
  const [invokedAt, endedAt] = over.at ?? [id * 10, id * 10 + 5];
  const { at: _at, ...rest } = over;
  return {
    kind: "insert",
    client: "c1",
    id,
    invokedAt,
    endedAt,
    outcome: "ok",
    answerer: server("A"),
    error: undefined,
    ...rest,
  };
}

function read(ids: readonly number[], at: readonly [number, number], answerer = server("A")): ReadOperation {
  return {
    kind: "read",
    client: "r1",
    invokedAt: at[0],
    endedAt: at[1],
    outcome: "ok",
    answerer,
    ids,
    error: undefined,
  };
}

function final(peer: string, ids: readonly number[], over: Partial<FinalPeer> = {}): FinalPeer {
  return {
    peer,
    ids,
    role: peer === "A" ? "primary" : "sync",
    timeline: 1,
    systemIdentifier: SYSTEM,
    streaming: true,
    ...over,
  };
}

/** A and B with these rows in the end. */
function evidence(operations: readonly Operation[], ids: readonly number[], over: Partial<Evidence> = {}): Evidence {
  return { operations, finals: [final("A", ids), final("B", ids)], ...over };
}

function kinds(violations: readonly Violation[]): readonly string[] {
  return [...new Set(violations.map(({ kind }) => kind))];
}

test("a shard that keeps its promises gives no violation", () => {
  const operations = [
    insert(1),
    insert(2, { outcome: "unknown", answerer: undefined }),
    insert(3, { outcome: "fail", answerer: undefined, error: "read-only" }),
    insert(4, { outcome: "unknown", answerer: undefined }),
    read([1, 2], [35, 38]),
    insert(5, { at: [100, 110], answerer: server("B", 2) }),
  ];
  const finals = [
    final("B", [1, 2, 5], { role: "primary", timeline: 2 }),
    final("A", [5, 2, 1], { role: "async", timeline: 2 }),
  ];
  const reigns = [
    { generation: 1, primary: "A", timeline: 1 },
    { generation: 2, primary: "B", timeline: 2 },
  ];
  expect(checkHistory({ operations, finals, reigns })).toEqual([]);
});

test("I1: an acknowledged write that no peer has is lost", () => {
  expect(kinds(checkHistory(evidence([insert(1), insert(2)], [1])))).toEqual(["acknowledged-write-lost"]);
});

test("I1: an acknowledged write that one peer lacks is lost there, and the peers differ", () => {
  const finals = [final("A", [1, 2]), final("B", [1])];
  expect(kinds(checkHistory({ operations: [insert(1), insert(2)], finals }))).toEqual([
    "acknowledged-write-lost",
    "peers-differ",
  ]);
});

test("I3: a value that was read and is gone in the end is lost, though its writer never got an answer", () => {
  const operations = [insert(1), insert(2, { outcome: "unknown", answerer: undefined }), read([1, 2], [30, 33])];
  expect(kinds(checkHistory(evidence(operations, [1])))).toEqual(["observed-value-lost"]);
});

test("a write without an answer may be there or not, if nobody has seen it", () => {
  const operations = [
    insert(1),
    insert(2, { outcome: "unknown", answerer: undefined }),
    insert(3, { outcome: "open", endedAt: undefined }),
  ];
  expect(checkHistory(evidence(operations, [1, 2, 3]))).toEqual([]);
  expect(checkHistory(evidence(operations, [1]))).toEqual([]);
});

test("a write that was refused and is there was acknowledged wrongly", () => {
  const operations = [insert(1), insert(2, { outcome: "fail", answerer: undefined, error: "read-only transaction" })];
  expect(kinds(checkHistory(evidence(operations, [1, 2])))).toEqual(["denied-write-present"]);
});

test("a row that nobody wrote, and one that is there twice, are found", () => {
  expect(kinds(checkHistory(evidence([insert(1)], [1, 99])))).toEqual(["row-from-nowhere"]);
  expect(checkHistory(evidence([insert(1)], [1, 99], { knownIds: [99] }))).toEqual([]);
  expect(kinds(checkHistory(evidence([insert(1)], [1, 1])))).toEqual(["row-twice"]);
});

test("a read that misses what was acknowledged before it began, on the same or a later timeline, is stale", () => {
  const stale = [insert(1), insert(2), read([1], [30, 32])];
  expect(kinds(checkHistory(evidence(stale, [1, 2])))).toEqual(["acknowledged-write-not-read"]);
  const concurrent = [insert(1), insert(2), read([1], [24, 32])];
  expect(checkHistory(evidence(concurrent, [1, 2]))).toEqual([]);
});

test("I4: a stale read on an old primary that has not noticed yet is permitted", () => {
  const operations = [insert(1), insert(2, { answerer: server("B", 2) }), read([1], [30, 32], server("A", 1))];
  const finals = [
    final("A", [1, 2], { timeline: 2, role: "async" }),
    final("B", [1, 2], { timeline: 2, role: "primary" }),
  ];
  expect(checkHistory({ operations, finals })).toEqual([]);
});

test("I4: two peers that acknowledge on one timeline are found", () => {
  const operations = [insert(1), insert(2, { answerer: server("B") })];
  expect(kinds(checkHistory(evidence(operations, [1, 2])))).toEqual(["two-acknowledged-on-one-timeline"]);
});

test("I4: an old primary that acknowledges what was asked for after the new one had acknowledged is found", () => {
  const operations = [insert(1), insert(2, { answerer: server("B", 2) }), insert(3)];
  expect(kinds(checkHistory(evidence(operations, [1, 2, 3])))).toEqual(["old-primary-acknowledged"]);
});

test("I4: an acknowledgement of the old primary that was in flight is permitted", () => {
  const operations = [insert(1), insert(2, { answerer: server("B", 2) }), insert(3, { at: [19, 60] })];
  expect(checkHistory(evidence(operations, [1, 2, 3]))).toEqual([]);
});

test("an acknowledgement by a peer that no generation names as primary on that timeline is found", () => {
  const reigns = [
    { generation: 1, primary: "A", timeline: 1 },
    { generation: 2, primary: "B", timeline: 2 },
  ];
  const operations = [insert(1), insert(2, { answerer: server("C", 2) })];
  expect(kinds(checkHistory(evidence(operations, [1, 2], { reigns })))).toEqual(["acknowledged-outside-its-reign"]);
});

test("a generation with two primaries is found", () => {
  const reigns = [
    { generation: 1, primary: "A", timeline: 1 },
    { generation: 1, primary: "B", timeline: 1 },
  ];
  expect(kinds(checkHistory(evidence([insert(1)], [1], { reigns })))).toEqual(["two-primaries-in-one-generation"]);
});

test("peers that differ in timeline, in system identifier or by a row that nobody read are found", () => {
  const differing = [
    final("B", [1], { timeline: 2 }),
    final("B", [1], { systemIdentifier: "7300000000000000002" }),
    final("B", [1, 2]),
  ];
  for (const other of differing) {
    const operations = [insert(1), insert(2, { outcome: "unknown", answerer: undefined })];
    expect(kinds(checkHistory({ operations, finals: [final("A", [1]), other] }))).toEqual(["peers-differ"]);
  }
});

test("a standby that does not stream in the end is found", () => {
  const finals = [final("A", [1]), final("B", [1], { streaming: false })];
  expect(kinds(checkHistory({ operations: [insert(1)], finals }))).toEqual(["peer-not-streaming"]);
});

test("a history in which nothing was acknowledged, or nobody is left to compare with, proves nothing", () => {
  expect(kinds(checkHistory(evidence([], [])))).toEqual(["nothing-was-written"]);
  expect(kinds(checkHistory({ operations: [insert(1)], finals: [] }))).toContain("nothing-was-written");
});

test("assertHistory throws with the kinds, and the first of many", () => {
  const operations = Array.from({ length: 20 }, (_, i) => insert(i + 1));
  expect(() => assertHistory(evidence(operations, [1]))).toThrow(/acknowledged-write-lost \(38\):[^]*and 33 more/);
  expect(() =>
    assertHistory(
      evidence(
        operations,
        operations.map(({ id }) => id),
      ),
    ),
  ).not.toThrow();
});

test("a recorded history has unique ids, and an operation ends once", () => {
  let now = 0;
  const history = new History(() => ++now);
  const first = history.insert("c1");
  const second = history.insert("c2");
  second.ok(server("A"));
  first.unknown("connection lost");
  expect(first.id).not.toBe(second.id);
  expect(() => first.ok(server("A"))).toThrow(/ended twice/);
  history.read("r1").ok(server("A"), [2]);
  expect(history.operations.map(({ outcome }) => outcome)).toEqual(["unknown", "ok", "ok"]);
  expect(history.acknowledged()).toBe(1);
});

test("the longest gap is between two acknowledged inserts of any client", () => {
  const operations = [
    insert(1, { at: [0, 10] }),
    insert(2, { at: [1, 12], client: "c2" }),
    insert(3, { at: [13, 100], outcome: "unknown", answerer: undefined }),
    insert(4, { at: [20, 512], client: "c2" }),
    insert(5, { at: [20, 520] }),
  ];
  expect(longestGap(operations)).toEqual({ lengthMs: 500, from: 12, to: 512 });
  expect(longestGap(operations, { from: 500 })?.lengthMs).toBe(8);
  expect(longestGap([])).toBeUndefined();
});
