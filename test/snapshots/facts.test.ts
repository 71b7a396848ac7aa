import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { lsn } from "../../src/base/lsn.ts";
import { decodeFacts, encodeFacts, type SnapshotFacts } from "../../src/snapshots/facts.ts";

const anyFacts: fc.Arbitrary<SnapshotFacts> = fc.record({
  timeline: fc.integer({ min: 1, max: 0x7fff_ffff }),
  lsn: fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn }).map(lsn),
  systemIdentifier: fc.bigInt({ min: 1n, max: 0xffff_ffff_ffff_ffffn }).map(String),
  role: fc.option(fc.constantFrom("primary", "sync", "async"), { nil: undefined }),
  generation: fc.option(fc.nat(1_000_000_000), { nil: undefined }),
  why: fc.constantFrom("on demand", "a change of role", ""),
});

describe("facts of a snapshot", () => {
  it("come back as they were written", () => {
    fc.assert(
      fc.property(anyFacts, (facts) => {
        expect(decodeFacts(encodeFacts(facts))).toEqual(facts);
      }),
    );
  });

  it("are nothing where one that counts is missing or mangled", () => {
    fc.assert(
      fc.property(anyFacts, fc.constantFrom("timeline", "lsn", "system"), (facts, name) => {
        const { [`manatee:${name}`]: _, ...others } = encodeFacts(facts);
        expect(decodeFacts(others)).toBeUndefined();
        const mangled = name === "system" ? "" : "-1/x";
        expect(decodeFacts({ ...others, [`manatee:${name}`]: mangled })).toBeUndefined();
      }),
    );
  });

  it("never throw, whatever stands there", () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.constantFrom("manatee:lsn", "manatee:timeline", "manatee:system"), fc.string()),
        (any) => {
          decodeFacts(any);
        },
      ),
    );
  });
});
