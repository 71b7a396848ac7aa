// The codec: what is written reads back, and no bytes whatever make the reader do anything but read or refuse.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { framed, frameSplitter } from "../../../src/coordination/zookeeper/frames.ts";
import { JuteReader, JuteWriter, MalformedRecord } from "../../../src/coordination/zookeeper/jute.ts";
import {
  readAnswerHeader,
  readChildren,
  readConnectAnswer,
  readMultiResults,
  readNodeEvent,
  readStat,
  writeConnectRequest,
  writeMulti,
  writeSetWatches,
  type MultiOperation,
} from "../../../src/coordination/zookeeper/messages.ts";
import { readTicket, writeTicket } from "../../../src/coordination/zookeeper/ticket.ts";
import { readOutcome } from "../../../src/coordination/zookeeper/write.ts";

const int32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });

function read<T>(source: Uint8Array, how: (from: JuteReader) => T): T | "malformed" {
  try {
    return how(new JuteReader(source));
  } catch (error) {
    if (error instanceof MalformedRecord) return "malformed";
    throw error;
  }
}

describe("values", () => {
  test("read back as they were written, to the last byte", () => {
    fc.assert(
      fc.property(
        int32,
        int64,
        fc.boolean(),
        fc.uint8Array({ maxLength: 2000 }),
        fc.string({ unit: "grapheme" }),
        fc.array(fc.string({ unit: "grapheme" })),
        (int, long, bool, buffer, string, strings) => {
          const to = new JuteWriter();
          to.int(int)
            .long(long)
            .bool(bool)
            .bytesField(buffer)
            .string(string)
            .vector(strings, (s) => to.string(s));
          const from = new JuteReader(to.bytes());
          expect(to.size).toBe(to.bytes().length);
          expect([from.int(), from.long(), from.bool(), from.bytesField(), from.string()]).toEqual([
            int,
            long,
            bool,
            buffer,
            string,
          ]);
          expect(from.vector(4, () => from.string())).toEqual(strings);
          expect(from.remaining).toBe(0);
        },
      ),
    );
  });

  test("cut short anywhere are malformed", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 50 }), fc.nat(), (buffer, nat) => {
        const to = new JuteWriter();
        to.bytesField(buffer);
        const short = to.bytes().slice(0, nat % to.size);
        expect(read(short, (from) => from.bytesField())).toBe("malformed");
      }),
    );
  });

  test("a length or a count larger than what is there is refused before anything is allocated", () => {
    const huge = Uint8Array.from([0x7f, 0xff, 0xff, 0xff]);
    expect(read(huge, (from) => from.bytesField())).toBe("malformed");
    expect(read(huge, (from) => from.string())).toBe("malformed");
    expect(read(huge, (from) => from.vector(4, () => from.int()))).toBe("malformed");
    const negative = Uint8Array.from([0xff, 0xff, 0xff, 0xfe]);
    expect(read(negative, (from) => from.bytesField())).toBe("malformed");
    expect(read(negative, (from) => from.vector(4, () => from.int()))).toBe("malformed");
  });

  test("null buffers and vectors read as empty ones", () => {
    const none = Uint8Array.from([0xff, 0xff, 0xff, 0xff]);
    expect(read(none, (from) => from.bytesField())).toEqual(new Uint8Array());
    expect(read(none, (from) => from.vector(4, () => from.int()))).toEqual([]);
  });

  test("a string that is not UTF-8 is malformed", () => {
    expect(read(Uint8Array.from([0, 0, 0, 2, 0xc3, 0x28]), (from) => from.string())).toBe("malformed");
  });

  test("a value doesn't keep the frame it came in", () => {
    const to = new JuteWriter();
    to.bytesField(Uint8Array.from([1, 2, 3]));
    const value = new JuteReader(to.bytes()).bytesField();
    expect(value.buffer.byteLength).toBe(3);
  });
});

describe("any bytes whatever", () => {
  const readers: Record<string, (from: JuteReader) => unknown> = {
    readAnswerHeader,
    readChildren,
    readConnectAnswer,
    readNodeEvent,
    readStat,
    readMultiResults: (from) => readMultiResults(from, 3),
    readOutcome: (from) =>
      readOutcome(from, {
        transaction: [{ kind: "check", path: "/a", version: 0 }],
        toCallersPath: (path) => path,
      }),
  };
  /** Random, but with small numbers in it, which get the readers further than noise does. */
  const plausible = fc
    .array(
      fc.oneof(
        fc.constantFrom([0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 5], [255, 255, 255, 255], [0], [1], [0, 0, 0, 2, 97, 98]),
        fc.uint8Array({ maxLength: 12 }).map((bytes) => [...bytes]),
      ),
      { maxLength: 40 },
    )
    .map((parts) => Uint8Array.from(parts.flat()));

  test.each(Object.keys(readers))("%s reads them or refuses them", (name) => {
    const reader = readers[name];
    if (reader === undefined) throw new Error(name);
    const outcomes = { read: 0, malformed: 0 };
    fc.assert(
      fc.property(fc.oneof(plausible, fc.uint8Array({ maxLength: 200 })), (source) => {
        outcomes[read(source, reader) === "malformed" ? "malformed" : "read"]++;
      }),
      { numRuns: 3000 },
    );
    expect(outcomes.malformed).toBeGreaterThan(0);
  });
});

describe("transactions", () => {
  const operations: MultiOperation[] = [
    { kind: "check", path: "/a", version: 0 },
    {
      kind: "create",
      path: "/b",
      data: Uint8Array.from([1]),
      acl: [{ permissions: 31, scheme: "world", id: "anyone" }],
      ephemeral: true,
      sequential: true,
    },
    { kind: "set", path: "/c", data: Uint8Array.from([2]), version: 0 },
    { kind: "delete", path: "/d", version: -1 },
  ];

  test("write a version 0 as 0, and the flags of a node to be made", () => {
    const to = new JuteWriter();
    writeMulti(to, operations);
    const from = new JuteReader(to.bytes());
    const header = () => [from.int(), from.bool(), from.int()];
    expect([header(), from.string(), from.int()]).toEqual([[13, false, -1], "/a", 0]);
    expect([header(), from.string(), from.bytesField()]).toEqual([[1, false, -1], "/b", Uint8Array.from([1])]);
    expect(from.vector(4, () => [from.int(), from.string(), from.string()])).toEqual([[31, "world", "anyone"]]);
    expect(from.int()).toBe(3);
    expect([header(), from.string(), from.bytesField(), from.int()]).toEqual([
      [5, false, -1],
      "/c",
      Uint8Array.from([2]),
      0,
    ]);
    expect([header(), from.string(), from.int()]).toEqual([[2, false, -1], "/d", -1]);
    expect([header(), from.remaining]).toEqual([[-1, true, -1], 0]);
  });

  const refusedAt = (codes: readonly number[]): Uint8Array => {
    const to = new JuteWriter();
    for (const code of codes) to.int(-1).bool(false).int(code).int(code);
    to.int(-1).bool(true).int(-1);
    return to.bytes();
  };
  const outcome = (codes: readonly number[]) =>
    readOutcome(new JuteReader(refusedAt(codes)), { transaction: operations, toCallersPath: (path) => path });

  test("name the operation that was refused, not its neighbours", () => {
    expect(outcome([0, -110, -2, -2])).toEqual({ kind: "no", operation: 1, refusal: "node-exists" });
    expect(outcome([-103, -2, -2, -2])).toEqual({ kind: "no", operation: 0, refusal: "bad-version" });
    expect(outcome([0, -101, -2, -2])).toEqual({ kind: "no", operation: 1, refusal: "no-parent" });
    expect(outcome([0, 0, 0, -101])).toEqual({ kind: "no", operation: 3, refusal: "no-node" });
  });

  test("an error that says nothing about what happened leaves the outcome unknown", () => {
    expect(outcome([0, -1, -2, -2]).kind).toBe("unknown");
    expect(outcome([0, 0, 0, 0]).kind).toBe("unknown");
  });

  test("another number of results than of operations is malformed", () => {
    for (const codes of [[], [0], [0, 0, -101], [0, 0, 0, -101, -2]])
      expect(() => outcome(codes)).toThrow(MalformedRecord);
  });
});

describe("records", () => {
  test("the handshake carries the session's number and password as they are", () => {
    fc.assert(
      fc.property(int64, int64, int32, fc.uint8Array({ maxLength: 16 }), (lastZxid, sessionId, timeoutMs, password) => {
        const to = new JuteWriter();
        writeConnectRequest(to, { lastZxid, sessionId, timeoutMs, password });
        const from = new JuteReader(to.bytes());
        expect([from.int(), from.long(), from.int(), from.long(), from.bytesField(), from.bool()]).toEqual([
          0,
          lastZxid,
          timeoutMs,
          sessionId,
          password,
          false,
        ]);
        expect(from.remaining).toBe(0);
      }),
    );
  });

  test("watches are set in three lists", () => {
    const to = new JuteWriter();
    writeSetWatches(to, 7n, { data: ["/a"], exists: [], children: ["/b", "/c"] });
    const from = new JuteReader(to.bytes());
    expect([from.long(), readChildren(from), readChildren(from), readChildren(from)]).toEqual([
      7n,
      ["/a"],
      [],
      ["/b", "/c"],
    ]);
  });

  test("a ticket gives back the session's number and password, negative numbers included", () => {
    fc.assert(
      fc.property(
        int64.filter((id) => id !== 0n),
        fc.uint8Array({ minLength: 16, maxLength: 16 }),
        (sessionId, password) => {
          expect(readTicket(writeTicket({ sessionId, password }))).toEqual({ sessionId, password });
        },
      ),
    );
  });

  test("what is no ticket is none", () => {
    const secret = "00".repeat(16);
    for (const sessionId of ["", "0x", "0x0", "12", "0xg", `0x${"1".repeat(17)}`])
      expect(readTicket({ sessionId, secret })).toBeUndefined();
    for (const secret of ["", "0", "zz", "00".repeat(65)])
      expect(readTicket({ sessionId: "0x1", secret })).toBeUndefined();
  });
});

describe("frames", () => {
  test("come out whole and in order, however the stream was cut", () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 12 }),
        fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 10 }),
        (messages, cuts) => {
          const stream = Uint8Array.from(messages.flatMap((message) => [...framed(message)]));
          const splitter = frameSplitter(40);
          const out: Uint8Array[] = [];
          let at = 0;
          for (let i = 0; at < stream.length; i++) {
            const size = cuts[i % cuts.length] ?? 1;
            out.push(...splitter.push(stream.subarray(at, at + size)).map((frame) => frame.slice()));
            at += size;
          }
          expect(out).toEqual(messages);
        },
      ),
    );
  });

  test("of a length below 0 or above the limit are refused when only their length is there", () => {
    expect(() => frameSplitter(10).push(Uint8Array.from([0, 0, 0, 11]))).toThrow(MalformedRecord);
    expect(() => frameSplitter(10).push(Uint8Array.from([255, 255, 255, 255]))).toThrow(MalformedRecord);
    const raised = frameSplitter(10);
    raised.limitTo(11);
    expect(raised.push(framed(new Uint8Array(11)))).toHaveLength(1);
  });
});
